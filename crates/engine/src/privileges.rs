//! What a container may do: Docker's options as a request to its host's bounds.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

use droste_confine::bounds::{Machine, Request};
use droste_confine::{
    Access, Arch, Bounds, Capabilities, DeviceKind, DeviceNode, DeviceRule, KernelVersion, Privileges, Rlimit,
    SecurityOptions, SysctlScope,
};
use droste_model::container::{Config, HostConfig, NamespaceMode, Ulimit};
use droste_model::network::NetworkMode;
use droste_runtime::namespaces::HostNamespaces;
use droste_runtime::sys::open::open_at;
use droste_runtime::words;
use rustix::fs::{OFlags, ResolveFlags, major, minor};

use crate::error::{Error, Result};
use crate::host::{Host, HostState, Power, Target};
use crate::settings::Settings;

/// How many files are looked at below a host's `/dev` and other directories of devices: hosts may fill theirs.
const MOST_DEVICES: usize = 16_384;

/// Through how many containers a namespace is followed to whose it is.
const MOST_SHARERS: usize = 64;

/// The machine's facts, read once.
pub(crate) fn machine() -> Result<Machine> {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    if let Some(machine) = MACHINE.get() {
        return Ok(*machine);
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let found = Machine {
        arch: Arch::native().ok_or_else(|| Error::internal("seccomp is not known for this architecture"))?,
        kernel: kernel_version(&release),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1)),
        capabilities: machine_bounds()?.capabilities,
        default_profile: crate::apparmor::has_default(),
    };
    Ok(*MACHINE.get_or_init(|| found))
}

