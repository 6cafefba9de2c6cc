//! The container's root: mounts it, in a mount namespace that is already the container's, and makes it `/`.
//! From then on nothing of the machine can be reached by a path.

use std::os::fd::AsFd;
use std::path::Path;

use droste_runtime::plan::{Failure, Overlay, Rootfs};
use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_bind_recursive, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::report::Step;
use super::stage::Fds;

/// Mounts the root over `place`, a directory that only this container uses, and pivots into it.
pub(crate) fn enter(rootfs: &Rootfs, place: &str, fds: &Fds) -> Result<(), Failure> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).step("make mounts private", String::new)?;
    match rootfs {
        Rootfs::Overlay(overlay) => mount_overlay(overlay, place)?,
        Rootfs::Directory(path) => mount_bind_recursive(path.as_str(), place).step("mount root", || path.clone())?,
        Rootfs::Mount(index) => {
            move_mount(fds.get(*index)?, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .step("mount root", || place.to_owned())?;
        }
    }
    chdir(place).step("enter root", || place.to_owned())?;
    pivot_root(".", ".").step("pivot_root", || place.to_owned())?;
    unmount(".", UnmountFlags::DETACH).step("leave the machine's root", String::new)?;
    chdir("/").step("enter root", || "/".to_owned())
}

fn mount_overlay(overlay: &Overlay, place: &str) -> Result<(), Failure> {
    droste_runtime::sys::mount::overlay(overlay, Path::new(place))
        .step("mount overlay", || format!("{}: {}", overlay.layers_dir, overlay.lowers.join(":")))
}

/// An owned view of the container's root directory.
pub(crate) fn open_root() -> Result<std::os::fd::OwnedFd, Failure> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/", flags, rustix::fs::Mode::empty()).step("open root", String::new)
}

/// Sets the root mount's flags and propagation, when all else is mounted.
pub(crate) fn finish(readonly: bool, propagation: droste_runtime::plan::Propagation) -> Result<(), Failure> {
    use droste_runtime::plan::{MountFlags as Flags, Propagation};
    if !readonly && propagation == Propagation::Private {
        return Ok(());
    }
    let flags = if readonly { Flags::RDONLY } else { Flags::NONE };
    let root = open_root()?;
    if propagation != Propagation::Private {
        droste_runtime::sys::mount::set_attributes(root.as_fd(), Flags::NONE, Some(propagation), true)
            .step("set propagation of root", String::new)?;
    }
    droste_runtime::sys::mount::set_attributes(root.as_fd(), flags, None, false)
        .step("make root read-only", String::new)
}
