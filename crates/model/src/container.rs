//! What a client asks a container to be: Docker's Config and HostConfig, parsed.
//!
//! A field that Docker leaves to a default keeps "not given" apart from a value, and a list that was not given apart
//! from an empty one, because inspect shows what was asked. Sizes are bytes and durations nanoseconds, as in Docker's API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mount::Mount;
use crate::name::ContainerName;
use crate::network::{EndpointRequest, NetworkMode};
use crate::path::ContainerPath;
use crate::platform::Platform;
use crate::port::{ContainerPort, PortBindings};
use crate::signal::Signal;

/// Everything that `POST /containers/create` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateContainer {
    /// The name; `None` for a generated one.
    pub name: Option<ContainerName>,
    /// The platform asked for; `None` for whatever the image has.
    pub platform: Option<Platform>,
    /// What runs.
    pub config: Config,
    /// How it is tied to its host.
    pub host: HostConfig,
    /// What it asks of networks, by network name or id.
    pub networks: BTreeMap<String, EndpointRequest>,
}

/// What runs in a container: Docker's `Config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The host name; empty for the short id.
    pub hostname: String,
    /// The domain name.
    pub domainname: String,
    /// `user[:group]` by name or number, looked up inside the image; empty for root.
    pub user: String,
    /// The creator attaches standard input.
    pub attach_stdin: bool,
    /// The creator attaches standard output.
    pub attach_stdout: bool,
    /// The creator attaches standard error.
    pub attach_stderr: bool,
    /// Ports that the program listens on.
    pub exposed_ports: BTreeSet<ContainerPort>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub open_stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// `KEY=VALUE`, or `KEY` alone to remove one of the image's.
    pub env: Vec<String>,
    /// Arguments; `None` for the image's.
    pub cmd: Option<Vec<String>>,
    /// The program before the arguments; `None` for the image's.
    pub entrypoint: Option<Vec<String>>,
    /// The health check; `None` for the image's.
    pub healthcheck: Option<Healthcheck>,
    /// The image as typed.
    pub image: String,
    /// Anonymous volumes.
    pub volumes: BTreeSet<ContainerPath>,
    /// The working directory; empty for the image's.
    pub working_dir: String,
    /// No network at all.
    pub network_disabled: bool,
    /// MAC address of API versions below 1.44; empty if none.
    pub mac_address: String,
    /// The arguments are quoted already (Windows alone looks at it).
    #[serde(default)]
    pub args_escaped: bool,
    /// Build triggers that the image carries.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it, as typed; `None` for the image's or SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL; `None` for 10, negative for never.
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions.
    pub shell: Option<Vec<String>>,
}

/// A health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `[]` inherits, `["NONE"]` switches off, `["CMD", …]` and `["CMD-SHELL", text]` run a program.
    pub test: Vec<String>,
    /// Nanoseconds between checks; 0 inherits or 30 s.
    pub interval: i64,
    /// Nanoseconds until a check counts as failed; 0 inherits or 30 s.
    pub timeout: i64,
    /// Failures in a row that make it unhealthy; 0 inherits or 3.
    pub retries: i64,
    /// Nanoseconds in which failures do not count; 0 inherits.
    pub start_period: i64,
    /// Nanoseconds between checks in the start period; 0 inherits or 5 s.
    pub start_interval: i64,
}

