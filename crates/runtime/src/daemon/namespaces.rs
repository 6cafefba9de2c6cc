//! Entering a host's or a container's namespaces: always on a thread that ends afterwards, so that no thread of the
//! daemon's can be left in the wrong place. Paths are looked up there once, without magic links, and travel as
//! descriptors from then on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, mkdirat, openat, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::process::{Pid, PidfdFlags, fchdir, pidfd_open};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType, move_into_thread_name_spaces};

use super::mountinfo::Myself;
use crate::plan::{MountFlags, Propagation};
use crate::sys;

/// Why something in another namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// A namespace of a process can't be opened, for instance because the process is dead.
    #[error("can't open the {name} namespace of process {pid}: {source}")]
    Open {
        /// The process.
        pid: i32,
        /// Which namespace, or `root`.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A step on the way in failed.
    #[error("can't {step}: {source}")]
    Enter {
        /// The step.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The thread ended without a result.
    #[error("the work in the other namespace was cut short")]
    Panicked,
}

impl EnterError {
    /// Whether the process is ending or has ended: such a one has no namespaces any more, a moment before its pidfd says
    /// so.
    #[must_use]
    pub fn is_of_an_ended_process(&self) -> bool {
        let gone = [Errno::NOENT, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
        matches!(self, EnterError::Open { source, .. } if gone.contains(&source.raw_os_error()))
    }
}

/// Why a bind source can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no such file, and it is not to be made.
    #[error("bind source path does not exist: {path}")]
    Missing {
        /// The path, as the client said it.
        path: PathBuf,
    },
    /// It could not be looked up or made.
    #[error("can't open bind source {path}: {source}")]
    Open {
        /// The path, as the client said it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link on the way below a source leads out of it.
    #[error("path {path} leaves the directory that it was looked up in")]
    Escapes {
        /// The path below the source.
        path: PathBuf,
    },
    /// Its mount takes no part in the propagation that was asked for.
    #[error("path {path} is mounted on {mount} but it is not a {wanted} mount")]
    NotShared {
        /// The path, as the client said it.
        path: PathBuf,
        /// Where its mount is.
        mount: String,
        /// `shared`, or `shared or slave`.
        wanted: &'static str,
    },
    /// A mount below it was to be left out, which could uncover what the host must not see.
    #[error(
        "{mount} is mounted below {path} and can't be left out on this host: bind {path} with all that is mounted below it"
    )]
    Covered {
        /// The path, as the client said it.
        path: PathBuf,
        /// Where the first such mount is.
        mount: String,
    },
    /// The host's namespaces could not be entered.
    #[error(transparent)]
    Enter(#[from] EnterError),
}

/// The namespaces of a host, held open: they stay what they are when its first process ends.
#[derive(Debug)]
pub struct HostNamespaces {
    /// Mounts.
    pub mnt: OwnedFd,
    /// Process ids.
    pub pid: OwnedFd,
    /// Network.
    pub net: OwnedFd,
    /// IPC.
    pub ipc: OwnedFd,
    /// Host name.
    pub uts: OwnedFd,
    /// Control groups.
    pub cgroup: OwnedFd,
    /// Users.
    pub user: OwnedFd,
    /// The root directory.
    pub root: OwnedFd,
}

impl HostNamespaces {
    /// Opens those of the daemon itself: the machine's.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn own() -> Result<Self, EnterError> {
        open_all(i32::try_from(std::process::id()).unwrap_or(0))
    }

    /// Opens those of a process, named by its pidfd and its id.
    ///
    /// # Errors
    /// When the process is dead: its id may be another's by now, so nothing that was opened counts.
    pub fn of(pidfd: BorrowedFd<'_>, pid: i32) -> Result<Self, EnterError> {
        let opened = open_all(pid)?;
        // The id was still this process's while all was opened if it is alive now.
        sys::signal::send(pidfd, 0).map_err(|source| EnterError::Open { pid, name: "pid", source })?;
        Ok(opened)
    }

    /// Opens those of a process, named by its id alone.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of_pid(pid: i32) -> Result<Self, EnterError> {
        let failed = |source: io::Error| EnterError::Open { pid, name: "pid", source };
        let number = Pid::from_raw(pid).ok_or_else(|| failed(Errno::SRCH.into()))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        Self::of(pidfd.as_fd(), pid)
    }

    /// The mount namespace and root.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn view(&self) -> io::Result<MountView> {
        Ok(MountView { mnt: self.mnt.try_clone()?, root: self.root.try_clone()? })
    }
}

fn open_all(pid: i32) -> Result<HostNamespaces, EnterError> {
    let open = |name: &'static str| {
        let path = if name == "root" { format!("/proc/{pid}/root") } else { format!("/proc/{pid}/ns/{name}") };
        let flags = if name == "root" { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::RDONLY };
        openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|error| EnterError::Open {
            pid,
            name,
            source: error.into(),
        })
    };
    Ok(HostNamespaces {
        mnt: open("mnt")?,
        pid: open("pid")?,
        net: open("net")?,
        ipc: open("ipc")?,
        uts: open("uts")?,
        cgroup: open("cgroup")?,
        user: open("user")?,
        root: open("root")?,
    })
}

