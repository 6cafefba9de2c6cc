//! What the threaded daemon uses. Nothing here forks: shims are spawned, and each does one container's or exec's work.

pub mod apparmor;
mod attach;
pub mod filesystems;
pub mod logs;
mod mountinfo;
pub mod namespaces;
pub mod oci;
pub mod selinux;
mod shim;
mod spawn;

pub use attach::{Attachment, InputWriter, OutputReader, Stream};
pub use shim::{Ending, Reconnected, Shim};
pub use spawn::{LaunchError, Runtime, RuntimeError};

/// The shim's program, built by this crate's build script.
pub const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/droste-shim"));
