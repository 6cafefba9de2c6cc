//! The vocabulary of Droste: values that several crates speak of, with constructors that parse.
//!
//! Nothing here does I/O and nothing here knows Docker's wire format (that is `droste-api`) or the kernel's
//! interfaces (`droste-runtime`, `droste-cgroup`, `droste-network`).

pub mod capability;
pub mod container;
pub mod digest;
pub mod event;
pub mod host;
pub mod id;
pub mod limit;
pub mod mount;
pub mod name;
pub mod network;
pub mod path;
pub mod platform;
pub mod port;
pub mod reference;
pub mod signal;
pub mod state;
pub mod time;
