//! Everything in the container's root that is not the image: mounts, device nodes, kernel parameters, hidden paths.
//! It runs with the container's root as `/`, so a path can't leave it; magic links are refused all the same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use droste_runtime::plan::{Device, DeviceKind, Failure, LaunchPlan, Mount, MountFlags, MountSource, Propagation};
use droste_runtime::sys::mount::set_attributes;
use droste_runtime::sys::open::open_at;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fstat, makedev, mkdirat, mknodat,
    openat2, readlinkat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::report::{Step, failure};
use super::stage::Fds;

const MAX_LINKS: u32 = 40;

/// What a mount point has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

/// Furnishes the container's root.
pub(crate) fn furnish(plan: &LaunchPlan, fds: &Fds, root: BorrowedFd<'_>) -> Result<(), Failure> {
    for mount in &plan.mounts {
        make_mount(root, mount, fds)?;
    }
    for device in &plan.devices {
        make_device(root, device)?;
    }
    for (path, target) in &plan.links {
        make_link(root, path, target)?;
    }
    for (name, value) in &plan.sysctls {
        write_sysctl(root, name, value)?;
    }
    Ok(())
}

/// Hides and protects paths; the last step, since mount points can't be made below read-only ones.
pub(crate) fn protect(plan: &LaunchPlan, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut hidden = None;
    for path in &plan.masked_paths {
        mask(root, path, &mut hidden)?;
    }
    for path in &plan.readonly_paths {
        make_readonly(root, path)?;
    }
    super::rootfs::finish(plan.readonly_rootfs, plan.rootfs_propagation)
}

fn make_mount(root: BorrowedFd<'_>, mount: &Mount, fds: &Fds) -> Result<(), Failure> {
    let object = || mount.target.clone();
    match &mount.source {
        MountSource::Bind { mount: index, propagation, recursive_readonly } => {
            let source = fds.get(*index)?;
            let is_dir = is_directory(source).step("look at bind for", object)?;
            let kind = if is_dir { Kind::Directory } else { Kind::File };
            let target = ensure(root, &mount.target, kind).step("make mount point", object)?;
            let recursive = *recursive_readonly && mount.flags.contains(MountFlags::RDONLY);
            set_attributes(source, MountFlags::NONE, Some(*propagation), true)
                .step("set propagation of bind", object)?;
            if mount.flags != MountFlags::NONE {
                set_attributes(source, mount.flags, None, recursive).step("set flags of bind", object)?;
            }
            place_bind(source, is_dir, &target).step("bind to", object)
        }
        MountSource::Fs { fstype, options } => {
            let existing = resolve(root, &mount.target).ok();
            let options = with_mode_of(fstype, options, existing.as_ref());
            let target = match existing {
                Some(target) => target,
                None => ensure(root, &mount.target, Kind::Directory).step("make mount point", object)?,
            };
            let new = new_fs(fstype, &options, mount.flags).step(&format!("mount {fstype} on"), object)?;
            place(new.as_fd(), target.as_fd()).step(&format!("mount {fstype} on"), object)
        }
        MountSource::CgroupV1(hierarchies) => mount_cgroup_v1(root, mount, hierarchies),
    }
}

/// A tmpfs over a directory keeps that directory's permissions unless told otherwise.
fn with_mode_of(fstype: &str, options: &[String], target: Option<&OwnedFd>) -> Vec<String> {
    let mut options = options.to_vec();
    let given = options.iter().any(|option| option.starts_with("mode="));
    if let (true, false, Some(Ok(stat))) = (fstype == "tmpfs", given, target.map(fstat)) {
        options.push(format!("mode={:o}", stat.st_mode & 0o7777));
    }
    options
}

