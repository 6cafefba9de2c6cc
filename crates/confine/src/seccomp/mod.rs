//! Seccomp: profiles in Docker's terms, and the BPF programs that the kernel runs.
//!
//! A [`Profile`] is what a person writes; [`Profile::compile`] turns it into a [`Program`] for one machine, kernel and
//! set of capabilities. Programs of a container are applied in order, the outermost host's first: the kernel runs all
//! of them and the strictest answer wins, so a container on a host is held by its host's filters whatever its own.

mod arch;
mod bpf;
mod compile;
mod default;
mod json;
mod oci;
mod profile;

pub use arch::Arch;
pub use bpf::{FILTER_FLAGS, Instruction, Program, SyscallData};
pub use compile::{Context, KernelVersion};
pub use profile::{Action, Condition, Operator, Profile, Rule, When};

/// A profile that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON of the right shape.
    #[error("Decoding seccomp profile failed: {0}")]
    Decode(String),
    /// Two ways to say the same.
    #[error("'{0}' and '{1}' were specified in the seccomp profile, use either '{0}' or '{1}'")]
    Both(&'static str, &'static str),
    /// An action that Droste does not have.
    #[error(
        "seccomp profile: action {0:?} is not supported; use one of KILL, KILL_PROCESS, TRAP, ERRNO, TRACE, LOG, ALLOW"
    )]
    Action(String),
    /// An unknown comparison.
    #[error("seccomp profile: unknown operator {0:?}")]
    Operator(String),
    /// An unknown architecture.
    #[error("seccomp profile: unknown architecture {0:?}")]
    Arch(String),
    /// An argument index above 5.
    #[error("seccomp profile: argument index {0} is not in 0..5")]
    Index(u32),
    /// Not `MAJOR.MINOR`.
    #[error("seccomp profile: kernel version {0:?} is not of the form MAJOR.MINOR")]
    Kernel(String),
    /// The kernel takes 4,096 instructions.
    #[error("seccomp profile is too large: {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}
