//! What a host shows of its objects: values for the daemon to dress in Docker's JSON.
//!
//! A view is made for one host and holds nothing that this host may not see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use droste_model::container::{Config, HostConfig};
use droste_model::host::{Grant, HostId};
use droste_model::id::{ContainerId, ExecId, NetworkId};
use droste_model::name::ContainerName;
use droste_model::network::EndpointRequest;
use droste_model::port::PublishedPort;
use droste_model::state::{Health, State};
use droste_model::time::Timestamp;

use crate::limits::LimitView;

/// A container as its host sees it.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: ContainerName,
    /// The names by which others are linked to it, `OTHER/ALIAS`; lists alone show them.
    pub linked_as: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// When it ended the last time, if it ever did.
    pub last_finished: Option<Timestamp>,
    /// What its health checks say.
    pub health: Option<Health>,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// The digest of the manifest that the image came from, if known.
    pub image_manifest: Option<String>,
    /// The platform's operating system.
    pub os: String,
    /// What runs: the request merged with the image's configuration.
    pub config: Config,
    /// How it is tied to its host, as asked and completed.
    pub host: HostConfig,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// What is mounted.
    pub mounts: Vec<MountView>,
    /// Its networks by name.
    pub networks: BTreeMap<String, EndpointView>,
    /// Ports published now.
    pub ports: Vec<PublishedPort>,
    /// The files that the engine keeps for it.
    pub files: FilesView,
    /// Processes started by exec.
    pub exec_ids: Vec<ExecId>,
    /// Name of the network namespace's file; empty when not running.
    pub sandbox_key: String,
    /// Sandbox id, empty when never started.
    pub sandbox_id: String,
    /// The overlay's directories; `None` where the host may not see them.
    pub overlay: Option<OverlayView>,
    /// The process id as the host sees it; 0 when not running.
    pub pid: u32,
    /// The AppArmor profile in force; empty for none.
    pub apparmor_profile: String,
    /// Whether its socket makes it a host.
    pub is_host: bool,
}

/// The files that the engine keeps for a container, as paths that its host may see; empty otherwise.
#[derive(Clone, Debug, Default)]
pub struct FilesView {
    /// /etc/resolv.conf.
    pub resolv_conf: String,
    /// /etc/hostname.
    pub hostname: String,
    /// /etc/hosts.
    pub hosts: String,
    /// The log; empty for a driver without a file.
    pub log: String,
}

/// The directories of a container's overlay.
#[derive(Clone, Debug)]
pub struct OverlayView {
    /// Image layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where writes go.
    pub upper: PathBuf,
    /// The overlay's work directory.
    pub work: PathBuf,
    /// The whole.
    pub merged: PathBuf,
}

/// The kind of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image.
    Image,
}

/// One mount of a container.
#[derive(Clone, Debug)]
pub struct MountView {
    /// Its kind.
    pub kind: MountKind,
    /// The volume's name; empty for others.
    pub name: String,
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// The volume's driver; empty for others.
    pub driver: String,
    /// Mode letters as typed.
    pub mode: String,
    /// Writable.
    pub writable: bool,
    /// Propagation; empty for tmpfs and volumes.
    pub propagation: String,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default)]
pub struct EndpointView {
    /// What was asked.
    pub request: EndpointRequest,
    /// The network's id; empty before the first start.
    pub network_id: String,
    /// The endpoint's id; empty when not running.
    pub endpoint_id: String,
    /// IPv4 address on the network while running.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv6 address on the network while running.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// IPv4 gateway while running.
    pub gateway4: Option<Ipv4Addr>,
    /// IPv6 gateway while running.
    pub gateway6: Option<Ipv6Addr>,
    /// MAC address while running.
    pub mac: String,
    /// Names under which the network's DNS knows it.
    pub dns_names: Vec<String>,
}

/// The answer to a creation.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new container.
    pub id: ContainerId,
    /// What was left out or is odd.
    pub warnings: Vec<String>,
}