fn mount_cgroup_v1(root: BorrowedFd<'_>, mount: &Mount, hierarchies: &[(String, Vec<String>)]) -> Result<(), Failure> {
    let object = || mount.target.clone();
    let target = ensure(root, &mount.target, Kind::Directory).step("make mount point", object)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let tmpfs = new_fs("tmpfs", &["mode=755".to_owned()], quiet).step("mount tmpfs on", object)?;
    place(tmpfs.as_fd(), target.as_fd()).step("mount tmpfs on", object)?;
    for (name, options) in hierarchies {
        let path = format!("{}/{name}", mount.target);
        let target = ensure(root, &path, Kind::Directory).step("make mount point", || path.clone())?;
        let fstype = if options.is_empty() { "cgroup2" } else { "cgroup" };
        let new = new_fs(fstype, options, mount.flags).step("mount cgroup on", || path.clone())?;
        place(new.as_fd(), target.as_fd()).step("mount cgroup on", || path.clone())?;
        for link in name.split(',').filter(|part| part != name) {
            symlinkat(name.as_str(), &tmpfs, link).step("link cgroup", || link.to_owned())?;
        }
    }
    if mount.flags.contains(MountFlags::RDONLY) {
        set_attributes(tmpfs.as_fd(), MountFlags::RDONLY, None, false).step("make read-only", object)?;
    }
    Ok(())
}

fn new_fs(fstype: &str, options: &[String], flags: MountFlags) -> io::Result<OwnedFd> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if fstype == "tmpfs" {
        fsconfig_set_string(&fs, "source", fstype)?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
            None => fsconfig_set_flag(&fs, option.as_str())?,
        }
    }
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(flags.0).map_err(|_| Errno::INVAL)?);
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Says what the kernel only calls invalid: a directory on a file, or a file on a directory.
fn place_bind(mount: BorrowedFd<'_>, is_dir: bool, target: &OwnedFd) -> io::Result<()> {
    if is_directory(target.as_fd())? == is_dir {
        return place(mount, target.as_fd());
    }
    Err(if is_dir { Errno::NOTDIR } else { Errno::ISDIR }.into())
}

fn place(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

fn clone_mount(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(open_tree(fd, "", flags)?)
}

fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// Opens a path in the root, links followed inside it.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(open_at(root, path, OFlags::PATH, resolve)?)
}

/// Opens a path in the root; makes what is missing of it.
fn ensure(root: BorrowedFd<'_>, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    ensure_within(root, &normal(path), kind, MAX_LINKS)
}

/// Makes a directory and those above it, and opens it.
pub(crate) fn ensure_directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    ensure(root, path, Kind::Directory)
}

fn ensure_within(root: BorrowedFd<'_>, path: &Path, kind: Kind, links: u32) -> io::Result<OwnedFd> {
    match resolve(root, &path.to_string_lossy()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT.into()) };
    let parent_fd = ensure_within(root, parent, Kind::Directory, links)?;
    let made = match kind {
        Kind::Directory => mkdirat(&parent_fd, name, Mode::from_raw_mode(0o755)),
        Kind::File => mknodat(&parent_fd, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    };
    match made {
        Ok(()) => resolve(root, &path.to_string_lossy()),
        // Something is there although it could not be opened: a link to what is missing. One of /proc's, which is no
        // path, may have come into being by our own opening of files.
        Err(Errno::EXIST) if require_proc(parent_fd.as_fd()).is_ok() => Err(Errno::LOOP.into()),
        Err(Errno::EXIST) => {
            let link = readlinkat(&parent_fd, name, Vec::new())?;
            ensure_within(root, &normal(&parent.join(link.to_string_lossy().as_ref()).to_string_lossy()), kind, links)
        }
        Err(error) => Err(error.into()),
    }
}

/// An absolute path without `.` and `..`.
fn normal(path: &str) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

