//! Making and replacing processes.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;

use super::check;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the child's id in its own namespace.
    Parent(Pid),
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks by `clone3` with `CLONE_NEW*` flags and `CLONE_PARENT`, into a version 2 control group if one is given.
///
/// # Errors
/// When the kernel refuses.
///
/// # Safety
/// The calling process must have a single thread: locks that another one holds would stay held in the child.
pub unsafe fn fork(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let flags = u64::from(flags.cast_unsigned());
    let mut args = CloneArgs { flags, ..CloneArgs::default() };
    // A sibling is announced with its parent's signal; the kernel wants none named.
    if flags & libc::CLONE_PARENT as u64 == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of this address space and goes on here on the same stack; there
    // is no other thread (the caller's promise).
    let pid = match check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) }) {
        // Docker's seccomp profile says so of clone3, and a container's own init is under it.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && args.flags == 0 => {
            // SAFETY: as above; with only a signal among the flags this is fork(2).
            check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?
        }
        other => other?,
    };
    Ok(match Pid::from_raw(i32::try_from(pid).unwrap_or(0)) {
        None => Forked::Child,
        Some(pid) => Forked::Parent(pid),
    })
}

/// Replaces this process by the program at `path`.
///
/// # Errors
/// Whatever `execve` says; it returns only then.
pub fn execute(path: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path and strings are NUL-terminated and live for the call, both arrays end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Replaces this process by the program that `file` is open on.
///
/// # Errors
/// Whatever `execveat` says; it returns only then.
pub fn execute_file(file: BorrowedFd<'_>, args: &[&CStr], env: &[&CStr]) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: as in `execute`; the path is an empty C string, which AT_EMPTY_PATH allows.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}

fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// When the kernel is older than 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only a flag of descriptors changes, none is closed here.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// When the kernel is older than 5.9.
///
/// # Safety
/// None of them may be in use by the program.
pub unsafe fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: nobody uses them (the caller's promise).
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Makes a new namespace, or a file system context of its own, for the calling thread.
///
/// # Errors
/// When the kernel refuses.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    debug_assert!(flags & libc::CLONE_FILES == 0);
    // SAFETY: no flag here takes away the descriptor table that other threads' safe code relies on.
    check(unsafe { libc::unshare(flags & !libc::CLONE_FILES) }.into()).map(drop)
}

/// Gives this process a session keyring of its own, instead of the one it was started with.
///
/// # Errors
/// When the quota of keys is used up. A kernel without keyrings has nothing to share.
pub fn new_session_keyring() -> io::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let result = check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_keyring() -> libc::c_long {
        const GET_KEYRING_ID: libc::c_int = 0;
        const SESSION: libc::c_int = -3;
        // SAFETY: only numbers are passed.
        check(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) }).expect("a session keyring")
    }

    #[test]
    fn a_new_session_keyring_is_another() {
        // Keyrings belong to threads, and this one ends.
        let thread = std::thread::spawn(|| {
            let before = session_keyring();
            new_session_keyring().expect("a new one");
            assert_ne!(before, session_keyring());
        });
        thread.join().expect("the thread");
    }
}