fn kernel_version(release: &str) -> KernelVersion {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    KernelVersion { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
}

/// The bounds of level 0: what the daemon itself may do.
pub(crate) fn machine_bounds() -> Result<Bounds> {
    let read = |name: &str| {
        let path = format!("/proc/self/{name}");
        std::fs::read_to_string(&path).map_err(|error| Error::internal(format!("read {path}: {error}")))
    };
    Bounds::machine(&read("status")?, &read("limits")?, &read("oom_score_adj")?)
        .map_err(|error| Error::internal(error.to_string()))
}

/// Refuses at creation what no start could meet, and warns of what this host does not have.
pub(crate) fn check(
    host: &HostState,
    asked: &HostConfig,
    config: &Config,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let power = host.power()?;
    // Devices are looked up at the start, when they are given.
    let mut without_devices = asked.clone();
    without_devices.resources.devices = None;
    let (_, left_out) = bound(host, &power, &without_devices, settings)?;
    warnings.extend(left_out);
    if config.stop_timeout.is_some_and(|seconds| seconds < -1) {
        return Err(Error::invalid("invalid stop timeout: it is a number of seconds, or -1 for never"));
    }
    if let Some(signal) = &config.stop_signal {
        signal.parse::<droste_model::signal::Signal>().map_err(|error| Error::invalid(error.to_string()))?;
    }
    Ok(())
}

/// What the container gets of what was asked, on a host with this power. Called at creation for the warnings, and
/// at every start anew, because the host's bounds may be others by then.
pub(crate) fn bound(
    host: &HostState,
    power: &Power,
    asked: &HostConfig,
    settings: &Settings,
) -> Result<(Privileges, Vec<String>)> {
    let request = request(&power.namespaces, asked, settings)?;
    let bounds = crate::apparmor::bounds(host, &power.bounds)?;
    bounds.bound(&request, &machine()?).map_err(|error| Error::invalid(error.to_string()))
}

fn request(namespaces: &HostNamespaces, asked: &HostConfig, settings: &Settings) -> Result<Request> {
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let invalid = |error: &dyn std::fmt::Display| Error::invalid(error.to_string());
    let security = security(asked, settings)?;
    let rules = words(&asked.resources.device_cgroup_rules);
    let device_rules =
        rules.iter().map(|rule| rule.parse()).collect::<Result<Vec<_>, _>>().map_err(|error| invalid(&error))?;
    Ok(Request {
        privileged: asked.privileged,
        cap_add: words(&asked.cap_add),
        cap_drop: words(&asked.cap_drop),
        security,
        devices: devices(namespaces, asked)?,
        device_rules,
        rlimits: rlimits(asked, &settings.default_ulimits)?,
        oom_score_adj: asked.oom_score_adj,
        masked_paths: asked.masked_paths.clone(),
        read_only_paths: asked.readonly_paths.clone(),
    })
}

/// The container's own limits over the daemon's defaults.
fn rlimits(asked: &HostConfig, defaults: &[Ulimit]) -> Result<Vec<Rlimit>> {
    let own = asked.resources.ulimits.iter().flatten();
    let by_name: BTreeMap<&str, &Ulimit> =
        defaults.iter().chain(own).map(|limit| (limit.name.as_str(), limit)).collect();
    let one = |limit: &&Ulimit| {
        Rlimit::new(&limit.name, limit.soft, limit.hard).map_err(|error| Error::invalid(error.to_string()))
    };
    by_name.values().map(one).collect()
}

/// The device nodes that were asked for, looked up on the host. Nothing is opened.
fn devices(namespaces: &HostNamespaces, asked: &HostConfig) -> Result<Vec<(DeviceNode, Access)>> {
    let (mappings, privileged) = (asked.resources.devices.clone().unwrap_or_default(), asked.privileged);
    if mappings.is_empty() && !privileged {
        return Ok(Vec::new());
    }
    let view = namespaces.view().map_err(|error| Error::hidden("the host's root could not be entered", error))?;
    let found = view.run(move || {
        let mut all = Vec::new();
        if privileged {
            all = collect(Path::new("/dev"))?;
        }
        for mapping in &mappings {
            let permissions = or(&mapping.permissions, "rwm");
            let access = Access::parse(permissions)
                .ok_or_else(|| Error::invalid(format!("invalid device mode: {}", mapping.permissions)))?;
            all.extend(named(&mapping.on_host, or(&mapping.in_container, &mapping.on_host), access)?);
        }
        Ok(all)
    });
    found.map_err(|error| Error::hidden("the host's devices could not be looked up", error))?
}

fn or<'a>(given: &'a str, default: &'a str) -> &'a str {
    if given.is_empty() { default } else { given }
}

/// A device, or all devices in a directory.
fn named(on_host: &str, in_container: &str, access: Access) -> Result<Vec<(DeviceNode, Access)>> {
    let missing = |error: std::io::Error| {
        Error::invalid(format!(
            "error gathering device information while adding custom device {on_host:?}: {}",
            words(&error)
        ))
    };
    let not_a_device = || {
        Error::invalid(format!(
            "error gathering device information while adding custom device {on_host:?}: not a device node"
        ))
    };
    let metadata = at(Path::new(on_host)).map_err(missing)?;
    if metadata.is_dir() {
        let below = collect(Path::new(on_host))?;
        if below.is_empty() {
            return Err(not_a_device());
        }
        let moved = below.into_iter().filter_map(|(node, _)| {
            let rest = node.path.strip_prefix(on_host)?.to_owned();
            Some((DeviceNode { path: format!("{in_container}{rest}"), ..node }, access))
        });
        return Ok(moved.collect());
    }
    let node = node(&metadata, in_container).ok_or_else(not_a_device)?;
    Ok(vec![(node, access)])
}

/// Every device node below a directory, but for terminals and the like that a container has of its own.
fn collect(directory: &Path) -> Result<Vec<(DeviceNode, Access)>> {
    const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", ".udev"];
    let mut waiting = vec![directory.to_owned()];
    let (mut found, mut seen) = (Vec::new(), 0);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_DEVICES {
                let text = format!("there are more than {MOST_DEVICES} files among this host's devices");
                return Err(Error::invalid(format!("{text}: remove what is no device from its /dev")));
            }
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !OWN.iter().any(|own| name == *own) {
                waiting.push(path);
            } else if name != "console" {
                // Not what links lead to: `/dev/stdin` would be what the daemon reads.
                let node = entry.metadata().ok().and_then(|metadata| node(&metadata, &path.to_string_lossy()));
                found.extend(node.map(|node| (node, Access::ALL)));
            }
        }
    }
    Ok(found)
}

