//! What the shim is told to do, as plain values. Descriptors travel beside a plan; it names them by [`FdIndex`].
//!
//! Nothing here decides: bounds, defaults and look-ups on a host were settled by the engine.

use std::fmt;
use std::ops::BitOr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The place of a descriptor in the list that travels with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FdIndex(pub u32);

/// A container to launch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The container's id; it is shown in the shim's command line.
    pub id: String,
    /// An existing directory of this container alone: `shim.sock` and `exit` are made there.
    pub state_dir: String,
    /// Host name, set when the UTS namespace is new.
    pub hostname: Option<String>,
    /// NIS domain name, set when the UTS namespace is new.
    pub domainname: Option<String>,
    /// Namespaces of the container.
    pub namespaces: Namespaces,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Remount the root read-only at the end.
    pub readonly_rootfs: bool,
    /// Propagation of the root mount.
    pub rootfs_propagation: Propagation,
    /// Mounts, made in this order.
    pub mounts: Vec<Mount>,
    /// Device nodes to make once everything is mounted.
    pub devices: Vec<Device>,
    /// Symbolic links to make, as (path, target); one that exists is left alone.
    pub links: Vec<(String, String)>,
    /// Paths to hide; one that is missing is skipped.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only; one that is missing is skipped.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters, as (dotted name, value).
    pub sysctls: Vec<(String, String)>,
    /// The program.
    pub process: Process,
    /// Its control groups.
    pub cgroup: CgroupPlan,
    /// Run the program under a small init that forwards signals and reaps.
    pub init: bool,
    /// Standard streams and the log.
    pub stdio: Stdio,
    /// Descriptors that the shim holds, and hands back when asked.
    pub listeners: Vec<FdIndex>,
}

/// Another process in a running container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The exec's id.
    pub id: String,
    /// An existing directory of this exec alone.
    pub state_dir: String,
    /// A pidfd of the container's first process: its namespaces are joined.
    pub target: FdIndex,
    /// The program.
    pub process: Process,
    /// The container's control groups.
    pub cgroup: CgroupPlan,
    /// Standard streams; an exec has no log.
    pub stdio: Stdio,
}

/// Which namespaces the container gets. Its mount namespace is always new.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids.
    pub pid: PidNamespace,
    /// Network.
    pub net: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// Control groups.
    pub cgroup: Namespace,
}

/// One namespace, other than that of process ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    New,
    /// An existing one.
    Join(FdIndex),
    /// The machine's.
    Machine,
}

/// A namespace of process ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// A new one, below the machine's or below `parent` (a nested host's).
    New {
        /// The nested host's namespace.
        parent: Option<FdIndex>,
    },
    /// An existing one.
    Join(FdIndex),
    /// The machine's.
    Machine,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay, mounted in the container's own mount namespace.
    Overlay(Overlay),
    /// An existing directory.
    Directory(String),
    /// A detached mount.
    Mount(FdIndex),
}

/// An overlay mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overlay {
    /// The directory that `lowers` are relative to: short names keep the options under a page.
    pub layers_dir: String,
    /// Lower directories, topmost first.
    pub lowers: Vec<String>,
    /// Upper and work directories, absolute; without them the overlay is read-only.
    pub upper: Option<OverlayUpper>,
}

/// The writable half of an overlay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// Where changes go.
    pub upper: String,
    /// Overlay's scratch directory on the same file system.
    pub work: String,
}

/// How mount events pass between peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// Inwards.
    Slave,
    /// Both ways.
    Shared,
}

/// Flags of one mount (`MOUNT_ATTR_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFlags(pub u64);

