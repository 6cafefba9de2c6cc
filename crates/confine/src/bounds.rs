//! The bounds of a host, and the one decision about privileges: what a container gets of what it asks for.
//!
//! [`Bounds::bound`] is pure. It never gives more than the host has; what it left out it says in sentences for the
//! reply's `Warnings`. A container that becomes a host passes its own privileges on as bounds ([`Bounds::of`]).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::apparmor;
use crate::capability::{Capabilities, Capability, CapabilityError};
use crate::device::{self, Access, DeviceNode, DeviceRule};
use crate::option::{SeccompChoice, SecurityOptions};
use crate::path::PathRules;
use crate::seccomp::{Arch, Context, KernelVersion, Profile, Program, SeccompError};
use crate::ulimit::{Resource, Rlimit};

/// A request that no host could meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// A word that is no capability.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// A seccomp profile that can't be used.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// An OOM score out of range.
    #[error("Invalid value {0}, range for oom score adj is [-1000, 1000]")]
    OomScore(i64),
}

/// What is known of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its architecture.
    pub arch: Arch,
    /// Its kernel.
    pub kernel: KernelVersion,
    /// How many CPUs it has.
    pub cpus: u32,
    /// What `ALL` and `--privileged` mean before any host's bounds: the daemon's own capabilities.
    pub capabilities: Capabilities,
    /// Whether AppArmor's default profile is there for containers that name none.
    pub default_profile: bool,
}

/// What a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: SecurityOptions,
    /// `--device`, looked up on the host; for a privileged container, everything in the host's `/dev`.
    pub devices: Vec<(DeviceNode, Access)>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<DeviceRule>,
    /// `--ulimit`.
    pub rlimits: Vec<Rlimit>,
    /// `--oom-score-adj`.
    pub oom_score_adj: i64,
    /// Paths to hide instead of the default ones.
    pub masked_paths: Option<Vec<String>>,
    /// Paths to protect instead of the default ones.
    pub read_only_paths: Option<Vec<String>>,
}

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// The bounding set; also the permitted and effective sets of a process of root's. Inheritable and ambient sets
    /// are empty, as in Docker.
    pub capabilities: Capabilities,
    /// Filters to apply, in this order.
    pub seccomp: Vec<Program>,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// Nodes for its `/dev`.
    pub devices: Vec<DeviceNode>,
    /// Rules for its device cgroup, in order; what no rule allows is refused.
    pub device_rules: Vec<DeviceRule>,
    /// Limits to set, one for each resource that is known of the host or asked for.
    pub rlimits: Vec<Rlimit>,
    /// The OOM score.
    pub oom_score_adj: i32,
    /// Paths to hide and to protect.
    pub paths: PathRules,
    /// Mount `/sys` writable.
    pub writable_sysfs: bool,
    /// Mount `/sys/fs/cgroup` writable.
    pub writable_cgroups: bool,
    /// AppArmor profile to be in; `None` where nobody says.
    pub apparmor: Option<String>,
    /// SELinux options, in order.
    pub labels: Vec<String>,
}

/// What nothing on a host can exceed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Device rules, as of a device cgroup.
    pub devices: Vec<DeviceRule>,
    /// Filters that everything on it runs under.
    pub seccomp: Vec<Program>,
    /// Everything on it runs with `no_new_privs`.
    pub no_new_privileges: bool,
    /// Limits of processes; hard ones can be raised only with `CAP_SYS_RESOURCE`.
    pub rlimits: Vec<Rlimit>,
    /// The lowest OOM score without `CAP_SYS_RESOURCE`.
    pub oom_score_adj: i32,
    /// Paths that stay hidden and protected.
    pub paths: PathRules,
    /// Whether `/sys` may be writable.
    pub writable_sysfs: bool,
    /// Whether `/sys/fs/cgroup` may be writable.
    pub writable_cgroups: bool,
    /// The AppArmor profile that everything on it stays in.
    pub apparmor: Option<String>,
}

