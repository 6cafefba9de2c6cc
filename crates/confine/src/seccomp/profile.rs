//! A seccomp profile: a default answer, and rules for named system calls that hold under stated circumstances.

use serde::{Deserialize, Serialize};

use super::SeccompError;
use crate::capability::{Capabilities, Capability};
use crate::seccomp::compile::{Context, KernelVersion};

const EPERM: u16 = 1;

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// End the thread.
    KillThread,
    /// End the process.
    KillProcess,
    /// Send SIGSYS.
    Trap,
    /// Fail with this number.
    Errno(u16),
    /// Ask the tracer, with this number.
    Trace(u16),
    /// Let through and log.
    Log,
    /// Let through.
    Allow,
}

impl Action {
    /// From a profile's `SCMP_ACT_*` and `errnoRet`.
    pub fn parse(name: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
        let errno = errno.map_or(EPERM, |number| u16::try_from(number).unwrap_or(u16::MAX).min(4095));
        Ok(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
            "SCMP_ACT_TRAP" => Action::Trap,
            "SCMP_ACT_ERRNO" => Action::Errno(errno),
            "SCMP_ACT_TRACE" => Action::Trace(errno),
            "SCMP_ACT_LOG" => Action::Log,
            "SCMP_ACT_ALLOW" => Action::Allow,
            other => return Err(SeccompError::Action(other.to_owned())),
        })
    }

    /// The kernel's number, `SECCOMP_RET_*` with its data.
    pub fn code(self) -> u32 {
        match self {
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// Whether an unknown system call is let through by it.
    pub(super) fn is_permissive(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// ≠
    NotEqual,
    /// <
    Less,
    /// ≤
    LessOrEqual,
    /// =
    Equal,
    /// ≥
    GreaterOrEqual,
    /// >
    Greater,
    /// `(argument & value) == value_two`
    MaskedEqual,
}

impl Operator {
    /// From a profile's `SCMP_CMP_*`.
    pub fn parse(name: &str) -> Result<Operator, SeccompError> {
        Ok(match name {
            "SCMP_CMP_NE" => Operator::NotEqual,
            "SCMP_CMP_LT" => Operator::Less,
            "SCMP_CMP_LE" => Operator::LessOrEqual,
            "SCMP_CMP_EQ" => Operator::Equal,
            "SCMP_CMP_GE" => Operator::GreaterOrEqual,
            "SCMP_CMP_GT" => Operator::Greater,
            "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
            other => return Err(SeccompError::Operator(other.to_owned())),
        })
    }
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// What remains under the mask.
    pub value_two: u64,
}

/// Circumstances: each part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// The machine is one of these (`amd64`, `arm64`, …); empty for any.
    pub arches: Vec<String>,
    /// The container has these.
    pub capabilities: Vec<String>,
    /// The kernel is this or newer.
    pub min_kernel: Option<KernelVersion>,
}

impl When {
    /// As `includes`: all of it holds.
    fn includes(&self, context: &Context) -> bool {
        (self.arches.is_empty() || self.arches.iter().any(|name| name == context.arch.filter_name()))
            && self.capabilities.iter().all(|name| has(context.capabilities, name))
            && self.min_kernel.is_none_or(|least| context.kernel >= least)
    }

    /// As `excludes`: any of it holds.
    fn excludes(&self, context: &Context) -> bool {
        self.arches.iter().any(|name| name == context.arch.filter_name())
            || self.capabilities.iter().any(|name| has(context.capabilities, name))
            || self.min_kernel.is_some_and(|least| context.kernel >= least)
    }
}

/// A profile may name capabilities that this program does not know; nobody has those.
fn has(held: Capabilities, name: &str) -> bool {
    Capability::parse(name).is_some_and(|one| held.has(one))
}

/// What happens to some system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Names of system calls; those that a machine does not have are passed over.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// Conditions on arguments. Several on different arguments must all hold; if two are on the same one, each of
    /// them is enough.
    pub conditions: Vec<Condition>,
    /// The rule holds only then.
    pub includes: When,
    /// The rule does not hold then.
    pub excludes: When,
}

impl Rule {
    /// Whether the rule holds there.
    pub fn applies(&self, context: &Context) -> bool {
        self.includes.includes(context) && !self.excludes.excludes(context)
    }
}

/// A seccomp profile in Docker's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What happens to a call that no rule is about.
    pub default_action: Action,
    /// Architectures to allow beside the machine's own, by the machine's: `SCMP_ARCH_*`.
    pub arch_map: Vec<(String, Vec<String>)>,
    /// Architectures to allow whatever the machine is.
    pub architectures: Vec<String>,
    /// Rules, in order.
    pub rules: Vec<Rule>,
}