impl MountFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const RDONLY: Self = Self(0x1);
    /// Set-user-id bits have no effect.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes can't be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);
    /// Access times are not kept.
    pub const NOATIME: Self = Self(0x10);
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for MountFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A mount, made below the container's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where; a missing mount point is made.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Flags to add. Flags that a bind's source already has stay.
    pub flags: MountFlags,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A detached mount, from `open_tree`.
    Bind {
        /// The detached mount.
        mount: FdIndex,
        /// Its propagation.
        propagation: Propagation,
        /// Let `RDONLY` hold for the mounts below it, too.
        recursive_readonly: bool,
    },
    /// A new file system.
    Fs {
        /// Its type.
        fstype: String,
        /// Its options, `key` or `key=value`.
        options: Vec<String>,
    },
    /// A directory on a tmpfs with one v1 hierarchy in each place, as (directory, options).
    CgroupV1(Vec<(String, Vec<String>)>),
}

impl Mount {
    /// A new file system of `fstype` at `target`.
    #[must_use]
    pub fn fs(fstype: &str, target: &str, options: &[&str], flags: MountFlags) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        Self { target: target.into(), source: MountSource::Fs { fstype: fstype.into(), options }, flags }
    }

    /// A private bind of a detached mount.
    #[must_use]
    pub fn bind(mount: FdIndex, target: &str, flags: MountFlags) -> Self {
        let source = MountSource::Bind { mount, propagation: Propagation::Private, recursive_readonly: false };
        Self { target: target.into(), source, flags }
    }

    /// `/proc`.
    #[must_use]
    pub fn proc() -> Self {
        Self::fs("proc", "/proc", &[], MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
    }

    /// `/sys`, read-only unless `writable`.
    #[must_use]
    pub fn sysfs(writable: bool) -> Self {
        Self::fs("sysfs", "/sys", &[], pseudo_flags(writable))
    }

    /// `/sys/fs/cgroup` of version 2, read-only unless `writable`.
    #[must_use]
    pub fn cgroup2(writable: bool) -> Self {
        Self::fs("cgroup2", "/sys/fs/cgroup", &[], pseudo_flags(writable))
    }

    /// `/dev` as an empty tmpfs.
    #[must_use]
    pub fn dev() -> Self {
        Self::fs("tmpfs", "/dev", &["size=65536k", "mode=755"], MountFlags::NOSUID)
    }

    /// `/dev/pts`, an instance of its own.
    #[must_use]
    pub fn devpts() -> Self {
        let options = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
        Self::fs("devpts", "/dev/pts", &options, MountFlags::NOSUID | MountFlags::NOEXEC)
    }

    /// `/dev/mqueue`.
    #[must_use]
    pub fn mqueue() -> Self {
        Self::fs("mqueue", "/dev/mqueue", &[], MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
    }

    /// `/dev/shm` of `size` bytes.
    #[must_use]
    pub fn shm(size: u64) -> Self {
        let size = format!("size={size}");
        Self::fs(
            "tmpfs",
            "/dev/shm",
            &["mode=1777", &size],
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        )
    }
}

fn pseudo_flags(writable: bool) -> MountFlags {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if writable { flags } else { flags | MountFlags::RDONLY }
}

/// A device node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its path in the container.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Device {
    /// A character device of root's, with mode 0666.
    #[must_use]
    pub fn char(path: &str, major: u32, minor: u32) -> Self {
        Self { path: path.into(), kind: DeviceKind::Char, major, minor, mode: 0o666, uid: 0, gid: 0 }
    }

    /// The six nodes that every container has.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
            .map(|(name, major, minor)| Self::char(&format!("/dev/{name}"), major, minor))
            .into()
    }
}

/// The links that every container has in `/dev`.
#[must_use]
pub fn default_links() -> Vec<(String, String)> {
    [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/core", "/proc/kcore"),
        ("/dev/ptmx", "pts/ptmx"),
    ]
    .map(|(path, target)| (path.to_owned(), target.to_owned()))
    .into()
}

