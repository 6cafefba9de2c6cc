//! The processes of a cgroup, as `docker top` shows them.
//!
//! Docker runs the machine's `ps`; Droste reads `/proc` and prints the same columns itself. [`Format`] understands the
//! options of `ps` that say what to print (`-ef`, `aux`, `-o pid,comm`); options that choose processes are accepted and
//! change nothing, because the cgroup has chosen them.

mod column;
mod format;
mod proc;

pub use column::Column;
pub use format::{Format, FormatError, Table};
pub use proc::{Pids, Process, Snapshot};
