//! Installing seccomp filters.

use std::io;

use super::check;

/// Installs a filter, given as `struct sock_filter` values of eight bytes each.
///
/// # Errors
/// When the bytes are no filter, or the process has neither `CAP_SYS_ADMIN` nor `no_new_privs`.
pub fn install(instructions: &[u8], flags: u32) -> io::Result<()> {
    let filter: Vec<libc::sock_filter> = instructions.chunks_exact(8).map(instruction).collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and the filter it points to live for the call; the kernel copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
        .map(drop)
}

fn instruction(bytes: &[u8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}