/// A mount namespace and the root directory to see in it.
#[derive(Debug)]
pub struct MountView {
    /// The namespace.
    pub mnt: OwnedFd,
    /// The root.
    pub root: OwnedFd,
}

impl MountView {
    /// Runs `work` in this mount namespace with this root as `/`, on a thread of its own that may do with files what
    /// root may, and little else. It blocks until that is done.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
        on_thread(|| {
            enter(self.mnt.as_fd())?;
            chroot_to(self.root.as_fd())?;
            keep_to(FILES)?;
            Ok(work())
        })
    }

    /// Runs `work` in this mount namespace, without changing the root.
    fn run_unrooted<T: Send>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T + Send) -> Result<T, EnterError> {
        on_thread(|| {
            enter(self.mnt.as_fd())?;
            Ok(work(self.root.as_fd()))
        })
    }

    /// Opens what a client names as a bind's source: looked up once, inside this root, magic links refused. What comes
    /// back is a private detached mount; its mounts keep the flags that they have here.
    ///
    /// # Errors
    /// [`BindError::Missing`] when it does not exist and is not to be made.
    pub fn open_bind_source(&self, path: &Path, options: BindOptions) -> Result<BindSource, BindError> {
        on_thread(|| {
            // Opened before, because what is called /proc in the host's root is the host's.
            let myself = Myself::open().map_err(step("open /proc/thread-self"))?;
            enter(self.mnt.as_fd())?;
            Ok(bind_source(self.root.as_fd(), path, options, &myself))
        })?
    }

    /// Opens what lies at `below` in the directory at `path`. No link leads out of that directory.
    ///
    /// # Errors
    /// [`BindError::Missing`] when there is nothing, [`BindError::Escapes`] when the path leads out.
    pub fn open_below(&self, path: &Path, below: &str) -> Result<BindSource, BindError> {
        self.run_unrooted(|root| {
            let failed = |source: io::Error| BindError::Open { path: path.to_owned(), source };
            let folder = resolve(root, path).map_err(|error| failed(error.into()))?;
            let found = super::filesystems::open_beneath(folder.as_fd(), below);
            let found = found.map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => BindError::Missing { path: path.join(below) },
                Some(libc::EXDEV) => BindError::Escapes { path: below.into() },
                _ => failed(error),
            })?;
            detach(found.as_fd(), BindOptions::default()).map_err(failed)
        })?
    }
}

/// How a bind's source is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Make a directory there if nothing is (`-v` does, `--mount` does not).
    pub create_directory: bool,
    /// Only the mount itself, not those below it.
    pub non_recursive: bool,
    /// Refuse that where something is mounted below: for hosts that could not unmount it themselves.
    pub keep_covered: bool,
    /// Keep the mount in its peer group, for `shared` and `slave`; it is made private otherwise. The source's mount must
    /// take part in what is asked for.
    pub propagation: Propagation,
}

/// The source of a bind.
#[derive(Debug)]
pub struct BindSource {
    /// A detached copy of the mount, for [`MountSource::Bind`](crate::plan::MountSource::Bind).
    pub mount: OwnedFd,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a socket.
    pub is_socket: bool,
    /// Whether its mount is read-only.
    pub read_only: bool,
    /// Device number of its file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

fn bind_source(
    root: BorrowedFd<'_>,
    path: &Path,
    options: BindOptions,
    myself: &Myself,
) -> Result<BindSource, BindError> {
    let failed = |source: io::Error| BindError::Open { path: path.to_owned(), source };
    let found = match resolve(root, path) {
        Err(Errno::NOENT) if options.create_directory => make_directory(root, path).map_err(failed)?,
        Err(Errno::NOENT) => return Err(BindError::Missing { path: path.to_owned() }),
        other => other.map_err(|error| failed(error.into()))?,
    };
    require_propagation(found.as_fd(), path, options.propagation, myself)?;
    if options.non_recursive && options.keep_covered {
        require_nothing_below(found.as_fd(), path, myself)?;
    }
    detach(found.as_fd(), options).map_err(failed)
}

/// Refuses to share what is not shared above: nothing would travel.
fn require_propagation(
    found: BorrowedFd<'_>,
    path: &Path,
    propagation: Propagation,
    myself: &Myself,
) -> Result<(), BindError> {
    let wanted = match propagation {
        Propagation::Private => return Ok(()),
        Propagation::Shared => "shared",
        Propagation::Slave => "shared or slave",
    };
    let failed = |source: io::Error| BindError::Open { path: path.to_owned(), source };
    let (mount, fields) = myself.mount_of(found).map_err(failed)?;
    let shared = fields.iter().any(|field| field.starts_with("shared:"));
    let slave = fields.iter().any(|field| field.starts_with("master:"));
    if shared || (slave && propagation == Propagation::Slave) {
        return Ok(());
    }
    Err(BindError::NotShared { path: path.to_owned(), mount, wanted })
}

/// What is mounted below a source may be there to hide something.
fn require_nothing_below(found: BorrowedFd<'_>, path: &Path, myself: &Myself) -> Result<(), BindError> {
    let below = myself.mount_below(found).map_err(|source| BindError::Open { path: path.to_owned(), source })?;
    match below {
        Some(mount) => Err(BindError::Covered { path: path.to_owned(), mount }),
        None => Ok(()),
    }
}

fn detach(found: BorrowedFd<'_>, options: BindOptions) -> io::Result<BindSource> {
    let stat = statx(found, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let flags = rustix::fs::fstatvfs(found)?.f_flag;
    let mut clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    clone.set(OpenTreeFlags::AT_RECURSIVE, !options.non_recursive);
    let mount = open_tree(found, "", clone)?;
    if options.propagation == Propagation::Private {
        sys::mount::set_attributes(mount.as_fd(), MountFlags::NONE, Some(Propagation::Private), true)?;
    }
    Ok(BindSource {
        mount,
        is_dir: kind == FileType::Directory,
        is_socket: kind == FileType::Socket,
        read_only: flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
    })
}

/// Opens a path inside a root.
fn resolve(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    sys::open::open_at(root, path, OFlags::PATH, inside)
}

fn make_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT.into()) };
    let parent = match resolve(root, parent) {
        Err(Errno::NOENT) => make_directory(root, parent)?,
        other => other?,
    };
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(resolve(root, path)?)
}

