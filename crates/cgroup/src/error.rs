//! What can go wrong with cgroups. Every variant names the file or folder.

use std::io;
use std::path::PathBuf;

/// A failure of an operation on cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A cgroup path that leads out or has an empty part.
    #[error("invalid cgroup path {0:?}: it must be made of names, without . or ..")]
    Path(String),
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// A file can't be read.
    #[error("reading {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("writing {value:?} to {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A cgroup can't be made.
    #[error("making cgroup {path}: {source}")]
    Create {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cgroup can't be removed.
    #[error("removing cgroup {path}: {source}")]
    Remove {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A memory limit is lower than what is in use.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// The limit asked for.
        limit: i64,
        /// Bytes in use.
        usage: u64,
        /// The most bytes that were in use.
        peak: u64,
    },
    /// Limits that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The machine lacks a controller that the operation needs.
    #[error("the {controller} cgroup controller is not available on this machine: {what}")]
    NoController {
        /// Its name.
        controller: &'static str,
        /// What needs it.
        what: &'static str,
    },
    /// The processes of a cgroup did not freeze.
    #[error("cgroup {0} did not freeze: one of its processes can't be stopped now")]
    NotFrozen(PathBuf),
    /// Processes survive.
    #[error("cgroup {0} still has processes after SIGKILL: one of them can't be ended now")]
    NotKilled(PathBuf),
    /// A signal can't be sent.
    #[error("sending a signal to process {pid}: {source}")]
    Signal {
        /// To which.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// OOM events can't be had.
    #[error("watching {path} for OOM events: {source}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device program can't be attached.
    #[error("attaching the device program to {path}: {source}")]
    Devices {
        /// The cgroup's folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
