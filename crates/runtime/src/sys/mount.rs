//! `mount_setattr`, which rustix does not have, and overlays with many layers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::check;
use crate::plan::{MountFlags, Overlay, Propagation};

const ATIME_MASK: u64 = 0x70;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Adds flags to the mount behind `mount`, and sets its propagation.
///
/// # Errors
/// When the kernel refuses; nothing is changed then.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    flags: MountFlags,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr {
        set: flags.0,
        clear: if flags.0 & ATIME_MASK == 0 { 0 } else { ATIME_MASK },
        propagation: propagation.map_or(0, propagation_bit),
        userns: 0,
    };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` lives for the call and its true size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

fn propagation_bit(propagation: Propagation) -> u64 {
    match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    }
}

/// Mounts an overlay on `place`. The caller's working directory changes: layers have short names that are relative to
/// theirs, because mount options have to fit in a page.
///
/// # Errors
/// When the kernel refuses, or has no space for what is written.
pub fn overlay(overlay: &Overlay, place: &Path) -> io::Result<()> {
    rustix::process::chdir(overlay.layers_dir.as_str())?;
    let data = CString::new(overlay_options(overlay))?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", place, "overlay", flags, data.as_c_str())?;
    // Where there is no space for its scratch directory the kernel mounts it read-only, and only its log says so.
    let readonly = || Ok::<_, io::Error>(rustix::fs::statvfs(place)?.f_flag.contains(StatVfsMountFlags::RDONLY));
    if overlay.upper.is_some() && readonly()? {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    Ok(())
}

fn overlay_options(overlay: &Overlay) -> String {
    let lowers: Vec<_> = overlay.lowers.iter().map(|lower| escape(lower)).collect();
    let mut options = format!("lowerdir={}", lowers.join(":"));
    if let Some(upper) = &overlay.upper {
        options += &format!(",upperdir={},workdir={},index=off", escape(&upper.upper), escape(&upper.work));
    }
    options
}

fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:")
}
