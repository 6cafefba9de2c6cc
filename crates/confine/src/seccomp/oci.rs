//! A profile as the `linux.seccomp` of an OCI runtime's configuration (OCI Runtime Specification, Linux).

use serde_json::{Value, json};

use super::{Action, Condition, Context, Operator, Profile};

impl Action {
    fn oci_name(self) -> &'static str {
        match self {
            Action::KillThread => "SCMP_ACT_KILL_THREAD",
            Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Action::Trap => "SCMP_ACT_TRAP",
            Action::Errno(_) => "SCMP_ACT_ERRNO",
            Action::Trace(_) => "SCMP_ACT_TRACE",
            Action::Log => "SCMP_ACT_LOG",
            Action::Allow => "SCMP_ACT_ALLOW",
        }
    }

    fn number(self) -> Option<u16> {
        match self {
            Action::Errno(number) | Action::Trace(number) => Some(number),
            _ => None,
        }
    }
}

impl Operator {
    fn oci_name(self) -> &'static str {
        match self {
            Operator::NotEqual => "SCMP_CMP_NE",
            Operator::Less => "SCMP_CMP_LT",
            Operator::LessOrEqual => "SCMP_CMP_LE",
            Operator::Equal => "SCMP_CMP_EQ",
            Operator::GreaterOrEqual => "SCMP_CMP_GE",
            Operator::Greater => "SCMP_CMP_GT",
            Operator::MaskedEqual => "SCMP_CMP_MASKED_EQ",
        }
    }
}

fn argument(condition: &Condition) -> Value {
    json!({
        "index": condition.index,
        "value": condition.value,
        "valueTwo": condition.value_two,
        "op": condition.operator.oci_name(),
    })
}

impl Profile {
    /// The profile with only those rules that hold in these circumstances, which an OCI runtime does not know.
    pub fn to_oci(&self, context: &Context) -> Value {
        let own = context.arch.profile_name();
        let beside = self.arch_map.iter().filter(|(arch, _)| arch == own).flat_map(|(_, others)| others);
        let architectures: Vec<&str> =
            std::iter::once(own).chain(beside.chain(&self.architectures).map(String::as_str)).collect();
        let rule = |rule: &super::Rule| {
            let mut value = json!({ "names": rule.names, "action": rule.action.oci_name() });
            if let Some(number) = rule.action.number() {
                value["errnoRet"] = number.into();
            }
            if !rule.conditions.is_empty() {
                value["args"] = rule.conditions.iter().map(argument).collect();
            }
            value
        };
        let syscalls: Vec<Value> = self.rules.iter().filter(|rule| rule.applies(context)).map(rule).collect();
        let mut profile = json!({
            "defaultAction": self.default_action.oci_name(),
            "architectures": architectures,
            "syscalls": syscalls,
        });
        if let Some(number) = self.default_action.number() {
            profile["defaultErrnoRet"] = number.into();
        }
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capabilities;
    use crate::seccomp::{Arch, KernelVersion};

    #[test]
    fn what_it_says_compiles_to_the_same_program() {
        let context = Context {
            arch: Arch::native().unwrap(),
            kernel: KernelVersion { major: 6, minor: 1 },
            capabilities: Capabilities::DOCKER_DEFAULT,
        };
        let profile = Profile::docker_default();
        let again = Profile::from_json(&profile.to_oci(&context).to_string()).unwrap();
        assert_eq!(again.compile(&context).unwrap(), profile.compile(&context).unwrap());
    }
}
