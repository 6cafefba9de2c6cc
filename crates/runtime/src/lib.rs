//! Launches a process on a host: the per-container shim, exec, stdio, logs, and entering namespaces.
//!
//! The threaded daemon plans ([`plan`]), and a small single-threaded program, the shim, executes the plan, stays as the
//! container's parent and outlives the daemon. Both speak [`wire`]. Cgroup limits, seccomp compilation, images and
//! networks are other crates' business: their results arrive here as paths, bytes and descriptors.

pub mod lookup;
pub mod plan;
mod small;
pub mod sys;
pub mod wire;
mod words;

#[cfg(feature = "daemon")]
mod daemon;
#[cfg(feature = "daemon")]
pub use daemon::*;
pub use small::read_small;
pub use words::words;