/// Runs `work` on a thread that shares neither root, directory nor namespaces with the daemon's others.
pub(super) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, EnterError> + Send) -> Result<T, EnterError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, || {
            sys::process::unshare(libc::CLONE_FS).map_err(step("leave the daemon's directories"))?;
            work()
        });
        let thread = thread.map_err(step("start a thread"))?;
        thread.join().unwrap_or(Err(EnterError::Panicked))
    })
}

pub(super) fn step(step: &'static str) -> impl Fn(io::Error) -> EnterError {
    move |source| EnterError::Enter { step, source }
}

pub(super) fn enter(mnt: BorrowedFd<'_>) -> Result<(), EnterError> {
    move_into_thread_name_spaces(mnt, ThreadNameSpaceType::MOUNT)
        .map_err(|error| step("enter mount namespace")(error.into()))
}

pub(super) fn chroot_to(root: BorrowedFd<'_>) -> Result<(), EnterError> {
    let change = || -> rustix::io::Result<()> {
        fchdir(root)?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    change().map_err(|error| step("enter root")(error.into()))
}

/// What work on a host's or a container's files needs.
pub(super) const FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_RESOURCE);

/// Gives up, on this thread, all other capabilities. So the kernel shows the daemon no more of processes, in whatever
/// `/proc` is there, than their own user may see.
pub(super) fn keep_to(needed: CapabilitySet) -> Result<(), EnterError> {
    let reduce = || {
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective &= needed;
        rustix::thread::set_capabilities(None, sets)
    };
    reduce().map_err(|error| step("give up capabilities")(error.into()))
}

/// A container's root that is not mounted anywhere: an overlay, and binds inside it.
#[derive(Debug)]
pub struct PrivateRoot<'a> {
    /// The overlay.
    pub overlay: &'a crate::plan::Overlay,
    /// An empty directory to mount it on; only the thread sees the mount.
    pub place: &'a Path,
    /// Detached mounts and where they belong in it.
    pub binds: Vec<(OwnedFd, PathBuf)>,
}

impl PrivateRoot<'_> {
    /// Runs `work` with this root as `/`, in a mount namespace that ends with it.
    ///
    /// # Errors
    /// When the root can't be mounted.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
        on_thread(|| {
            sys::process::unshare(libc::CLONE_NEWNS).map_err(step("make mount namespace"))?;
            self.mount().map_err(step("mount the container's root"))?;
            keep_to(FILES)?;
            Ok(work())
        })
    }

    fn mount(&self) -> io::Result<()> {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        sys::mount::overlay(self.overlay, self.place)?;
        rustix::process::chdir(self.place)?;
        rustix::process::chroot(".")?;
        let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for (mount, target) in &self.binds {
            let target = match resolve(root.as_fd(), target) {
                // Missing when the container was never started: then it is made as a start would make it.
                Err(Errno::NOENT) => make_mount_point(root.as_fd(), mount, target)?,
                other => other?,
            };
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(mount, "", &target, "", flags)?;
        }
        Ok(())
    }
}

/// A file or directory for a mount of its kind.
fn make_mount_point(root: BorrowedFd<'_>, mount: &OwnedFd, target: &Path) -> io::Result<OwnedFd> {
    let kind = FileType::from_raw_mode(statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?.stx_mode.into());
    if kind == FileType::Directory {
        return make_directory(root, target);
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Err(Errno::NOENT.into()) };
    let parent = match resolve(root, parent) {
        Err(Errno::NOENT) => make_directory(root, parent)?,
        other => other?,
    };
    openat(parent, name, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from_raw_mode(0o755))?;
    Ok(resolve(root, target)?)
}

/// Whether a process is alive.
#[must_use]
pub fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    sys::signal::send(pidfd, 0).is_ok()
}
