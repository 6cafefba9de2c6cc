/* Asks the seccomp filter that it runs under what it answers, without making a system call that matters.
 *
 * A filter of its own, added last, hands every call with a magic sixth argument to a listener in this process. A
 * filter that ran before and refuses wins (the strictest answer does); if none does, the listener answers 4000. So
 * each line says ALLOW, an errno, or KILL.
 *
 * Build: gcc -O1 -mno-red-zone -static -o probe probe.c -lpthread. Usage: probe < questions; a question is "ARCH NUMBER ARG0 ARG1",
 * ARCH one of x86_64, x32 (NUMBER has the bit), x86. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC 0x5eccu
#define LET_THROUGH 4000

static int listener = -1;

static void *serve(void *unused) {
    (void)unused;
    for (;;) {
        struct seccomp_notif ask;
        struct seccomp_notif_resp reply;
        memset(&ask, 0, sizeof ask);
        if (listener < 0) { usleep(100); continue; }
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask)) {
            /* Nobody is left to ask: the filter ended the other thread alone. */
            if (errno != EINTR) _exit(0);
            continue;
        }
        memset(&reply, 0, sizeof reply);
        reply.id = ask.id;
        reply.error = -LET_THROUGH;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
    }
    return NULL;
}

static long wide(long nr, unsigned long a, unsigned long b) {
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = MAGIC;
    long ret;
    /* The magic must not stay behind for the next call that has fewer arguments. */
    __asm__ volatile("syscall\n xor %%r9d, %%r9d"
                     : "=a"(ret), "+r"(r9) : "a"(nr), "D"(a), "S"(b), "d"(0L), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return ret;
}

static long narrow(long nr, unsigned int a, unsigned int b) {
    long ret;
    /* The sixth argument of the 32-bit convention is in ebp. */
    __asm__ volatile("push %%rbp\n mov %[magic], %%ebp\n int $0x80\n pop %%rbp"
                     : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(0), "S"(0), "D"(0), [magic] "i"(MAGIC)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)ret;
}

static int install(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAGIC, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

int main(void) {
    char arch[16];
    unsigned long nr, a, b;
    setvbuf(stdout, NULL, _IOLBF, 0);
    static char questions[1 << 22];
    size_t size = fread(questions, 1, sizeof questions - 1, stdin);
    questions[size] = 0;
    char *at = questions;
    while (*at) {
        /* A child answers until it is killed; the next one goes on behind. */
        int pipes[2];
        if (pipe(pipes)) return 1;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            pthread_create(&thread, NULL, serve, NULL);
            int fd = install();
            if (fd < 0) { perror("seccomp"); _exit(2); }
            listener = fd;
            char *line = at;
            while (*line && sscanf(line, "%15s %lu %lu %lu", arch, &nr, &a, &b) == 4) {
                long ret = strcmp(arch, "x86") ? wide(nr, a, b) : narrow(nr, a, b);
                char buffer[64];
                int n = ret == -LET_THROUGH ? snprintf(buffer, 64, "ALLOW\n") : snprintf(buffer, 64, "%ld\n", -ret);
                if (write(pipes[1], buffer, n) < 0) _exit(3);
                line = strchr(line, '\n') + 1;
            }
            _exit(0);
        }
        close(pipes[1]);
        FILE *answers = fdopen(pipes[0], "r");
        char answer[64];
        while (fgets(answer, sizeof answer, answers)) {
            char *end = strchr(at, '\n');
            printf("%.*s %s", (int)(end - at), at, answer);
            at = end + 1;
        }
        fclose(answers);
        int status;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        if (*at) {
            if (WIFEXITED(status) && WEXITSTATUS(status)) return WEXITSTATUS(status);
            char *end = strchr(at, '\n');
            printf("%.*s KILL\n", (int)(end - at), at);
            at = end + 1;
        }
    }
    return 0;
}
