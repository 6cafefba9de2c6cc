//! The small init (`--init`): the container's process 1. It starts the program, forwards signals to it, reaps
//! whatever ends, and ends with the program's exit code. It runs as the container's user, behind its filters.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use droste_runtime::sys::process::{Forked, fork};
use droste_runtime::sys::signal;
use rustix::process::{Pid, WaitOptions, WaitStatus, setpgid, wait};

const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Is the init; `args` are the program's.
pub(crate) fn run(args: Vec<std::ffi::OsString>) -> i32 {
    let args: Vec<CString> = args.into_iter().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    if args.is_empty() {
        return NOT_FOUND;
    }
    // `ps` shows a memory file's name otherwise.
    let _ = rustix::thread::set_name(c"docker-init");
    signal::block_all();
    // SAFETY: the init has a single thread.
    match unsafe { fork(0, None) } {
        Err(error) => complain("fork", "", &error),
        Ok(Forked::Child) => start(&args),
        Ok(Forked::Parent(child)) => attend(child),
    }
}

fn start(args: &[CString]) -> i32 {
    // The program has the terminal to itself; signals typed there don't reach the init.
    let _ = setpgid(None, None);
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
    signal::restore_defaults();
    let pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the strings and the array, which ends with a null pointer, live for the call.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    complain("exec", &args[0].to_string_lossy(), &io::Error::last_os_error())
}

fn attend(child: Pid) -> i32 {
    loop {
        match signal::next() {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            libc::SIGTTIN | libc::SIGTTOU => {}
            // SAFETY: the child has not been reaped, so the id is still its own.
            other => drop(unsafe { libc::kill(child.as_raw_nonzero().get(), other) }),
        }
    }
}

fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            code = Some(exit_code(status));
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Docker's init says it in these words.
fn complain(action: &str, name: &str, error: &io::Error) -> i32 {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let gap = if name.is_empty() { "" } else { " " };
    let line = format!("[FATAL tini ({})] {action}{gap}{name} failed: {text}\n", rustix::process::getpid());
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    match error.raw_os_error() {
        Some(libc::ENOENT) => NOT_FOUND,
        Some(libc::EACCES) => NOT_EXECUTABLE,
        _ => 1,
    }
}