impl Bounds {
    /// The machine's: what the daemon's own process may do, from the texts of its `/proc/self/status`,
    /// `/proc/self/limits` and `/proc/self/oom_score_adj`.
    pub fn machine(status: &str, limits: &str, oom_score_adj: &str) -> Result<Bounds, CapabilityError> {
        let bounding = Capabilities::bounding_of(status)?;
        Ok(Bounds {
            capabilities: bounding.intersection(Capabilities::permitted_of(status)?),
            devices: vec![DeviceRule::everything(true)],
            seccomp: Vec::new(),
            no_new_privileges: false,
            rlimits: Rlimit::of_process(limits),
            oom_score_adj: oom_score_adj.trim().parse().unwrap_or(0),
            paths: PathRules::none(),
            writable_sysfs: true,
            writable_cgroups: true,
            apparmor: None,
        })
    }

    /// Those of a host that is a container with these privileges.
    pub fn of(container: &Privileges) -> Bounds {
        Bounds {
            capabilities: container.capabilities,
            devices: container.device_rules.clone(),
            seccomp: container.seccomp.clone(),
            no_new_privileges: container.no_new_privileges,
            rlimits: container.rlimits.clone(),
            oom_score_adj: container.oom_score_adj,
            paths: container.paths.clone(),
            writable_sysfs: container.writable_sysfs,
            writable_cgroups: container.writable_cgroups,
            apparmor: container.apparmor.clone(),
        }
    }

    /// What a container with this request gets on this host, and what it does not get, in sentences.
    pub fn bound(&self, request: &Request, machine: &Machine) -> Result<(Privileges, Vec<String>), BoundError> {
        let mut warnings = Vec::new();
        let capabilities = self.capabilities(request, machine, &mut warnings)?;
        let (devices, device_rules) = self.devices(request, &mut warnings);
        let privileges = Privileges {
            capabilities,
            seccomp: self.seccomp(request, capabilities, machine, &mut warnings)?,
            no_new_privileges: self.no_new_privileges(request, &mut warnings),
            devices,
            device_rules,
            rlimits: self.rlimits(request, &mut warnings),
            oom_score_adj: self.oom_score(request, &mut warnings)?,
            paths: self.paths(request, machine, &mut warnings),
            writable_sysfs: request.privileged && self.writable_sysfs,
            writable_cgroups: self.writable_cgroups(request, &mut warnings),
            apparmor: self.apparmor(request, machine, &mut warnings),
            labels: request.security.labels.clone(),
        };
        Ok((privileges, warnings))
    }

    /// Capabilities of a process that `exec --privileged` starts in a container on this host.
    pub fn privileged_exec(&self, machine: &Machine) -> Capabilities {
        self.passed_on(machine)
    }

    /// The capabilities that a container on this host may have: the host's own. `CAP_SYS_PTRACE` is one of them only where
    /// the host has all of the machine's, because who has it can take over the process that enters a container for an
    /// exec, and that has all of the machine's for a moment.
    fn passed_on(&self, machine: &Machine) -> Capabilities {
        if self.capabilities.covers(machine.capabilities) {
            return self.capabilities;
        }
        self.capabilities.difference(Capabilities::NONE.with(Capability::SYS_PTRACE))
    }

    fn capabilities(
        &self,
        request: &Request,
        machine: &Machine,
        warnings: &mut Vec<String>,
    ) -> Result<Capabilities, BoundError> {
        let (add, drop) = (&request.cap_add, &request.cap_drop);
        let asked = Capabilities::requested(add, drop, request.privileged, machine.capabilities)?;
        let mine = self.passed_on(machine);
        let missing = asked.difference(mine);
        let by_name = Capabilities::requested(&without_all(add), drop, false, Capabilities::NONE)?;
        let named = missing.intersection(by_name);
        if !named.is_empty() && !request.privileged {
            warnings.push(left_out("capabilities", &named.names()));
        }
        if request.privileged && !missing.is_empty() {
            warnings.push("privileged means the capabilities that this host has itself".to_owned());
        } else if missing != named {
            warnings.push("capability ALL means those that this host has itself".to_owned());
        }
        Ok(asked.intersection(mine))
    }