/// What is at a path of the host, whose root is this thread's. Magic links lead nowhere.
pub(crate) fn at(path: &Path) -> std::io::Result<Metadata> {
    let root = std::fs::File::open("/")?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = open_at(&root, path, OFlags::PATH, inside)?;
    std::fs::File::from(found).metadata()
}

fn node(metadata: &Metadata, in_container: &str) -> Option<DeviceNode> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(DeviceNode {
        path: in_container.to_owned(),
        kind,
        major: major(metadata.rdev()),
        minor: minor(metadata.rdev()),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// Devices by driver need a driver, and there is none. Docker, too, says so at the start.
pub(crate) fn check_device_requests(asked: &HostConfig) -> Result<()> {
    let Some(request) = asked.resources.device_requests.iter().flatten().next() else { return Ok(()) };
    let sets = request.capabilities.iter().flatten().map(|set| format!("[{}]", set.join(" ")));
    Err(Error::internal(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.collect::<Vec<_>>().join(" ")
    )))
}

/// What `--security-opt` says, and the daemon's options where it says nothing.
pub(crate) fn security(asked: &HostConfig, settings: &Settings) -> Result<SecurityOptions> {
    let words = asked.security_opt.clone().unwrap_or_default();
    let mut options = SecurityOptions::parse(&words).map_err(|error| Error::invalid(error.to_string()))?;
    settings.security.fill(&mut options, asked.privileged);
    Ok(options)
}

/// The AppArmor profile that `--security-opt` names.
pub(crate) fn asked_profile(asked: &HostConfig) -> Option<String> {
    let words = asked.security_opt.clone().unwrap_or_default();
    SecurityOptions::parse(&words).ok()?.apparmor
}

/// Kernel parameters belong to namespaces that the container has of its own, or that another container of its host has.
pub(crate) fn check_sysctls(host: &Host, asked: &HostConfig) -> Result<()> {
    if asked.sysctls.is_empty() {
        return Ok(());
    }
    let scope = SysctlScope {
        own_ipc: is_below(host, asked, &|asked| match &asked.ipc_mode {
            NamespaceMode::Container(name) => Shared::With(name.clone()),
            mode => Shared::if_hosts(*mode == NamespaceMode::Host),
        })?,
        own_network: is_below(host, asked, &|asked| match &asked.network_mode {
            NetworkMode::Container(name) => Shared::With(name.clone()),
            mode => Shared::if_hosts(*mode == NetworkMode::Host),
        })?,
        own_uts: asked.uts_mode != NamespaceMode::Host,
    };
    for name in asked.sysctls.keys() {
        scope.admit(name).map_err(|error| Error::invalid(error.to_string()))?;
    }
    Ok(())
}

/// Whose a namespace is.
enum Shared {
    Own,
    Hosts,
    With(String),
}

impl Shared {
    fn if_hosts(hosts: bool) -> Self {
        if hosts { Self::Hosts } else { Self::Own }
    }
}

/// Whether a namespace is none of the host's own, through however many containers it is shared.
fn is_below(host: &Host, asked: &HostConfig, whose: &dyn Fn(&HostConfig) -> Shared) -> Result<bool> {
    let mut at = whose(asked);
    for _ in 0..MOST_SHARERS {
        let name = match at {
            Shared::Own => return Ok(true),
            Shared::Hosts => return Ok(false),
            Shared::With(name) => name,
        };
        at = match host.target(&name)? {
            Target::Myself(_) => return Ok(false),
            Target::Member(container) => whose(&container.record().host_config),
        };
    }
    Ok(false)
}

/// Whether a host could mount any file system itself, and unmount any: it has all that the machine has.
pub(crate) fn is_unbounded(power: &Power) -> Result<bool> {
    let bounds = &power.bounds;
    let every_device = bounds.devices.contains(&DeviceRule::everything(true));
    let none_denied = bounds.devices.iter().all(|rule| rule.allow);
    Ok(bounds.capabilities.covers(machine()?.capabilities) && bounds.seccomp.is_empty() && every_device && none_denied)
}

/// What `exec --privileged` gives on a host: all that the host has.
pub(crate) fn exec_capabilities(bounds: &Bounds, own: Capabilities, privileged: bool) -> Result<Capabilities> {
    if privileged { Ok(bounds.privileged_exec(&machine()?)) } else { Ok(own) }
}
