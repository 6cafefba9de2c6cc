//! The process half of a launch plan, for a container's main process and for exec alike.

use droste_confine::{Capabilities, Privileges};
use droste_model::container::Config;
use droste_runtime::plan::{Capabilities as PlanCapabilities, Process, Rlimit, SeccompProgram};

use crate::record::ContainerRecord;

/// What Docker gives every process that says nothing else.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process with the container's privileges.
pub(crate) fn process(
    privileges: &Privileges,
    capabilities: Capabilities,
    args: Vec<String>,
    env: Vec<String>,
) -> Process {
    let seccomp = |program: &droste_confine::Program| SeccompProgram {
        instructions: program.bytes(),
        flags: droste_confine::seccomp::FILTER_FLAGS,
    };
    let rlimit = |limit: &droste_confine::Rlimit| Rlimit {
        resource: u32::from(limit.resource.number()),
        soft: limit.soft,
        hard: limit.hard,
        best_effort: false,
    };
    Process {
        args,
        env,
        cwd: "/".to_owned(),
        user: String::new(),
        groups: Vec::new(),
        umask: 0o022,
        capabilities: PlanCapabilities::all_of(capabilities.bits()),
        no_new_privs: privileges.no_new_privileges,
        seccomp: privileges.seccomp.iter().map(seccomp).collect(),
        rlimits: privileges.rlimits.iter().map(rlimit).collect(),
        oom_score_adj: Some(privileges.oom_score_adj),
        apparmor: crate::apparmor::applied(privileges).map(str::to_owned),
        selinux: None,
    }
}

/// Testcontainers takes a container's own default gateway for the machine that publishes its ports. On a host they
/// are published in the host's own network namespace.
const PUBLISHED_HERE: &str = "TESTCONTAINERS_HOST_OVERRIDE=localhost";

/// The environment of a container's processes: Docker's own variables, what a host's clients can't find out, those of
/// linked containers, then the configured ones; `KEY` alone removes.
pub(crate) fn environment(record: &ContainerRecord, linked: &[String], more: &[String]) -> Vec<String> {
    complete(&record.config, record.is_host().then_some(PUBLISHED_HERE), linked, more)
}

fn complete(config: &Config, host: Option<&str>, linked: &[String], more: &[String]) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(host.map(str::to_owned));
    for entry in linked.iter().chain(&config.env).chain(more) {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|known| known.split_once('=').map_or(known.as_str(), |(name, _)| name) != name);
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_completed_and_cut() {
        let config = Config {
            hostname: "h".into(),
            tty: true,
            env: vec!["A=1".into(), "PATH=/x".into(), "TERM".into()],
            ..Config::default()
        };
        assert_eq!(complete(&config, None, &[], &["A=2".to_owned()]), ["HOSTNAME=h", "PATH=/x", "A=2"]);
        assert_eq!(complete(&config, Some("H=x"), &[], &["H".to_owned()]), ["HOSTNAME=h", "A=1", "PATH=/x"]);
        let hosts = complete(&config, Some("H=x"), &["L=y".to_owned()], &["H=z".to_owned()]);
        assert_eq!(hosts, ["HOSTNAME=h", "L=y", "A=1", "PATH=/x", "H=z"]);
    }
}
