//! Droste's own: hosts as whoever stands above them sees them, and their limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One of `GET /droste/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostSummary {
    /// Names of containers with slashes between them, from the host that was asked: `ci-1/build`.
    pub path: String,
    pub id: String,
    pub name: String,
    /// How deep it is: 1 is on the machine.
    pub level: i64,
    /// Containers may run on it.
    pub on: bool,
    /// The state of its container, as `docker ps` says it.
    pub state: String,
    pub image: String,
    pub containers: i64,
    pub running: i64,
    /// By name of the resource.
    pub limits: BTreeMap<String, HostLimit>,
}

/// A limit of a host and what is used of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostLimit {
    /// `null` for none.
    pub limit: Option<u64>,
    pub used: u64,
    /// Somebody set it for this host.
    pub set: bool,
}

/// `GET /droste/hosts/{path}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostInspect {
    #[serde(flatten)]
    pub summary: HostSummary,
    /// The path of the host that it is on; empty for the one that was asked.
    pub parent: String,
    pub created: String,
    pub grant: String,
    /// What sockets on it grant by default; empty for what the daemon says.
    pub children: String,
    /// `inherit` or `isolated`.
    pub image_view: String,
    pub pid: i64,
    /// Empty for whoever asks through a nested host's socket.
    pub cgroup: String,
    /// `null` while it is off.
    pub bounds: Option<HostBounds>,
}

/// What nothing on a host can exceed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostBounds {
    pub capabilities: Vec<String>,
    /// As of a device cgroup: `c 1:3 rwm`, with `-` before what is refused.
    pub devices: Vec<String>,
    /// Filters that everything on it runs under, by their number of instructions.
    pub seccomp: Vec<usize>,
    pub no_new_privileges: bool,
    /// `nofile=1024:4096`.
    pub rlimits: Vec<String>,
    pub oom_score_adj: i64,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub writable_sysfs: bool,
    pub writable_cgroups: bool,
    pub apparmor_profile: String,
}

/// A value in the body of `POST /droste/hosts/{path}/limits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    Number(u64),
    /// `64m`, or `default`.
    Text(String),
}

/// The body of `POST /droste/hosts/{path}/limits`: `{"containers": 20, "config": "64m", "tags": "default"}`.
pub type HostLimitsRequest = BTreeMap<String, LimitValue>;

/// The answer to it.
pub type HostLimits = BTreeMap<String, HostLimit>;
