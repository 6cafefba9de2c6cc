//! Launching: streams, exits, identities, errors. Needs root and busybox-static.
#![allow(clippy::unwrap_used)]

mod support;
use std::os::fd::AsFd;
use std::time::Duration;

use droste_runtime::plan::*;
use droste_runtime::{Ending, Reconnected};
use support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code() {
    let place = Place::new();
    let outcome = place.say("echo out; echo err >&2; exit 7").await;
    assert_eq!(outcome.output.stdout, "out\n");
    assert_eq!(outcome.output.stderr, "err\n");
    assert_eq!((outcome.exit.code, outcome.exit.signal), (7, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it() {
    let place = Place::new();
    let (shim, mut attachment) = place
        .attached(
            place.plan(&["sh", "-c", "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.1; done"]),
            vec![],
        )
        .await
        .unwrap();
    expect(&mut attachment, "up").await;
    shim.signal(libc::SIGTERM).unwrap();
    expect(&mut attachment, "got").await;
    assert_eq!(exit(&shim).await.code, 3);
    let shim = place.runtime.launch(place.plan(&["sleep", "100"]), vec![]).await.unwrap();
    shim.signal(libc::SIGKILL).unwrap();
    let exit = exit(&shim).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_inside() {
    let place = Place::new();
    let said = place.say("echo $$ $HOME; hostname; readlink /dev/fd; readlink /dev/ptmx; cat /proc/1/comm; ls /; umask; ls /proc/self/fd").await;
    assert_eq!(
        said.output.stdout,
        "1 /root\nbox\n/proc/self/fd\npts/ptmx\nsh\nbin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\n0022\n0\n1\n2\n3\n",
        "{}",
        said.output.stderr
    );
    let said = place.say("cat /proc/mounts").await;
    let mounts = said.output.stdout;
    assert!(mounts.starts_with("overlay / overlay rw,"), "{mounts}");
    for line in [
        "proc /proc proc rw,nosuid,nodev,noexec,relatime",
        "sysfs /sys sysfs ro,",
        "proc /proc/sys proc ro,",
        "tmpfs /sys/firmware tmpfs ro",
    ] {
        assert!(
            mounts.lines().any(|mount| mount.starts_with(line)
                || mount.starts_with(
                    &line
                        .replacen("sysfs ", "none ", 1)
                        .replacen("proc /", "none /", 1)
                        .replacen("tmpfs /", "none /", 1)
                )),
            "{line} in {mounts}"
        );
    }
    let said = place.say("cat /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic; grep -E '^(Cap|Sig|Seccomp:|NoNew)' /proc/self/status").await;
    assert!(said.output.stdout.starts_with("0\n"));
    assert!(said.output.stderr.contains("Read-only file system"), "{}", said.output.stderr);
    for line in
        ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapInh:\t0000000000000000", "NoNewPrivs:\t0"]
    {
        assert!(said.output.stdout.contains(line), "{line} in {}", said.output.stdout);
    }
    let said = place.run(place.plan(&["grep", "^Sig[BI]", "/proc/self/status"])).await.unwrap();
    assert_eq!(said.output.stdout, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_as_docker_has_them() {
    let place = Place::new();
    for (user, groups, wanted) in [
        ("", vec![], "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("u", vec![], "uid=1000(u) gid=1001(ug) groups=10(wheel),77(extra),1001(ug)"),
        ("5:7", vec![], "uid=5 gid=7 groups=7"),
        ("u:77", vec![], "uid=1000(u) gid=77(extra) groups=77(extra)"),
        ("u", vec!["extra", "99"], "uid=1000(u) gid=1001(ug) groups=10(wheel),77(extra),99,1001(ug)"),
    ] {
        let mut plan = place.plan(&["id"]);
        plan.process.user = user.into();
        plan.process.groups = groups.iter().map(ToString::to_string).collect();
        assert_eq!(place.run(plan).await.unwrap().output.stdout.trim(), wanted);
    }
    let mut plan = place.plan(&[
        "sh",
        "-c",
        "echo $HOME; grep Cap /proc/self/status; echo again > /dev/stdout; id -u > /dev/stderr",
    ]);
    plan.process.user = "u".into();
    let output = place.run(plan).await.unwrap().output;
    assert!(output.stdout.starts_with("/home/u\n") && output.stdout.ends_with("again\n"), "{output:?}");
    assert!(output.stdout.contains("CapEff:\t0000000000000000") && output.stdout.contains("CapBnd:\t00000000a80425fb"));
    assert_eq!(output.stderr, "1000\n");
}

/// The texts are those of Docker 28.5.2 after "error during container init: ".
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_what_docker_says() {
    use FailureKind::*;
    let place = Place::new();
    for (program, kind, message) in [
        ("nope", NotFound, "exec: \"nope\": executable file not found in $PATH"),
        ("", NotFound, "exec: \"\": executable file not found in $PATH"),
        ("/nope", NotFound, "exec: \"/nope\": stat /nope: no such file or directory"),
        ("./nope", NotFound, "exec: \"./nope\": stat ./nope: no such file or directory"),
        ("/etc", NotExecutable, "exec: \"/etc\": is a directory: permission denied"),
        ("/etc/passwd", NotExecutable, "exec: \"/etc/passwd\": permission denied"),
        ("/etc/passwd/x", Other, "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory"),
    ] {
        let failure = place.run(place.plan(&[program])).await.expect_err(program);
        assert_eq!((failure.message.as_str(), failure.kind), (message, kind));
    }
    for (user, group, message) in [
        ("nosuch", None, "unable to find user nosuch: no matching entries in passwd file"),
        ("u:nosuch", None, "unable to find group nosuch: no matching entries in group file"),
        ("", Some("nosuch"), "unable to find group nosuch: no matching entries in group file"),
    ] {
        let mut plan = place.plan(&["id"]);
        plan.process.user = user.into();
        plan.process.groups.extend(group.map(String::from));
        assert_eq!(place.run(plan).await.expect_err(user).message, message);
    }
    let mut plan = place.plan(&["pwd"]);
    plan.process.cwd = "/etc/passwd".into();
    assert_eq!(place.run(plan).await.expect_err("cwd").message, "Cannot mkdir: /etc/passwd is not a directory");
    for (program, words) in [
        ("/etc/badscript", "exec /etc/badscript: no such file or directory\n"),
        ("/etc/noexecfmt", "exec /etc/noexecfmt: exec format error\n"),
    ] {
        let outcome = place.run(place.plan(&[program])).await.expect("counts as started");
        assert_eq!((outcome.output.stderr.as_str(), outcome.exit.code), (words, 255));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_launch_leaves_nothing() {
    let place = Place::new();
    let plan = place.plan(&["nope"]);
    let state = plan.state_dir.clone();
    place.run(plan).await.expect_err("no program");
    assert_eq!(std::fs::read_dir(state).unwrap().count(), 0);
    let mut plan = place.plan(&["true"]);
    plan.mounts.push(Mount::fs("nosuchfs", "/x", &[], MountFlags::NONE));
    let failure = place.run(plan).await.expect_err("no file system");
    assert_eq!((failure.step.as_str(), failure.errno), ("mount nosuchfs on", libc::ENODEV));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_working_directory_is_made() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "pwd; stat -c %a ."]);
    plan.process.cwd = "/new/dir".into();
    assert_eq!(place.run(plan).await.unwrap().output.stdout, "/new/dir\n755\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_and_its_end() {
    let place = Place::new();
    let mut plan = place.plan(&["cat"]);
    plan.stdio.open_stdin = true;
    plan.stdio.stdin_once = true;
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let data = vec![b'x'; 300_000];
    let mut input = attachment.input;
    let sent = data.len();
    let writer = tokio::spawn(async move {
        input.write_all(&data).await.unwrap();
        input.close().await.unwrap();
    });
    let mut got = 0;
    while let Some((_, bytes)) = attachment.output.next().await.unwrap() {
        got += bytes.len();
    }
    writer.await.unwrap();
    assert_eq!(got, sent);
    assert_eq!(exit(&shim).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_stays_open_unless_it_is_to_be_closed_once() {
    let place = Place::new();
    let mut plan = place.plan(&["cat"]);
    plan.stdio.open_stdin = true;
    let (shim, first) = place.attached(plan, vec![]).await.unwrap();
    drop(first);
    let mut second = shim.attach(Streams::ALL).await.unwrap();
    second.input.write_all(b"still here\n").await.unwrap();
    expect(&mut second, "still here").await;
    shim.close_stdin().await.unwrap();
    assert_eq!(exit(&shim).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_input_is_an_empty_one() {
    let place = Place::new();
    assert_eq!(place.say("cat; echo end; readlink /proc/self/fd/0").await.output.stdout, "end\n/dev/null\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attachment_gets_everything_and_a_slow_one_loses_nothing() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "seq 1 200000"]);
    plan.stdio.log = Some(place.log_of(&plan));
    let path = plan.stdio.log.as_ref().unwrap().path.clone();
    let (second, socket) = droste_runtime::Attachment::pair().unwrap();
    plan.stdio.attached.push(AttachPlan { socket: FdIndex(0), streams: Streams::OUTPUT });
    let (shim, mut first) = place.attached(plan, vec![socket]).await.unwrap();
    let mut second = second;
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let fast = tokio::spawn(async move { collect(&mut first).await.stdout });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(collect(&mut second).await.stdout == wanted);
    assert!(fast.await.unwrap() == wanted);
    assert_eq!(exit(&shim).await.code, 0);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "tty; stty size; ls -l /dev/console; read line; stty size; echo $line"]);
    plan.stdio.tty = Some(WindowSize { rows: 24, cols: 80 });
    plan.stdio.open_stdin = true;
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let seen = expect(&mut attachment, "/dev/console").await;
    assert!(seen.contains("/dev/pts/0\r\n24 80\r\n") && seen.contains("136,   0"), "{seen}");
    shim.resize(WindowSize { rows: 50, cols: 132 }).await.unwrap();
    attachment.input.write_all(b"hello\n").await.unwrap();
    let rest = collect(&mut attachment).await.stdout;
    assert!(rest.contains("50 132\r\nhello\r\n"), "{rest}");
    assert_eq!(exit(&shim).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_at_a_terminal() {
    let place = Place::new();
    for init in [false, true] {
        let mut plan = place.plan(&["sh", "-c", "trap 'exit 42' INT; echo up; while :; do sleep 0.1; done"]);
        plan.stdio.tty = Some(WindowSize::default());
        plan.stdio.open_stdin = true;
        plan.init = init;
        let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
        expect(&mut attachment, "up").await;
        attachment.input.write_all(b"\x03").await.unwrap();
        assert_eq!(exit(&shim).await.code, 42, "init: {init}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_init_reaps_and_forwards() {
    let place = Place::new();
    let script =
        "trap 'echo term; exit 9' TERM; (sh -c 'sleep 0.2 &'); sleep 0.6; ps; echo up; while :; do sleep 0.1; done";
    let mut plan = place.plan(&["sh", "-c", script]);
    plan.init = true;
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let seen = expect(&mut attachment, "up").await;
    assert!(seen.contains("1 root     /sbin/docker-init -- sh -c"), "{seen}");
    assert!(!seen.contains("[sleep]") && !seen.contains(" Z "), "a zombie is left: {seen}");
    shim.signal(libc::SIGTERM).unwrap();
    expect(&mut attachment, "term").await;
    assert_eq!(exit(&shim).await.code, 9);
    for (program, text, code) in [
        ("nope", "exec nope failed: No such file or directory", 127),
        ("/etc", "exec /etc failed: Permission denied", 126),
    ] {
        let mut plan = place.plan(&[program]);
        plan.init = true;
        let outcome = place.run(plan).await.unwrap();
        assert!(outcome.output.stderr.contains(text), "{outcome:?}");
        assert_eq!(outcome.exit.code, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_tmpfs_and_flags() {
    let place = Place::new();
    let source = place.path("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "content").unwrap();
    let open = |path: &std::path::Path| {
        use rustix::mount::{OpenTreeFlags, open_tree};
        open_tree(
            rustix::fs::CWD,
            path,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .unwrap()
    };
    let fds = vec![open(&source), open(&source.join("file")), open(&source)];
    let mut plan = place.plan(&["sh", "-c", "cat /a/b/file /etc/hostname; touch /ro/x; touch /a/b/y && echo ok; stat -c %a /t; grep ' /t ' /proc/mounts; touch /root/x; pwd"]);
    plan.mounts.push(Mount::bind(FdIndex(0), "/a/b", MountFlags::NONE));
    plan.mounts.push(Mount::bind(FdIndex(1), "/etc/hostname", MountFlags::NONE));
    plan.mounts.push(Mount::bind(FdIndex(2), "/ro", MountFlags::RDONLY | MountFlags::NOEXEC));
    plan.mounts.push(Mount::fs("tmpfs", "/t", &["size=1m", "mode=1777"], MountFlags::NOSUID));
    plan.readonly_rootfs = true;
    plan.process.cwd = "/a/b".into();
    let (shim, mut attachment) = place.attached(plan, fds).await.unwrap();
    let output = collect(&mut attachment).await;
    assert_eq!(exit(&shim).await.code, 0, "{output:?}");
    assert!(output.stdout.starts_with("contentcontentok\n1777\n"), "{output:?}");
    assert!(
        output.stdout.contains("nosuid") && output.stdout.contains("size=1024k") && output.stdout.ends_with("/a/b\n"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("/ro/x: Read-only file system")
            && output.stderr.contains("/root/x: Read-only file system")
    );
    assert!(source.join("y").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_filters_and_limits() {
    let place = Place::new();
    // Refuses mkdir (83 on x86-64) with EPERM.
    let filter: Vec<u8> =
        [(0x20u16, 0u8, 0u8, 0u32), (0x15, 0, 1, 83), (0x06, 0, 0, 0x0005_0001), (0x06, 0, 0, 0x7fff_0000)]
            .iter()
            .flat_map(|(code, jt, jf, k)| [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()].concat())
            .collect();
    for (no_new_privs, user) in [(false, ""), (true, ""), (false, "u"), (true, "u")] {
        let mut plan = place.plan(&["sh", "-c", "mkdir /tmp/x; grep -E '^(Seccomp|NoNew|CapEff|CapAmb)' /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj"]);
        plan.process.no_new_privs = no_new_privs;
        plan.process.user = user.into();
        plan.process.capabilities = Capabilities::all_of(1 << 10);
        plan.process.seccomp = vec![SeccompProgram { instructions: filter.clone(), flags: 0 }; 2];
        plan.process.rlimits = vec![Rlimit { resource: libc::RLIMIT_NOFILE, soft: 77, hard: 99, best_effort: false }];
        plan.process.oom_score_adj = Some(321);
        let output = place.run(plan).await.unwrap().output;
        assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
        let effective = if user.is_empty() { "CapEff:\t0000000000000400" } else { "CapEff:\t0000000000000000" };
        for line in [effective, "Seccomp:\t2", "Seccomp_filters:\t2", "\n77\n321\n"] {
            assert!(output.stdout.contains(line), "{line} in {}", output.stdout);
        }
        assert!(output.stdout.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privs))));
    }
    let mut plan = place.plan(&["sh", "-c", "grep -E '^Cap(Eff|Amb|Inh)' /proc/self/status"]);
    plan.process.user = "u".into();
    plan.process.capabilities =
        Capabilities { inheritable: 1 << 10, ambient: 1 << 10, keep_for_users: true, ..Capabilities::all_of(1 << 10) };
    let output = place.run(plan).await.unwrap().output.stdout;
    assert_eq!(output.matches("0000000000000400").count(), 3, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_of_its_namespaces() {
    let place = Place::new();
    let mut plan = place.plan(&["cat", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/domainname"]);
    plan.sysctls = vec![("kernel.shm_rmid_forced".into(), "1".into())];
    plan.domainname = Some("nis".into());
    assert_eq!(place.run(plan).await.unwrap().output.stdout, "1\nnis\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_in_anothers_pid_namespace() {
    let place = Place::new();
    let host = place.runtime.launch(place.plan(&["sleep", "100"]), vec![]).await.unwrap();
    let pid_ns = || std::os::fd::OwnedFd::from(std::fs::File::open(format!("/proc/{}/ns/pid", host.pid())).unwrap());
    let mut nested = place.plan(&["sh", "-c", "echo $$; cat /proc/1/comm; sleep 100"]);
    nested.namespaces.pid = PidNamespace::New { parent: Some(FdIndex(0)) };
    let (nested, mut attachment) = place.attached(nested, vec![pid_ns()]).await.unwrap();
    assert!(expect(&mut attachment, "sh\n").await.starts_with("1\n"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", nested.pid())).unwrap();
    let numbers: Vec<_> =
        status.lines().find(|line| line.starts_with("NSpid:")).unwrap().split_whitespace().skip(1).collect();
    assert_eq!(numbers.len(), 3, "machine, host, own: {numbers:?}");
    assert_eq!((numbers[0], numbers[2]), (nested.pid().to_string().as_str(), "1"));
    let mut joined = place.plan(&["sh", "-c", "ps; sleep 100"]);
    joined.namespaces.pid = PidNamespace::Join(FdIndex(0));
    let (joined, mut attachment) = place.attached(joined, vec![pid_ns()]).await.unwrap();
    let seen = expect(&mut attachment, "ps").await;
    assert!(seen.contains("1 root     sleep 100"), "{seen}");
    host.signal(libc::SIGKILL).unwrap();
    assert_eq!(exit(&nested).await.signal, Some(9));
    assert_eq!(exit(&joined).await.signal, Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_can_be_joined() {
    let place = Place::new();
    let first = place.runtime.launch(place.plan(&["sleep", "100"]), vec![]).await.unwrap();
    let open =
        |name| std::os::fd::OwnedFd::from(std::fs::File::open(format!("/proc/{}/ns/{name}", first.pid())).unwrap());
    let mut plan = place.plan(&["sh", "-c", "for n in uts ipc cgroup net; do readlink /proc/self/ns/$n; done"]);
    plan.namespaces.uts = Namespace::Join(FdIndex(0));
    plan.namespaces.ipc = Namespace::Join(FdIndex(1));
    plan.namespaces.cgroup = Namespace::Join(FdIndex(2));
    plan.namespaces.net = Namespace::New;
    let (_, mut attachment) = place.attached(plan, vec![open("uts"), open("ipc"), open("cgroup")]).await.unwrap();
    let said = collect(&mut attachment).await.stdout;
    let links: Vec<_> = said.lines().collect();
    let link =
        |pid: &str, name| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap().to_owned();
    let pid = first.pid().to_string();
    assert_eq!(links[..3], ["uts", "ipc", "cgroup"].map(|name| link(&pid, name)));
    assert_ne!(links[0], link("self", "uts"));
    assert_ne!(links[3], link("self", "net"));
    first.signal(9).unwrap();
    exit(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shim_outlives_the_daemon_and_keeps_what_it_was_given() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(place.path("l")).unwrap();
    let mut plan = place.plan(&["sh", "-c", "read x; echo $x; exit 5"]);
    plan.stdio.open_stdin = true;
    plan.stdio.stdin_once = false;
    plan.listeners = vec![FdIndex(0)];
    plan.stdio.log = Some(place.log_of(&plan));
    let log = plan.stdio.log.as_ref().unwrap().path.clone();
    let state = plan.state_dir.clone();
    // A runtime of its own is the daemon that dies.
    let runtime = place.runtime.state_dir("").parent().unwrap().to_owned();
    let (pid, inode) = {
        let state = plan.clone();
        std::thread::spawn(move || {
            let daemon = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let pid = daemon.block_on(async {
                let runtime = droste_runtime::Runtime::new(runtime).unwrap();
                let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
                (runtime.launch(state, vec![listener.into()]).await.unwrap().pid(), inode)
            });
            drop(daemon);
            pid
        })
        .join()
        .unwrap()
    };
    let Reconnected::Running(shim) = place.runtime.reconnect(state.as_ref()).await.unwrap() else { panic!("it runs") };
    assert_eq!(shim.pid(), pid);
    let back = shim.take_listener(FdIndex(0)).await.unwrap();
    assert_eq!(rustix::fs::fstat(&back).unwrap().st_ino, inode);
    assert!(shim.take_listener(FdIndex(1)).await.is_err());
    let client = std::os::unix::net::UnixStream::connect(place.path("l")).unwrap();
    assert!(rustix::net::accept(back.as_fd()).is_ok());
    drop(client);
    let mut attachment = shim.attach(Streams::ALL).await.unwrap();
    attachment.input.write_all(b"after\n").await.unwrap();
    expect(&mut attachment, "after").await;
    assert_eq!(exit(&shim).await.code, 5);
    let Reconnected::Exited(exit) = place.runtime.reconnect(state.as_ref()).await.unwrap() else { panic!("recorded") };
    assert_eq!(exit.code, 5);
    assert!(std::fs::read_to_string(log).unwrap().contains("after"));
    assert!(matches!(place.runtime.reconnect(&place.path("none")).await.unwrap(), Reconnected::Gone));
}

/// The daemon is this test's own program, started again and killed with its whole process group.
#[test]
fn a_daemon_that_is_killed_takes_nothing_with_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(file) = std::env::var_os("DROSTE_DAEMON") {
        let file = std::path::PathBuf::from(file);
        let plan: LaunchPlan = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        runtime.block_on(async {
            let shim =
                droste_runtime::Runtime::new(file.with_file_name("run")).unwrap().launch(plan, vec![]).await.unwrap();
            std::fs::write(file.with_extension("up"), shim.pid().to_string()).unwrap();
            std::future::pending::<()>().await;
        });
    }
    let place = runtime.block_on(async { Place::new() });
    let mut plan = place.plan(&["sh", "-c", "echo before; read x; echo got $x; exit 11"]);
    plan.stdio.open_stdin = true;
    plan.stdio.log = Some(place.log_of(&plan));
    let file = place.path("plan.json");
    std::fs::write(&file, serde_json::to_vec(&plan).unwrap()).unwrap();
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap());
    daemon.args(["--exact", "a_daemon_that_is_killed_takes_nothing_with_it"]).env("DROSTE_DAEMON", &file);
    let mut daemon = std::os::unix::process::CommandExt::process_group(&mut daemon, 0).spawn().unwrap();
    while !file.with_extension("up").exists() {
        assert!(daemon.try_wait().unwrap().is_none(), "the daemon failed");
        std::thread::sleep(Duration::from_millis(5));
    }
    let group = rustix::process::Pid::from_raw(daemon.id() as i32).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    daemon.wait().unwrap();
    runtime.block_on(async {
        let found = place.runtime.reconnect(plan.state_dir.as_ref()).await.unwrap();
        let Reconnected::Running(shim) = found else { panic!("{found:?}") };
        let mut attachment = shim.attach(Streams::ALL).await.unwrap();
        attachment.input.write_all(b"this\n").await.unwrap();
        expect(&mut attachment, "got this").await;
        assert_eq!(exit(&shim).await.code, 11);
    });
    let log = std::fs::read_to_string(&plan.stdio.log.unwrap().path).unwrap();
    assert!(log.contains("before") && log.contains("got this"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_not_taken_for_this_ones() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "exit 1"]);
    let state = plan.state_dir.clone();
    place.run(plan.clone()).await.unwrap();
    drop(std::os::unix::net::UnixListener::bind(format!("{state}/shim.sock")).unwrap());
    plan.process.args = ["sleep", "1000"].map(String::from).into();
    let shim = place.runtime.launch(plan, vec![]).await.unwrap();
    assert!(matches!(place.runtime.reconnect(state.as_ref()).await.unwrap(), Reconnected::Running(_)));
    shim.signal(9).unwrap();
    assert_eq!(exit(&shim).await.code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_while_the_daemon_is_away_is_recorded() {
    let place = Place::new();
    let plan = place.plan(&["sh", "-c", "sleep 0.3; exit 6"]);
    let (state, root) = (plan.state_dir.clone(), place.path("run"));
    std::thread::spawn(move || {
        let daemon = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        daemon.block_on(async { droste_runtime::Runtime::new(root).unwrap().launch(plan, vec![]).await.unwrap() });
    })
    .join()
    .unwrap();
    loop {
        match place.runtime.reconnect(state.as_ref()).await.unwrap() {
            Reconnected::Exited(exit) => break assert_eq!(exit.code, 6),
            Reconnected::Running(shim) => assert_eq!(exit(&shim).await.code, 6),
            Reconnected::Gone => panic!("neither running nor recorded"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_is_noticed() {
    let place = Place::new();
    let shim = place.runtime.launch(place.plan(&["sleep", "100"]), vec![]).await.unwrap();
    let parent = std::fs::read_to_string(format!("/proc/{}/stat", shim.pid())).unwrap();
    let parent: i32 = parent.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(parent).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(shim.wait().await, Ending::Lost);
    shim.signal(9).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shims_program_cannot_be_changed() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "echo up; sleep 100"]);
    plan.init = true;
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    expect(&mut attachment, "up").await;
    let path = format!("/proc/{}/exe", shim.pid());
    let program = std::fs::File::open(&path).unwrap();
    let seals = rustix::fs::fcntl_get_seals(&program).unwrap();
    assert!(seals.contains(
        rustix::fs::SealFlags::WRITE
            | rustix::fs::SealFlags::SEAL
            | rustix::fs::SealFlags::SHRINK
            | rustix::fs::SealFlags::GROW
    ));
    let written = std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"x"));
    assert!(written.is_err());
    shim.signal(9).unwrap();
    exit(&shim).await;
}

/// In the machine's PID namespace nothing kills what a container leaves behind, and it may hold the streams open.
#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_told_though_another_process_holds_the_streams() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "sleep 1000 & echo $!; exit 2"]);
    plan.namespaces.pid = PidNamespace::Machine;
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let left: i32 = expect(&mut attachment, "\n").await.trim().parse().unwrap();
    assert_eq!(exit(&shim).await.code, 2);
    let left = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it was not the shim's to kill");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_the_daemon_forgot_goes_nowhere() {
    let place = Place::new();
    let forgotten = std::fs::File::open("/proc/version").unwrap();
    rustix::io::fcntl_setfd(&forgotten, rustix::io::FdFlags::empty()).unwrap();
    let shim = place.runtime.launch(place.plan(&["sleep", "1000"]), vec![]).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    for pid in [parent, &shim.pid().to_string()] {
        for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = std::fs::read_link(fd.path()).unwrap();
            assert_ne!(target, std::path::Path::new("/proc/version"), "{:?}", fd.path());
        }
    }
    assert_eq!(std::fs::read_dir(format!("/proc/{}/fd", shim.pid())).unwrap().count(), 3);
    shim.signal(9).unwrap();
    exit(&shim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let place = Place::new();
    let launched: Vec<_> =
        (0..40).map(|number| place.plan(&["sh", "-c", &format!("echo {number}; exit {number}")])).collect();
    let runs = launched.into_iter().map(|plan| place.run(plan));
    for (number, outcome) in futures(runs).await.into_iter().enumerate() {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.output.stdout, outcome.exit.code), (format!("{number}\n"), number as i32));
    }
}

/// Drives all at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, result) in pending.iter_mut().filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => *result = Some(value),
                std::task::Poll::Pending => waiting = true,
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, result)| result).collect()
}
