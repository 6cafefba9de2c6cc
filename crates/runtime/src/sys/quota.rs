//! Project quotas: which project a directory and what is made below it belong to, how much a project takes, and how much
//! it may take.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// What is made in the directory belongs to its project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const SYS_QUOTACTL_FD: libc::c_long = 443;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTAT: u32 = 0x5805;
const PRJQUOTA: u32 = 2;
/// Project quotas are enforced.
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
/// The limits of bytes are meant, and nothing else of the structure.
const QIF_BLIMITS: u32 = 1;
/// What the kernel counts limits in.
const BLOCK: u64 = 1024;

/// `struct fsxattr`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct if_dqblk`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Quota {
    bhardlimit: u64,
    bsoftlimit: u64,
    curspace: u64,
    ihardlimit: u64,
    isoftlimit: u64,
    curinodes: u64,
    btime: u64,
    itime: u64,
    valid: u32,
}

/// `struct fs_quota_stat`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct State {
    version: i8,
    flags: u16,
    pad: i8,
    files: [[u64; 3]; 2],
    incoredqs: u32,
    times: [i32; 3],
    warnings: [u16; 2],
}

/// Whether the file system of a file holds projects to their limits.
pub fn is_enforced(on: BorrowedFd<'_>) -> bool {
    let mut state = State::default();
    control(on, Q_XGETQSTAT, 0, &raw mut state).is_ok() && state.flags & FS_QUOTA_PDQ_ENFD != 0
}

/// Gives a directory to a project, with all that is made in it from now on.
///
/// # Errors
/// When the file system has no projects.
pub fn adopt(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = MaybeUninit::<Attributes>::zeroed();
    // SAFETY: the kernel writes one structure of this shape.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSGETXATTR as _, attributes.as_mut_ptr()) }.into())?;
    // SAFETY: it consists of numbers, for which zeros are a value as well.
    let mut attributes = unsafe { attributes.assume_init() };
    attributes.projid = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads one structure of this shape.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes) }.into())?;
    Ok(())
}

/// Bytes that a project takes on the file system of a file.
///
/// # Errors
/// When the file system does not count what projects take.
pub fn used(on: BorrowedFd<'_>, project: u32) -> io::Result<u64> {
    let mut quota = Quota::default();
    match control(on, Q_GETQUOTA, project, &raw mut quota) {
        // A project of which the file system has heard nothing yet.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(0),
        done => done.map(|()| quota.curspace),
    }
}

/// Sets how many bytes a project may take on the file system of a file; `None` ends the limit.
///
/// # Errors
/// When the file system has no project quotas.
pub fn limit(on: BorrowedFd<'_>, project: u32, bytes: Option<u64>) -> io::Result<()> {
    // Nothing is written as zero, which means that there is no limit.
    let blocks = bytes.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1));
    let mut quota = Quota { bhardlimit: blocks, bsoftlimit: 0, valid: QIF_BLIMITS, ..Quota::default() };
    control(on, Q_SETQUOTA, project, &raw mut quota)
}

fn control(on: BorrowedFd<'_>, command: u32, project: u32, data: *mut impl Copy) -> io::Result<()> {
    let command = libc::c_ulong::from(command << 8 | PRJQUOTA);
    let on = libc::c_long::from(on.as_raw_fd());
    // SAFETY: `data` points to the structure that the command takes.
    check(unsafe { libc::syscall(SYS_QUOTACTL_FD, on, command, project, data) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Quota>(), size_of::<State>()), (28, 72, 80));
    }

    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(adopt(proc.as_fd(), 1).is_err());
        assert!(!is_enforced(proc.as_fd()) && used(proc.as_fd(), 1).is_err());
        assert!(limit(proc.as_fd(), 1, Some(5)).is_err());
    }
}