/// A process started by exec.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// The container.
    pub container: ContainerId,
    /// It runs.
    pub running: bool,
    /// Its exit code, once it ended.
    pub exit_code: Option<i32>,
    /// Its process id as the host sees it; 0 before the start.
    pub pid: u32,
    /// What was asked.
    pub config: Arc<droste_model::container::ExecConfig>,
    /// Standard input was opened.
    pub open_stdin: bool,
    /// The bytes of the keys that detach; none for the default ones.
    pub detach_keys: Vec<u8>,
}

/// A network of a host.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `local`, or what the client said.
    pub scope: String,
    /// `bridge`, `host`, `null`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// It has IPv4.
    pub ipv4: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// Its subnets.
    pub subnets: Vec<SubnetView>,
    /// Options of the address driver as given.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Without a way out.
    pub internal: bool,
    /// As given.
    pub attachable: bool,
    /// The network whose options it has; empty for its own.
    pub config_from: String,
    /// A set of options for others, no network.
    pub config_only: bool,
    /// Options as inspect shows them.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Every host has it from the beginning.
    pub builtin: bool,
    /// A running container, or the host itself, is on it.
    pub used: bool,
    /// Running containers on it.
    pub containers: Vec<NetworkMember>,
}

/// A subnet of a network.
#[derive(Clone, Debug)]
pub struct SubnetView {
    /// The subnet.
    pub subnet: String,
    /// The part from which addresses are given, if it is not all.
    pub range: Option<String>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A running container on a network.
#[derive(Clone, Debug)]
pub struct NetworkMember {
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The endpoint's id.
    pub endpoint_id: String,
    /// MAC address; empty if it has none there.
    pub mac: String,
    /// IPv4 address with prefix length; `None` if it has none there.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv6 address with prefix length; `None` if it has none there.
    pub v6: Option<(Ipv6Addr, u8)>,
}

/// An image as a host sees it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// `sha256:…`.
    pub id: String,
    /// Tags of this host, `name:tag` in familiar form.
    pub tags: Vec<String>,
    /// Digests, `name@sha256:…` in familiar form.
    pub digests: Vec<String>,
    /// The image's configuration and layers.
    pub image: Arc<droste_image::Image>,
    /// When this host last tagged it.
    pub last_tagged: Option<Timestamp>,
    /// How many of this host's containers use it.
    pub containers: usize,
    /// Bytes that other images of this host use too, where it was asked.
    pub shared_size: Option<u64>,
    /// Where its layers lie, topmost first; empty in lists, and where the host may not see paths of the machine.
    pub directories: Vec<PathBuf>,
}

/// One step of an image's history.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// The step as the image tells it.
    pub step: droste_image::History,
    /// Bytes of its layer's files.
    pub size: u64,
    /// The image's id, at the latest step.
    pub id: Option<String>,
    /// The image's tags, at the latest step.
    pub tags: Vec<String>,
}

/// `docker info` of a host.
#[derive(Clone, Debug)]
pub struct Info {
    /// A stable id of the host.
    pub id: String,
    /// The host's name.
    pub name: String,
    /// How many containers are running, paused and stopped.
    pub containers: (usize, usize, usize),
    /// How many images it sees.
    pub images: usize,
    /// CPUs that its limits allow.
    pub cpus: usize,
    /// Bytes of memory that its limits allow.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The operating system's pretty name.
    pub operating_system: String,
    /// The operating system's version.
    pub os_version: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// The file system below the data root.
    pub backing_filesystem: String,
    /// The data root; empty where the host may not see it.
    pub root_dir: String,
    /// Names and programs of configured OCI runtimes.
    pub runtimes: BTreeMap<String, String>,
    /// The default runtime's name.
    pub default_runtime: String,
    /// The default log driver.
    pub log_driver: String,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: Vec<String>,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// IPv4 forwarding is on.
    pub ip_forwarding: bool,
    /// What the machine can't do.
    pub warnings: Vec<String>,
    /// Insecure registries.
    pub insecure_registries: Vec<String>,
    /// Registry mirrors.
    pub mirrors: Vec<String>,
    /// Proxies that this host's pulls go through, without passwords.
    pub proxies: droste_image::registry::Proxies,
    /// How many clients listen to events.
    pub event_listeners: usize,
    /// Debug mode is on.
    pub debug: bool,
    /// The level of nesting, 0 for the machine.
    pub level: usize,
    /// Which limits the machine's cgroups can set.
    pub limits: LimitSupport,
}

