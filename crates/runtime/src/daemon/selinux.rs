//! SELinux as the kernel offers it: whether it is on, and the labels of processes.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::sys;

/// Whether the kernel has SELinux and uses it.
#[must_use]
pub fn is_enabled() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.ends_with("\tselinuxfs"))
}

/// This process's label.
///
/// # Errors
/// When the kernel does not tell.
pub fn own_label() -> io::Result<String> {
    label(Path::new("/proc/self/attr/current"))
}

/// The label of another process, named by its pidfd and its id.
///
/// # Errors
/// When the process is dead: its id may be another's by now.
pub fn label_of(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<String> {
    settled_label(pidfd, pid, Path::new(&format!("/proc/{pid}/attr/current")))
}

/// A process's label, which lies in a file of its own, whichever module it is of.
pub(super) fn settled_label(pidfd: BorrowedFd<'_>, pid: i32, file: &Path) -> io::Result<String> {
    // It changes at the end of an `execve` that began before; opening this waits for that, even if it is denied.
    let _ = std::fs::File::open(format!("/proc/{pid}/environ"));
    let found = label(file)?;
    // The id was still this process's if it is alive now.
    sys::signal::send(pidfd, 0)?;
    Ok(found)
}

fn label(file: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(file)?.trim_end_matches(['\0', '\n']).to_owned())
}
