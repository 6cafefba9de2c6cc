//! The system calls that no library wraps safely. This folder, the shim and the init are the only places with `unsafe`.
#![allow(unsafe_code)]

pub mod bpf;
pub mod memory;
pub mod mount;
pub mod open;
pub mod process;
#[cfg(feature = "daemon")]
pub mod quota;
#[cfg(feature = "daemon")]
pub mod readiness;
pub mod seccomp;
pub mod signal;

use std::io;

/// Turns the result of a libc call into a `Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
