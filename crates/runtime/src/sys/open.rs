//! Opening a path with rules for its look-up (`openat2`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often a look-up is begun anew. Whoever renames without end makes others wait no longer than this.
const MOST_TRIES: u32 = 1000;

/// Opens a path below a directory. The kernel asks to try again when something was renamed anywhere while it went up by
/// `..`, which may be a stranger's doing.
///
/// # Errors
/// The kernel's.
pub fn open_at(
    directory: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    rules: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 0..MOST_TRIES {
        match openat2(directory.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), rules) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}