fn parent_and_name(root: BorrowedFd<'_>, path: &str) -> io::Result<(OwnedFd, String)> {
    let path = normal(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
    Ok((ensure_directory(root, &parent.to_string_lossy())?, name.to_string_lossy().into_owned()))
}

fn make_device(root: BorrowedFd<'_>, device: &Device) -> Result<(), Failure> {
    let object = || device.path.clone();
    let (parent, name) = parent_and_name(root, &device.path).step("make directory for device", object)?;
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode);
    match mknodat(&parent, name.as_str(), kind, mode, makedev(device.major, device.minor)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        other => return other.step("make device", object),
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(&parent, name.as_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .step("chown device", object)?;
        chmodat(&parent, name.as_str(), mode, AtFlags::empty()).step("chmod device", object)?;
    }
    Ok(())
}

fn make_link(root: BorrowedFd<'_>, path: &str, target: &str) -> Result<(), Failure> {
    let (parent, name) = parent_and_name(root, path).step("make directory for link", || path.to_owned())?;
    match symlinkat(target, &parent, name.as_str()) {
        Err(Errno::EXIST) => Ok(()),
        other => other.step("make link", || path.to_owned()),
    }
}

fn write_sysctl(root: BorrowedFd<'_>, name: &str, value: &str) -> Result<(), Failure> {
    let object = || name.to_owned();
    let path = format!("proc/sys/{}", name.replace('.', "/"));
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file =
        openat2(root, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).step("open sysctl", object)?;
    require_proc(file.as_fd()).step("open sysctl", object)?;
    rustix::io::write(&file, value.as_bytes()).step("write sysctl", object).map(drop)
}

/// A volume over `/proc` must not be able to pass for it.
fn require_proc(file: BorrowedFd<'_>) -> io::Result<()> {
    let found = rustix::fs::fstatfs(file)?.f_type;
    if found == rustix::fs::PROC_SUPER_MAGIC { Ok(()) } else { Err(Errno::XDEV.into()) }
}

/// Something empty to put over what must not be seen, once for directories and once for files.
///
/// Each is a mount of this namespace: Linux before 6.15 does not clone a mount that is nowhere.
struct Hidden {
    directory: Option<OwnedFd>,
    null: OwnedFd,
}

fn mask(root: BorrowedFd<'_>, path: &str, hidden: &mut Option<Hidden>) -> Result<(), Failure> {
    let object = || path.to_owned();
    let target = match resolve(root, path) {
        Ok(target) => target,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(failure("mask", path, &error)),
    };
    let is_dir = is_directory(target.as_fd()).step("mask", object)?;
    let hidden = match hidden {
        Some(hidden) => hidden,
        none => none.insert(Hidden { directory: None, null: null_device(root).step("mask", object)? }),
    };
    hide(target.as_fd(), is_dir, hidden).step("mask", object)
}

/// The first directory gets the empty one itself, which from then on can be cloned.
fn hide(target: BorrowedFd<'_>, is_dir: bool, hidden: &mut Hidden) -> io::Result<()> {
    match (is_dir, &hidden.directory) {
        (false, _) => place(clone_mount(hidden.null.as_fd(), false)?.as_fd(), target),
        (true, Some(placed)) => place(clone_mount(placed.as_fd(), false)?.as_fd(), target),
        (true, None) => {
            let directory = new_fs("tmpfs", &["size=0".to_owned()], MountFlags::RDONLY)?;
            place(directory.as_fd(), target)?;
            hidden.directory = Some(directory);
            Ok(())
        }
    }
}

fn null_device(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = resolve(root, "/dev/null")?;
    let stat = fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3);
    if is_null { Ok(null) } else { Err(Errno::NODEV.into()) }
}

fn make_readonly(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let object = || path.to_owned();
    let target = match resolve(root, path) {
        Ok(target) => target,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(failure("make read-only", path, &error)),
    };
    let copy = clone_mount(target.as_fd(), true).step("make read-only", object)?;
    set_attributes(copy.as_fd(), MountFlags::RDONLY, Some(Propagation::Private), true)
        .step("make read-only", object)?;
    place(copy.as_fd(), target.as_fd()).step("make read-only", object)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// Puts the terminal at `/dev/console`.
pub(crate) fn bind_console(root: BorrowedFd<'_>, terminal: &str) -> io::Result<()> {
    let console = ensure(root, "/dev/console", Kind::File)?;
    let terminal = resolve(root, terminal)?;
    place(clone_mount(terminal.as_fd(), false)?.as_fd(), console.as_fd())
}
