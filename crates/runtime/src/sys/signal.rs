//! Signal masks and the descriptor that signals are read from, for programs with a single thread.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use super::check;

/// Blocks `SIGCHLD` and gives a non-blocking descriptor that is readable when a child has ended.
///
/// # Errors
/// When the kernel refuses.
pub fn child_events() -> io::Result<OwnedFd> {
    let mut set = empty_set();
    // SAFETY: `set` is a valid set that outlives the calls; the new descriptor is known to nobody else.
    unsafe {
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Gives a program the signal state that it expects: nothing blocked, nothing ignored.
pub fn restore_defaults() {
    let set = empty_set();
    let default = KernelAction::default();
    // SAFETY: `set` is a valid set that outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    for signal in 1..=64 {
        // SAFETY: `default` lives for the call and installs no code of ours. The C library would refuse the signals
        // that it keeps for itself, which a parent may have ignored all the same.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<KernelAction>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Blocks every signal, for [`next`].
pub fn block_all() {
    let mut set = empty_set();
    // SAFETY: `set` is a valid set that outlives the calls.
    unsafe {
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for the next of all signals.
pub fn next() -> i32 {
    let mut set = empty_set();
    loop {
        // SAFETY: `set` is a valid set that outlives the calls; no information is asked for.
        let signal = unsafe {
            libc::sigfillset(&raw mut set);
            libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
        };
        if signal > 0 {
            return signal;
        }
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Sends any signal, also one that has no name.
///
/// # Errors
/// When the process is dead.
pub fn send(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
    // SAFETY: the descriptor is borrowed for the call, and no information is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) })
        .map(drop)
}