    fn seccomp(
        &self,
        request: &Request,
        capabilities: Capabilities,
        machine: &Machine,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Program>, BoundError> {
        let context = Context { arch: machine.arch, kernel: machine.kernel, capabilities };
        let own = match (&request.security.seccomp, request.privileged) {
            (SeccompChoice::Default, true) | (SeccompChoice::Unconfined, _) => None,
            (SeccompChoice::Default, false) | (SeccompChoice::Builtin, _) => {
                Profile::docker_default().compile(&context)?
            }
            (SeccompChoice::Profile(profile), _) => profile.compile(&context)?,
        };
        if request.security.seccomp == SeccompChoice::Unconfined && !self.seccomp.is_empty() {
            warnings.push("seccomp=unconfined: the seccomp filter of this host stays in force".to_owned());
        }
        Ok(Program::stacked(self.seccomp.iter().cloned().chain(own).collect()))
    }

    fn no_new_privileges(&self, request: &Request, warnings: &mut Vec<String>) -> bool {
        let asked = request.security.no_new_privileges;
        if self.no_new_privileges && asked == Some(false) {
            warnings.push("no-new-privileges=false: this host itself has no-new-privileges".to_owned());
        }
        self.no_new_privileges || asked.unwrap_or(false)
    }

    fn devices(&self, request: &Request, warnings: &mut Vec<String>) -> (Vec<DeviceNode>, Vec<DeviceRule>) {
        let usable = |node: &DeviceNode, access: Access| {
            !device::granted(&self.devices, &node.rule(access)).difference(Access::MAKE).is_empty()
        };
        let mut nodes: Vec<DeviceNode> = device::default_nodes();
        let mut refused = Vec::new();
        for (node, access) in &request.devices {
            match usable(node, *access) {
                true => nodes.push(node.clone()),
                false => refused.push(node.path.clone()),
            }
        }
        if !refused.is_empty() && !request.privileged {
            warnings.push(left_out("devices", &refused));
        }
        // What was asked for last has the place.
        let mut taken = BTreeSet::new();
        let mut last: Vec<DeviceNode> =
            nodes.into_iter().rev().filter(|node| taken.insert(node.path.clone())).collect();
        last.reverse();
        (last, self.device_rules(request, warnings))
    }

    fn device_rules(&self, request: &Request, warnings: &mut Vec<String>) -> Vec<DeviceRule> {
        let mut wanted = match request.privileged {
            true => vec![DeviceRule::everything(true)],
            false => device::default_rules(),
        };
        wanted.extend(request.devices.iter().map(|(node, access)| node.rule(*access)));
        let (mut rules, mut refused) = device::bounded(&self.devices, &wanted);
        if request.privileged && !refused.is_empty() {
            warnings.push("privileged means the devices that this host has itself".to_owned());
            refused.clear();
        }
        let (more, denied) = device::bounded(&self.devices, &request.device_rules);
        rules.extend(more);
        let denied: Vec<String> = denied.iter().map(DeviceRule::to_string).collect();
        if !denied.is_empty() && !request.privileged {
            warnings.push(left_out("device rules", &denied));
        }
        rules
    }

    fn rlimits(&self, request: &Request, warnings: &mut Vec<String>) -> Vec<Rlimit> {
        let raises = self.capabilities.has(Capability::SYS_RESOURCE);
        let mut limits = self.rlimits.clone();
        for asked in &request.rlimits {
            let had = limits.iter_mut().find(|had| had.resource == asked.resource);
            match had {
                Some(had) if raises || asked.hard <= had.hard => *had = *asked,
                Some(had) => {
                    let most = had.hard;
                    *had = asked.at_most(most);
                    warnings.push(format!("ulimit {asked}: this host's own hard limit holds, so it is {had}"));
                }
                None => limits.push(*asked),
            }
        }
        limits
    }

    fn oom_score(&self, request: &Request, warnings: &mut Vec<String>) -> Result<i32, BoundError> {
        let asked = oom_score(request.oom_score_adj)?;
        if asked >= self.oom_score_adj || self.capabilities.has(Capability::SYS_RESOURCE) {
            return Ok(asked);
        }
        if request.oom_score_adj != 0 {
            let own = self.oom_score_adj;
            warnings.push(format!("oom score {asked} is below this host's own, so it is {own}"));
        }
        Ok(self.oom_score_adj)
    }

    fn paths(&self, request: &Request, machine: &Machine, warnings: &mut Vec<String>) -> PathRules {
        let open = request.privileged || request.security.system_paths_unconfined;
        let base = if open { PathRules::none() } else { PathRules::docker_default(machine.cpus) };
        let asked = PathRules {
            masked: request.masked_paths.clone().unwrap_or(base.masked),
            read_only: request.read_only_paths.clone().unwrap_or(base.read_only),
        };
        if !asked.covers(&self.paths) {
            warnings.push("system paths that are masked or read-only on this host stay so".to_owned());
        }
        asked.joined(&self.paths)
    }

    fn writable_cgroups(&self, request: &Request, warnings: &mut Vec<String>) -> bool {
        let asked = request.security.writable_cgroups.unwrap_or(request.privileged);
        if asked && !self.writable_cgroups && !request.privileged {
            warnings.push("writable-cgroups: cgroups are read-only on this host itself".to_owned());
        }
        asked && self.writable_cgroups
    }

    fn apparmor(&self, request: &Request, machine: &Machine, warnings: &mut Vec<String>) -> Option<String> {
        let asked = request.security.apparmor.as_deref();
        if let Some(own) = self.confined().filter(|own| asked.is_some_and(|asked| asked != *own)) {
            warnings.push(format!("apparmor: everything on this host stays in its own profile {own}"));
        }
        self.profile(asked, request.privileged, machine.default_profile)
    }

    /// The AppArmor profile of a container: its host's, if that is in one; else the one that it names; else the default,
    /// unless it is privileged.
    pub fn profile(&self, asked: Option<&str>, privileged: bool, default: bool) -> Option<String> {
        let unasked = if privileged { Some(apparmor::UNCONFINED) } else { default.then_some(apparmor::DEFAULT) };
        self.confined().or(asked).or(unasked).map(str::to_owned)
    }

    /// The AppArmor profile that nothing on this host leaves.
    pub fn confined(&self) -> Option<&str> {
        self.apparmor.as_deref().filter(|own| *own != apparmor::UNCONFINED)
    }
}

/// Checks an OOM score's range.
pub fn oom_score(value: i64) -> Result<i32, BoundError> {
    let score = i32::try_from(value).ok().filter(|score| (-1000..=1000).contains(score));
    score.ok_or(BoundError::OomScore(value))
}

/// The limit of one resource in a list.
pub fn rlimit_of(limits: &[Rlimit], resource: Resource) -> Option<&Rlimit> {
    limits.iter().find(|limit| limit.resource == resource)
}

fn without_all(words: &[String]) -> Vec<String> {
    words.iter().filter(|word| !word.eq_ignore_ascii_case("ALL")).cloned().collect()
}

fn left_out(what: &str, names: &[String]) -> String {
    format!("{what} left out because this host does not have them: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;

    const STATUS: &str = "CapPrm:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n";
    const LIMITS: &str = "Max open files            1024                 4096                 files     \n";

    fn machine() -> Machine {
        let bounds = root();
        let kernel = KernelVersion { major: 6, minor: 1 };
        Machine { arch: Arch::X86_64, kernel, cpus: 2, capabilities: bounds.capabilities, default_profile: true }
    }

    fn root() -> Bounds {
        Bounds::machine(STATUS, LIMITS, "0\n").unwrap()
    }

    fn privileged() -> Request {
        Request { privileged: true, ..Request::default() }
    }

    /// The bounds of a host made by a plain `docker run`.
    fn plain_host() -> Bounds {
        let (privileges, warnings) = root().bound(&Request::default(), &machine()).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        Bounds::of(&privileges)
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_plain_container_has_dockers_defaults() {
        let (privileges, _) = root().bound(&Request::default(), &machine()).unwrap();
        assert_eq!(privileges.capabilities, Capabilities::DOCKER_DEFAULT);
        assert_eq!(privileges.device_rules, device::default_rules());
        assert_eq!(privileges.paths, PathRules::docker_default(2));
        assert_eq!((privileges.seccomp.len(), privileges.devices.len()), (1, 6));
        assert!(!privileges.writable_sysfs && !privileges.writable_cgroups && !privileges.no_new_privileges);
    }

    #[test]
    fn privileged_on_the_machine_is_all_that_it_has() {
        let (privileges, warnings) = root().bound(&privileged(), &machine()).unwrap();
        assert_eq!(privileges.capabilities, root().capabilities);
        assert!(!privileges.capabilities.has(Capability::SYS_RESOURCE));
        assert_eq!(privileges.device_rules, [DeviceRule::everything(true)]);
        assert!(privileges.seccomp.is_empty() && privileges.paths == PathRules::none());
        assert!(privileges.writable_sysfs && privileges.writable_cgroups);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn looking_into_all_processes_is_passed_on_with_everything_or_not_at_all() {
        let adds = |words: &[&str]| Request { cap_add: strings(words), ..Request::default() };
        let (tracer, _) = root().bound(&adds(&["SYS_PTRACE"]), &machine()).unwrap();
        assert!(tracer.capabilities.has(Capability::SYS_PTRACE));
        let (child, warnings) = Bounds::of(&tracer).bound(&adds(&["SYS_PTRACE"]), &machine()).unwrap();
        assert_eq!((child.capabilities, warnings.len()), (Capabilities::DOCKER_DEFAULT, 1));
        assert!(!Bounds::of(&tracer).privileged_exec(&machine()).has(Capability::SYS_PTRACE));
        let (whole, _) = root().bound(&privileged(), &machine()).unwrap();
        let (child, _) = Bounds::of(&whole).bound(&privileged(), &machine()).unwrap();
        assert!(child.capabilities.has(Capability::SYS_PTRACE));
    }

    #[test]
    fn privileged_on_a_plain_host_is_no_more_than_the_host() {
        let host = plain_host();
        let (child, warnings) = host.bound(&privileged(), &machine()).unwrap();
        assert!(host.capabilities.covers(child.capabilities));
        assert_eq!(child.seccomp, host.seccomp);
        assert_eq!(child.paths, host.paths);
        assert!(!child.writable_sysfs && !child.writable_cgroups);
        let disk = DeviceRule::allow(DeviceKind::Block, Some(8), Some(0), Access::READ);
        assert!(device::granted(&child.device_rules, &disk).is_empty());
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }

    #[test]
    fn what_is_left_out_is_named() {
        let host = plain_host();
        let request = Request {
            cap_add: strings(&["NET_ADMIN", "CHOWN"]),
            security: SecurityOptions::parse(&strings(&["seccomp=unconfined", "systempaths=unconfined"])).unwrap(),
            device_rules: vec!["b 8:0 rw".parse().unwrap()],
            rlimits: vec![Rlimit::parse("nofile=9999").unwrap()],
            ..Request::default()
        };
        let (child, warnings) = host.bound(&request, &machine()).unwrap();
        assert_eq!(child.capabilities, Capabilities::DOCKER_DEFAULT);
        assert_eq!(child.rlimits[0].to_string(), "nofile=4096:4096");
        let expected = ["CAP_NET_ADMIN", "seccomp", "b 8:0 rw", "nofile=9999:9999", "system paths"];
        for part in expected {
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:?}");
        }
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(!warnings.iter().any(|warning| warning.contains("CAP_CHOWN")));
    }

    #[test]
    fn no_descendant_has_more_than_an_ancestor() {
        let mut requests = vec![Request::default(), privileged()];
        requests.push(Request { cap_add: strings(&["ALL"]), cap_drop: strings(&["CHOWN"]), ..Request::default() });
        requests.push(Request { cap_drop: strings(&["ALL"]), ..Request::default() });
        let nnp = SecurityOptions { no_new_privileges: Some(true), ..SecurityOptions::default() };
        requests.push(Request { security: nnp, ..Request::default() });
        for (one, two, three) in triples(&requests) {
            let mut bounds = root();
            for request in [one, two, three] {
                let (child, _) = bounds.bound(request, &machine()).unwrap();
                assert!(bounds.capabilities.covers(child.capabilities));
                assert!(child.paths.covers(&bounds.paths));
                assert!(child.no_new_privileges >= bounds.no_new_privileges);
                assert!(child.writable_sysfs <= bounds.writable_sysfs);
                let (_, refused) = device::bounded(&bounds.devices, &child.device_rules);
                assert_eq!(refused, []);
                assert!(seccomp_covers(&bounds.seccomp, &child.seccomp));
                bounds = Bounds::of(&child);
            }
        }
    }

    #[test]
    fn nothing_on_a_host_leaves_its_profile() {
        let named = |name: &str| Request {
            security: SecurityOptions::parse(&[format!("apparmor={name}")]).unwrap(),
            ..Request::default()
        };
        let profile = |bounds: &Bounds, request: &Request| {
            let (child, warnings) = bounds.bound(request, &machine()).unwrap();
            (child.apparmor.unwrap_or_default(), warnings.iter().any(|warning| warning.starts_with("apparmor: ")))
        };
        let greedy = Request { privileged: true, ..named("unconfined") };
        for (request, is) in [(Request::default(), "droste-default"), (named("mine"), "mine")] {
            assert_eq!(profile(&root(), &request), (is.to_owned(), false));
            let host = Bounds::of(&root().bound(&request, &machine()).unwrap().0);
            for (asked, warns) in [
                (Request::default(), false),
                (privileged(), false),
                (named(is), false),
                (named("other"), true),
                (greedy.clone(), true),
            ] {
                assert_eq!(profile(&host, &asked), (is.to_owned(), warns), "{asked:?}");
            }
        }
        let open = Bounds::of(&root().bound(&privileged(), &machine()).unwrap().0);
        assert_eq!(profile(&open, &privileged()), ("unconfined".to_owned(), false));
        assert_eq!(profile(&open, &Request::default()), ("droste-default".to_owned(), false));
        let without = Machine { default_profile: false, ..machine() };
        assert_eq!(root().bound(&Request::default(), &without).unwrap().0.apparmor, None);
    }

    fn triples(all: &[Request]) -> impl Iterator<Item = (&Request, &Request, &Request)> {
        all.iter().flat_map(move |one| all.iter().flat_map(move |two| all.iter().map(move |three| (one, two, three))))
    }

    /// Whatever the outer filters refuse, the inner ones refuse.
    fn seccomp_covers(outer: &[Program], inner: &[Program]) -> bool {
        let allows = |programs: &[Program], number: u32| {
            let data = crate::seccomp::SyscallData { number, audit_arch: Arch::X86_64.audit(), arguments: [0; 6] };
            programs.iter().all(|program| program.answer(&data) == Some(0x7fff_0000))
        };
        (0..500).all(|number| allows(outer, number) || !allows(inner, number))
    }

    #[test]
    fn oom_scores() {
        assert_eq!(
            oom_score(2000).unwrap_err().to_string(),
            "Invalid value 2000, range for oom score adj is [-1000, 1000]"
        );
        let request = Request { oom_score_adj: -500, ..Request::default() };
        let (child, warnings) = root().bound(&request, &machine()).unwrap();
        assert_eq!((child.oom_score_adj, warnings.len()), (0, 1));
    }
}