/// What happens when a container ends: Docker's restart policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Not given, shown as an empty name.
    #[default]
    Unset,
    /// `no`.
    No,
    /// `on-failure[:most]`; 0 for no limit.
    OnFailure {
        /// How often at the most; 0 for no limit.
        most: u32,
    },
    /// `always`.
    Always,
    /// `unless-stopped`.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::Unset => "",
            RestartPolicy::No => "no",
            RestartPolicy::OnFailure { .. } => "on-failure",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a container that ended by itself starts again.
    pub fn restarts(self, code: i32, restarts_so_far: u32) -> bool {
        match self {
            RestartPolicy::Unset | RestartPolicy::No => false,
            RestartPolicy::OnFailure { most } => code != 0 && (most == 0 || restarts_so_far < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    /// Whether a container starts when its host is switched on.
    pub fn starts_with_host(self, stopped_by_hand: bool) -> bool {
        match self {
            RestartPolicy::Unset | RestartPolicy::No => false,
            RestartPolicy::OnFailure { .. } => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !stopped_by_hand,
        }
    }

    /// How long to wait before the next start: 100 ms, doubled each time up to a minute.
    pub fn backoff(restarts_in_a_row: u32) -> Duration {
        let doubled = Duration::from_millis(100).saturating_mul(1 << restarts_in_a_row.min(10));
        doubled.min(Duration::from_secs(60))
    }
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local`, `none`; empty for the daemon's default.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Whose namespace of a kind a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Not given.
    #[default]
    Default,
    /// One of its own (`private`).
    Private,
    /// The host's.
    Host,
    /// One of its own that others may join (`shareable`, IPC only).
    Shareable,
    /// None at all (`none`, IPC only: no /dev/shm).
    None,
    /// Another container's, by id or name.
    Container(String),
}

impl NamespaceMode {
    /// Docker's text.
    pub fn text(&self) -> String {
        match self {
            NamespaceMode::Default => String::new(),
            NamespaceMode::Private => "private".to_owned(),
            NamespaceMode::Host => "host".to_owned(),
            NamespaceMode::Shareable => "shareable".to_owned(),
            NamespaceMode::None => "none".to_owned(),
            NamespaceMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// A device of the host for a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub on_host: String,
    /// Path in the container; empty for the same.
    pub in_container: String,
    /// `rwm` or fewer; empty for all.
    pub permissions: String,
}

/// A request for devices by driver, such as GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// The driver.
    pub driver: String,
    /// How many; -1 for all.
    pub count: i64,
    /// Which.
    pub device_ids: Option<Vec<String>>,
    /// Sets of capabilities, one of which must hold.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// A resource limit of processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// The limit in force; -1 for none.
    pub soft: i64,
    /// The most it can be raised to; -1 for none.
    pub hard: i64,
}

/// A weight or rate for one block device, by its path on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Path on the host.
    pub path: String,
    /// Weight, bytes a second or operations a second.
    pub value: u64,
}

/// Limits of a container: Docker's `Resources`. Zero or empty means not limited, as in Docker's API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative CPU weight, 2 to 262144.
    pub cpu_shares: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// CPUs in units of 10⁻⁹.
    pub nano_cpus: i64,
    /// Parent cgroup, below the host's.
    pub cgroup_parent: String,
    /// Block I/O weight, 10 to 1000.
    pub blkio_weight: u16,
    /// Weights by device.
    pub blkio_weight_device: Option<Vec<DeviceLimit>>,
    /// Read limits in bytes a second.
    pub blkio_read_bps: Option<Vec<DeviceLimit>>,
    /// Write limits in bytes a second.
    pub blkio_write_bps: Option<Vec<DeviceLimit>>,
    /// Read limits in operations a second.
    pub blkio_read_iops: Option<Vec<DeviceLimit>>,
    /// Write limits in operations a second.
    pub blkio_write_iops: Option<Vec<DeviceLimit>>,
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds of each period.
    pub cpu_quota: i64,
    /// Real-time period in microseconds.
    pub cpu_realtime_period: i64,
    /// Real-time run time in microseconds.
    pub cpu_realtime_runtime: i64,
    /// CPUs, `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Devices of the host.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Rules `c 1:3 rwm` for the device cgroup.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// GPUs and the like.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Soft memory limit in bytes.
    pub memory_reservation: i64,
    /// Memory and swap together in bytes; -1 for unlimited swap.
    pub memory_swap: i64,
    /// 0 to 100, `None` or -1 for the kernel's default.
    pub memory_swappiness: Option<i64>,
    /// Do not kill for want of memory (cgroup v1).
    pub oom_kill_disable: Option<bool>,
    /// Most processes; `None`, 0 or -1 for no limit.
    pub pids_limit: Option<i64>,
    /// Process limits.
    pub ulimits: Option<Vec<Ulimit>>,
}

/// How a container is tied to its host: Docker's `HostConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Limits.
    pub resources: Resources,
    /// `-v`, in order.
    pub binds: Option<Vec<Mount>>,
    /// `--mount`, in order.
    pub mounts: Option<Vec<Mount>>,
    /// `--tmpfs`: target to options.
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// Containers whose mounts are taken over, `NAME[:ro|rw]`.
    pub volumes_from: Option<Vec<String>>,
    /// The default volume driver.
    pub volume_driver: String,
    /// The file into which the client wrote the id.
    pub container_id_file: String,
    /// Where output goes.
    pub log: LogConfig,
    /// Which network.
    pub network_mode: NetworkMode,
    /// Ports to publish.
    pub port_bindings: Option<PortBindings>,
    /// Publish every exposed port.
    pub publish_all_ports: bool,
    /// What happens when it ends.
    pub restart_policy: RestartPolicy,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// Rows and columns of its terminal at the start.
    pub console_size: (u32, u32),
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Capabilities beyond the default.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to leave out.
    pub cap_drop: Option<Vec<String>>,
    /// Cgroup namespace.
    pub cgroupns_mode: NamespaceMode,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Resolver options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `NAME:ADDRESS` for /etc/hosts; `host-gateway` is the host.
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups.
    pub group_add: Option<Vec<String>>,
    /// IPC namespace.
    pub ipc_mode: NamespaceMode,
    /// Cgroup of another container (`container:NAME`), obsolete.
    pub cgroup: String,
    /// Old-style links.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// PID namespace.
    pub pid_mode: NamespaceMode,
    /// All that its host may do.
    pub privileged: bool,
    /// The root file system is read-only.
    pub readonly_rootfs: bool,
    /// seccomp, AppArmor, no-new-privileges, …
    pub security_opt: Option<Vec<String>>,
    /// Storage driver options.
    pub storage_opt: BTreeMap<String, String>,
    /// UTS namespace.
    pub uts_mode: NamespaceMode,
    /// User namespace; only `host` or empty.
    pub userns_mode: String,
    /// Size of /dev/shm in bytes; 0 for 64 MiB.
    pub shm_size: i64,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// OCI runtime; empty for Droste's own.
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// Paths hidden from it; `None` for the default.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that it can't write; `None` for the default.
    pub readonly_paths: Option<Vec<String>>,
    /// Run an init as PID 1; `None` for the daemon's default.
    pub init: Option<bool>,
}

/// A process to run in a container: `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecConfig {
    /// `user[:group]`; empty for the container's.
    pub user: String,
    /// With all that the container's host may do.
    pub privileged: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Rows and columns of that terminal.
    pub console_size: Option<(u32, u32)>,
    /// Standard input is wanted.
    pub attach_stdin: bool,
    /// Standard output is wanted.
    pub attach_stdout: bool,
    /// Standard error is wanted.
    pub attach_stderr: bool,
    /// Keys that detach; empty for the default.
    pub detach_keys: String,
    /// Further `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory; empty for the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub cmd: Vec<String>,
}

/// The signal that stops a container with this configuration.
pub fn stop_signal(config: &Config) -> Signal {
    config.stop_signal.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_decide_as_docker_does() {
        assert!(!RestartPolicy::No.restarts(1, 0));
        assert!(!RestartPolicy::OnFailure { most: 0 }.restarts(0, 0));
        assert!(RestartPolicy::OnFailure { most: 0 }.restarts(1, 99));
        assert!(RestartPolicy::OnFailure { most: 3 }.restarts(1, 2));
        assert!(!RestartPolicy::OnFailure { most: 3 }.restarts(1, 3));
        assert!(RestartPolicy::Always.restarts(0, 99));
    }

    #[test]
    fn back_off_doubles_up_to_a_minute() {
        let waits: Vec<u64> = [0, 1, 2, 9, 10, 40]
            .iter()
            .map(|n| u64::try_from(RestartPolicy::backoff(*n).as_millis()).unwrap())
            .collect();
        assert_eq!(waits, [100, 200, 400, 51_200, 60_000, 60_000]);
    }
}
