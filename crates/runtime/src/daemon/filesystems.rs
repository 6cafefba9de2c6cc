//! File systems that are neither a container's root nor a path of a host's: those of volumes with options, and images
//! that are looked into. A file system is made with a host's namespaces and root, as that host's processes would make
//! it, and arrives as a detached mount.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType, move_into_thread_name_spaces};

use super::namespaces::{EnterError, FILES, HostNamespaces, chroot_to, enter, keep_to, on_thread, step};
use crate::plan::{MountFlags, Overlay};
use crate::sys;

/// A file system to make.
#[derive(Clone, Debug)]
pub struct NewFilesystem {
    /// Its type.
    pub fstype: String,
    /// What it is made from: a device, an address, or a word.
    pub device: String,
    /// Its own options, `key` or `key=value`.
    pub options: Vec<String>,
    /// The mount's flags.
    pub flags: MountFlags,
}

/// Finds a name's address, on the thread that makes the file system.
pub type LookUp<'a> = &'a (dyn Fn(&str) -> io::Result<IpAddr> + Sync);

impl NewFilesystem {
    /// Network file systems are told addresses: the kernel looks up no names.
    fn resolved(&self, look_up: LookUp<'_>) -> io::Result<Vec<String>> {
        let mut options = self.options.clone();
        match self.fstype.as_str() {
            "nfs" | "nfs4" => {
                for option in &mut options {
                    if let Some(name) = option.strip_prefix("addr=") {
                        *option = format!("addr={}", look_up(name)?);
                    }
                }
            }
            "cifs" if !options.iter().any(|option| option.starts_with("addr=") || option.starts_with("ip=")) => {
                let server = self.device.trim_start_matches('/').split('/').next().unwrap_or_default();
                options.push(format!("addr={}", look_up(server)?));
            }
            _ => {}
        }
        Ok(options)
    }

    fn make(&self, look_up: LookUp<'_>) -> io::Result<OwnedFd> {
        let fs = fsopen(self.fstype.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        if !self.device.is_empty() {
            fsconfig_set_string(&fs, "source", self.device.as_str())?;
        }
        for option in self.resolved(look_up)? {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, option.as_str())?,
            }
        }
        fsconfig_create(&fs)?;
        let flags = u32::try_from(self.flags.0).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(flags))?)
    }
}

impl HostNamespaces {
    /// Makes a file system in all of this host's namespaces and with its root as `/`: a device is looked up there, an
    /// address is reached from there.
    ///
    /// # Errors
    /// The outer one when the host can't be entered, the inner one when the kernel refuses the file system.
    pub fn new_filesystem(
        &self,
        wanted: &NewFilesystem,
        look_up: LookUp<'_>,
    ) -> Result<io::Result<OwnedFd>, EnterError> {
        self.inside(|| wanted.make(look_up))
    }

    /// Runs `work` in all of this host's namespaces but that of its users, with its root as `/`, on a thread of its own
    /// that may mount and work with files, and little else. It blocks until that is done.
    ///
    /// # Errors
    /// When a namespace can't be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
        on_thread(|| {
            let others = [
                (&self.net, ThreadNameSpaceType::NETWORK, "enter network namespace"),
                (&self.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, "enter IPC namespace"),
                (&self.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, "enter UTS namespace"),
                (&self.cgroup, ThreadNameSpaceType::CONTROL_GROUP, "enter cgroup namespace"),
                (&self.pid, ThreadNameSpaceType::PROCESS_ID, "enter PID namespace"),
            ];
            for (namespace, kind, what) in others {
                move_into_thread_name_spaces(namespace.as_fd(), kind).map_err(|error| step(what)(error.into()))?;
            }
            enter(self.mnt.as_fd())?;
            chroot_to(self.root.as_fd())?;
            // Servers of network file systems want to be asked from a port of root's.
            keep_to(FILES.union(CapabilitySet::NET_BIND_SERVICE))?;
            Ok(work())
        })
    }
}

/// Mounts a detached mount on a directory of the daemon's own.
///
/// # Errors
/// When the directory is missing or the kernel refuses.
pub fn attach(mount: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Unmounts whatever is mounted on a directory of the daemon's own.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(place: &Path) -> io::Result<()> {
    while is_mounted(place) {
        unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Whether something is mounted on a directory of the daemon's own.
#[must_use]
pub fn is_mounted(place: &Path) -> bool {
    let found = statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS);
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mounts an overlay for nobody and gives a copy of it, or of what lies below `subpath` in it, as a detached mount. The
/// path can't leave the overlay. `place` is an empty directory; only this thread sees the mount on it.
///
/// # Errors
/// The outer one when the overlay can't be mounted, the inner one when the path can't be opened in it.
pub fn detached_overlay(
    overlay: &Overlay,
    place: &Path,
    subpath: Option<&str>,
) -> Result<io::Result<OwnedFd>, EnterError> {
    on_thread(|| {
        sys::process::unshare(libc::CLONE_NEWNS).map_err(step("make mount namespace"))?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .map_err(|error| step("make mounts private")(error.into()))?;
        sys::mount::overlay(overlay, place).map_err(step("mount overlay"))?;
        Ok(copy_below(place, subpath))
    })
}

fn copy_below(place: &Path, subpath: Option<&str>) -> io::Result<OwnedFd> {
    let mut found = openat(CWD, place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(subpath) = subpath {
        found = open_beneath(found.as_fd(), subpath)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(&found, "", flags)?)
}

/// Opens a path below a directory; one that leaves it, by `..` or by a link, is `EXDEV`.
pub(super) fn open_beneath(folder: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(sys::open::open_at(folder, path, OFlags::PATH, resolve)?)
}
