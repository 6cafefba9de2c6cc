//! Cgroups v2, v1 and hybrid, as they are on the machine: place, limits, statistics, freezing, killing, OOM, and the
//! processes in them.
//!
//! A [`Layout`] says which hierarchies there are. [`Cgroups`] is the engine's part of them; a [`Cgroup`] is one path in
//! all of them at once. A controller is looked up where it lives, so a hybrid machine needs no code of its own: limits
//! go to v1, and what the v2 tree offers without controllers (kill, freeze, populated) is used there.
//!
//! Placing a process and loading a device program need syscalls that are the runtime's: this crate gives the files to
//! write to ([`Cgroup::procs_files`]) and the program ([`devices::program`]).

pub mod devices;
pub mod limits;
pub mod path;
pub mod process;
pub mod stats;
pub mod system;

mod apply;
mod error;
mod events;
mod file;
mod group;
mod layout;
mod support;
mod view;

pub use error::CgroupError;
pub use events::OomWatch;
pub use group::{Cgroup, Cgroups};
pub use layout::{Hierarchy, Layout, Version};
pub use limits::{DeviceNumber, DeviceValue, Limits};
pub use path::CgroupPath;
pub use stats::Stats;
pub use support::Support;
pub use view::{Effective, LegacyMount, View};
