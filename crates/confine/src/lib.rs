//! What a container may do, as pure values: capabilities, seccomp programs, devices, masked paths, limits of
//! processes, kernel parameters, and the bounds of a host that nothing on it can exceed.
//!
//! Nothing here acts. The engine reads a request, turns it into a [`Request`], asks [`Bounds::bound`] for the
//! [`Privileges`] that remain, and hands their numbers and programs to the launcher. Applying them is the runtime's
//! part, device cgroups are the cgroup crate's.

pub mod apparmor;
pub mod bounds;
pub mod capability;
pub mod device;
pub mod option;
pub mod path;
pub mod seccomp;
pub mod sysctl;
pub mod ulimit;

pub use bounds::{BoundError, Bounds, Machine, Privileges, Request};
pub use capability::{Capabilities, Capability, CapabilityError};
pub use device::{Access, DeviceError, DeviceKind, DeviceNode, DeviceRule};
pub use option::{OptionError, SeccompChoice, SecurityOptions};
pub use path::PathRules;
pub use seccomp::{Arch, KernelVersion, Profile, Program, SeccompError};
pub use sysctl::{SysctlError, SysctlScope};
pub use ulimit::{Resource, Rlimit, UlimitError};
