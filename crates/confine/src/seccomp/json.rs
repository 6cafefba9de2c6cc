//! Profiles in Docker's JSON, the format of `--security-opt seccomp=FILE`.

use serde::Deserialize;

use super::{Action, Condition, Operator, Profile, Rule, SeccompError, When};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ProfileJson {
    default_action: String,
    default_errno_ret: Option<u32>,
    arch_map: Option<Vec<ArchJson>>,
    architectures: Option<Vec<String>>,
    syscalls: Option<Vec<SyscallJson>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchJson {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SyscallJson {
    name: String,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Option<ArgJson>>>,
    includes: Option<WhenJson>,
    excludes: Option<WhenJson>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArgJson {
    index: u32,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WhenJson {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Names of architectures that a profile may contain although they can't be this machine.
const FOREIGN: [&str; 18] = [
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
];

impl Profile {
    /// Reads a profile.
    pub fn from_json(text: &str) -> Result<Profile, SeccompError> {
        let json: ProfileJson = serde_json::from_str(text).map_err(|error| SeccompError::Decode(error.to_string()))?;
        let architectures = json.architectures.unwrap_or_default();
        let map = json.arch_map.unwrap_or_default();
        if !architectures.is_empty() && !map.is_empty() {
            return Err(SeccompError::Both("architectures", "archMap"));
        }
        let syscalls = json.syscalls.unwrap_or_default();
        let default_action = match json.default_action.as_str() {
            "" if syscalls.is_empty() => Action::Allow,
            name => Action::parse(name, json.default_errno_ret)?,
        };
        architectures.iter().try_for_each(|name| known(name))?;
        Ok(Profile {
            default_action,
            arch_map: map.into_iter().map(arch).collect::<Result<_, _>>()?,
            architectures,
            rules: syscalls.into_iter().map(rule).collect::<Result<_, _>>()?,
        })
    }
}

fn known(name: &str) -> Result<(), SeccompError> {
    let ours = super::Arch::from_profile_name(name).is_some();
    let foreign = name.strip_prefix("SCMP_ARCH_").is_some_and(|bare| FOREIGN.contains(&bare));
    (ours || foreign).then_some(()).ok_or_else(|| SeccompError::Arch(name.to_owned()))
}

fn arch(json: ArchJson) -> Result<(String, Vec<String>), SeccompError> {
    let more = json.sub_architectures.unwrap_or_default();
    std::iter::once(&json.architecture).chain(&more).try_for_each(|name| known(name))?;
    Ok((json.architecture, more))
}

fn rule(json: SyscallJson) -> Result<Rule, SeccompError> {
    let names = json.names.unwrap_or_default();
    let names = match (json.name.is_empty(), names.is_empty()) {
        (false, false) => return Err(SeccompError::Both("name", "names")),
        (false, true) => vec![json.name],
        (true, _) => names,
    };
    let args = json.args.unwrap_or_default().into_iter().flatten();
    Ok(Rule {
        names,
        action: Action::parse(&json.action, json.errno_ret)?,
        conditions: args.map(condition).collect::<Result<_, _>>()?,
        includes: when(json.includes)?,
        excludes: when(json.excludes)?,
    })
}

fn condition(json: ArgJson) -> Result<Condition, SeccompError> {
    let index = u8::try_from(json.index).ok().filter(|index| *index < 6);
    Ok(Condition {
        index: index.ok_or(SeccompError::Index(json.index))?,
        operator: Operator::parse(&json.op)?,
        value: json.value,
        value_two: json.value_two,
    })
}

fn when(json: Option<WhenJson>) -> Result<When, SeccompError> {
    let json = json.unwrap_or_default();
    Ok(When {
        arches: json.arches.unwrap_or_default(),
        capabilities: json.caps.unwrap_or_default(),
        min_kernel: json.min_kernel.filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()?,
    })
}