/// Which limits the machine's cgroups can set.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LimitSupport {
    pub memory: bool,
    pub swap: bool,
    pub kernel_memory_tcp: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_cfs: bool,
    pub cpuset: bool,
    pub pids: bool,
}

/// What a host's objects use.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes of all layers that the host's images use, each once.
    pub layers: u64,
    /// Images.
    pub images: Vec<ImageView>,
    /// Containers with the bytes that they wrote and the bytes of their whole root.
    pub containers: Vec<(Arc<ContainerView>, u64, u64)>,
    /// Plain volumes with the bytes of their files.
    pub volumes: Vec<(VolumeView, u64)>,
}

/// A volume as its host sees it.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// Its name.
    pub name: droste_model::name::VolumeName,
    /// Who keeps its files.
    pub driver: String,
    /// Where they are, as a path that this host may bind.
    pub mountpoint: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels as given.
    pub labels: Option<BTreeMap<String, String>>,
    /// The driver's options as given.
    pub options: Option<BTreeMap<String, String>>,
    /// `local`, or `global` where a plugin says so.
    pub scope: String,
    /// What its plugin tells of it.
    pub status: Option<BTreeMap<String, serde_json::Value>>,
    /// How many containers mount it.
    pub users: usize,
}

/// A host, as whoever stands above it sees it.
#[derive(Clone, Debug)]
pub struct HostView {
    /// The names of the containers on the way to it, with slashes between them.
    pub path: String,
    /// The container that it is.
    pub id: ContainerId,
    /// That container's name.
    pub name: String,
    /// How deep it is; 1 is on the machine.
    pub level: usize,
    /// Containers may run on it.
    pub is_on: bool,
    /// What its container does.
    pub state: State,
    /// The image of its container.
    pub image: String,
    /// How many containers it has itself.
    pub containers: usize,
    /// How many of them run.
    pub running: usize,
    /// What it may use, and what it and all below it use.
    pub limits: Vec<LimitView>,
}

/// A host in full.
#[derive(Clone, Debug)]
pub struct HostDetail {
    /// What lists show of it.
    pub view: HostView,
    /// The path of the host that it is on; empty for the one that looks.
    pub parent: String,
    /// When it became a host.
    pub created: Timestamp,
    /// What its socket grants.
    pub grant: Grant,
    /// What sockets on it grant if nobody says.
    pub children: Option<Grant>,
    /// How it sees images.
    pub images: droste_model::host::ImageView,
    /// Its first process, as the host that looks numbers it; 0 while it is off.
    pub pid: u32,
    /// The cgroup below which its containers are, for the machine's eyes.
    pub cgroup: Option<String>,
    /// What nothing on it can exceed, while it is on.
    pub bounds: Option<Arc<droste_confine::Bounds>>,
}

/// A node of the tree of hosts, as the administrator sees it.
#[derive(Clone, Debug)]
pub struct TreeNode {
    /// The host or container.
    pub host: HostId,
    /// Its view; `None` for the machine.
    pub container: Option<Arc<ContainerView>>,
    /// Name to show.
    pub name: String,
    /// CPU time used so far in nanoseconds, and memory in bytes, while it runs.
    pub usage: Option<(u64, u64)>,
    /// What runs on it.
    pub children: Vec<TreeNode>,
}
