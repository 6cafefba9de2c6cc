//! What clients ask of the engine beside a container's configuration.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use droste_model::container::{Config, Resources, RestartPolicy};
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use droste_model::time::Timestamp;
use tokio::sync::mpsc;

use crate::error::Result;

/// A body that a client sends, read on a blocking thread.
pub type Upload = Box<dyn Read + Send>;

/// A body that a client gets.
pub type Download = mpsc::Receiver<Result<Bytes>>;

/// `docker rm`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes.
    pub volumes: bool,
    /// Remove the link of this name, not the container.
    pub link: bool,
}

/// What `docker wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run, be it now.
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is gone.
    Removed,
}

/// What `docker wait` hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitOutcome {
    /// The exit code.
    pub code: i64,
    /// Why it could not be waited for.
    pub error: Option<String>,
}

/// `docker attach`.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Send standard input.
    pub stdin: bool,
    /// Get standard output.
    pub stdout: bool,
    /// Get standard error.
    pub stderr: bool,
    /// Keys that detach; `None` for ctrl-p ctrl-q.
    pub detach_keys: Option<String>,
}

/// `docker exec`, its second half.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecStart {
    /// Do not attach.
    pub detach: bool,
    /// The client expects a terminal.
    pub tty: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
}

/// `docker logs`.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// From here.
    pub since: Option<Timestamp>,
    /// Until here.
    pub until: Option<Timestamp>,
    /// At most so many of the last lines.
    pub tail: Option<usize>,
    /// With the attributes that the log options ask for.
    pub details: bool,
}

/// `docker update`: zero and empty leave a value as it is, as in Docker.
#[derive(Clone, Debug, Default)]
pub struct UpdateContainer {
    /// Limits.
    pub resources: Resources,
    /// The restart policy.
    pub restart_policy: Option<RestartPolicy>,
}

/// Which stream bytes belong to; the numbers are those of Docker's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Standard input.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// A failure of the engine in the midst of a stream.
    SystemError = 3,
}

/// Bytes that a process wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where to.
    pub stream: StreamKind,
    /// What.
    pub bytes: Bytes,
}

/// A line of a container's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Where it was written to.
    pub stream: StreamKind,
    /// When.
    pub time: Timestamp,
    /// The line with its newline, if it had one.
    pub bytes: Bytes,
    /// Attributes `a=b,c=d`.
    pub attrs: String,
}

/// A container's log as a stream of lines.
pub struct Logs {
    /// The container has a terminal, so the lines are sent without framing.
    pub tty: bool,
    /// The lines.
    pub lines: mpsc::Receiver<Result<LogLine>>,
}

/// The kind of a change in a container's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Changed.
    Modified = 0,
    /// Added.
    Added = 1,
    /// Deleted.
    Deleted = 2,
}

/// A path in a container.
#[derive(Clone, Debug)]
pub struct PathStat {
    /// Its last component.
    pub name: String,
    /// Size in bytes.
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// When it was changed.
    pub mtime: Timestamp,
    /// What a symbolic link points to, resolved inside the container; empty for others.
    pub link_target: String,
}

/// `PUT archive`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteArchive {
    /// Refuse to replace a directory by a file or the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners.
    pub copy_uid_gid: bool,
}

/// `docker top`.
#[derive(Clone, Debug)]
pub struct Top {
    /// Column titles.
    pub titles: Vec<String>,
    /// A row for each process.
    pub processes: Vec<Vec<String>>,
}

/// `docker import`.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The tag to give.
    pub reference: Option<Reference>,
    /// The comment of its history.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The platform; `None` for the machine's.
    pub platform: Option<Platform>,
}

/// `docker commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The tag to give.
    pub reference: Option<Reference>,
    /// The comment of its history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// A configuration that replaces the container's.
    pub config: Option<Config>,
}

/// `docker rmi`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveImage {
    /// Even if stopped containers use it or it has several tags.
    pub force: bool,
    /// Remove parents without a tag too.
    pub prune: bool,
}

/// What `docker rmi` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A tag or digest is gone.
    Untagged(String),
    /// An image or layer is gone.
    Deleted(String),
}

/// A volume that a client wants.
#[derive(Clone, Debug, Default)]
pub struct NewVolume {
    /// Its name; `None` for one that nobody chooses.
    pub name: Option<droste_model::name::VolumeName>,
    /// Who keeps its files; empty for the default, `local`.
    pub driver: String,
    /// Options of the driver, as given.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels, as given.
    pub labels: Option<BTreeMap<String, String>>,
}