/// The kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// The program and what it may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Arguments; the first is looked up in the container.
    pub args: Vec<String>,
    /// Environment, `NAME=value`. `HOME` is added when missing.
    pub env: Vec<String>,
    /// Working directory; made when missing.
    pub cwd: String,
    /// `user[:group]`, names or numbers, looked up in the container.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Forbid gaining privileges by `execve`.
    pub no_new_privs: bool,
    /// Seccomp filters, installed in this order.
    pub seccomp: Vec<SeccompProgram>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Preference of the OOM killer; without one it is the daemon's.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile to change to at `execve`.
    pub apparmor: Option<String>,
    /// SELinux label to have from `execve` on; without one the policy decides.
    pub selinux: Option<String>,
}

/// Capability sets, one bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The most that can ever be had.
    pub bounding: u64,
    /// In effect.
    pub effective: u64,
    /// May be put in effect.
    pub permitted: u64,
    /// Kept across `execve` together with the file's.
    pub inheritable: u64,
    /// Kept across `execve`.
    pub ambient: u64,
    /// Keep effective, permitted and ambient for a user other than root, too. Docker does not.
    pub keep_for_users: bool,
}

impl Capabilities {
    /// The same bits in the bounding, effective and permitted sets.
    #[must_use]
    pub fn all_of(bits: u64) -> Self {
        Self { bounding: bits, effective: bits, permitted: bits, ..Self::default() }
    }
}

/// A compiled seccomp filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// `struct sock_filter` values, eight bytes each, in the machine's byte order.
    pub instructions: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is no limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
    /// Go on when it can't be set.
    pub best_effort: bool,
}

/// Where the process is counted. Paths are the machine's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// The version 2 directory.
    pub v2: Option<String>,
    /// `cgroup.procs` files of version 1 hierarchies.
    pub v1_procs: Vec<String>,
    /// A file with an `oom_kill` line: `memory.events` or `memory.oom_control`.
    pub oom_events: Option<String>,
    /// `cgroup.procs` files that the shim itself goes to. In version 2 that costs an RCU grace period (about 10 ms);
    /// a service whose manager ends the daemon alone (systemd's `KillMode=process`) can leave it out.
    pub shim_procs: Vec<String>,
}

/// Standard streams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stdio {
    /// A terminal of this size, instead of pipes.
    pub tty: Option<WindowSize>,
    /// Give the process a standard input; otherwise it reads `/dev/null`.
    pub open_stdin: bool,
    /// Close standard input when the first attachment that writes to it ends.
    pub stdin_once: bool,
    /// Attachments made before the process starts: they miss nothing.
    pub attached: Vec<AttachPlan>,
    /// The log.
    pub log: Option<LogPlan>,
}

/// An attachment made before the start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AttachPlan {
    /// The shim's end of the attachment.
    pub socket: FdIndex,
    /// What passes.
    pub streams: Streams,
}

/// Which standard streams an attachment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Streams {
    /// All three.
    pub const ALL: Self = Self { stdin: true, stdout: true, stderr: true };
    /// Output and errors.
    pub const OUTPUT: Self = Self { stdin: false, stdout: true, stderr: true };
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A log file in Docker's json-file format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPlan {
    /// The file; rotated files get `.1`, `.2`, … appended.
    pub path: String,
    /// Rotate when it would grow past this many bytes.
    pub max_size: Option<u64>,
    /// Files to keep, this one included.
    pub max_file: u32,
    /// Compress rotated files.
    pub compress: bool,
    /// Pairs for each line's `attrs`.
    pub attrs: Vec<(String, String)>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 and the signal's number for one killed by a signal.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Nanoseconds since the epoch.
    pub exited_at_nanos: u64,
    /// Whether the OOM killer ended a process of the container.
    pub oom_killed: bool,
}

impl Exit {
    /// When it ended.
    #[must_use]
    pub fn exited_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.exited_at_nanos)
    }
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step that failed.
    pub step: String,
    /// Its errno, or 0.
    pub errno: i32,
    /// Docker's words where Docker has some.
    pub message: String,
    /// What a client makes of it.
    pub kind: FailureKind,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What a client makes of a failure: `docker run` exits with 127, 126 or 125.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program does not exist.
    NotFound,
    /// The program can't be executed.
    NotExecutable,
    /// Anything else.
    Other,
}
