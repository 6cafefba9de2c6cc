//! What a container sees of cgroups, and what a host's cgroup amounts to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::file;
use crate::group::Home;
use crate::{Cgroup, CgroupPath, Version};

/// What to mount on a container's `/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// A cgroup2 mount made inside the container's cgroup namespace; without one of its own, a bind of this folder.
    Unified {
        /// The container's cgroup.
        dir: PathBuf,
    },
    /// A tmpfs with a folder for each hierarchy.
    Legacy(Vec<LegacyMount>),
}

/// One v1 hierarchy in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyMount {
    /// The folder's name, as on the machine: `cpu,cpuacct`.
    pub name: String,
    /// Links to make beside it: `cpu` and `cpuacct`.
    pub links: Vec<String>,
    /// Options with which a `cgroup` mount in a cgroup namespace gives the hierarchy.
    pub options: String,
    /// The container's cgroup, to bind where it has no cgroup namespace of its own.
    pub dir: PathBuf,
}

/// What of the machine a cgroup may use, by its own limits and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// CPUs by quota; `None` for no limit.
    pub cpu_quota: Option<f64>,
    /// CPUs by cpuset; `None` if it is not known.
    pub cpus: Option<u32>,
    /// Bytes of memory; `None` for no limit.
    pub memory: Option<u64>,
}

impl Effective {
    /// Whole CPUs, at least one: what `docker info` shows.
    pub fn whole_cpus(&self, of_machine: u32) -> u32 {
        let by_quota = self.cpu_quota.map_or(u32::MAX, |cpus| cpus.ceil().clamp(1.0, f64::from(u32::MAX)) as u32);
        of_machine.min(self.cpus.unwrap_or(u32::MAX)).min(by_quota).max(1)
    }
}

impl Cgroup {
    /// What a container whose processes are in it sees.
    pub fn view(&self) -> View {
        match (self.layout.version, self.unified_dir()) {
            (Version::V2, Some(dir)) => View::Unified { dir },
            _ => View::Legacy(self.layout.hierarchies.iter().map(|one| self.legacy_mount(one)).collect()),
        }
    }

    fn legacy_mount(&self, hierarchy: &crate::Hierarchy) -> LegacyMount {
        let file_name = hierarchy.mount_point.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = file_name.unwrap_or_else(|| hierarchy.controllers.join(","));
        let several = hierarchy.controllers.len() > 1;
        let links = hierarchy.controllers.iter().filter(|controller| several && **controller != name);
        LegacyMount {
            links: links.cloned().collect(),
            name,
            options: hierarchy.options(),
            dir: self.path.below(&hierarchy.mount_point),
        }
    }

    /// What it may use, all limits up to the root considered.
    pub fn effective(&self) -> Effective {
        let mut effective = Effective { cpus: self.cpuset_size(), ..Effective::default() };
        effective.memory = self.effective_memory();
        for each in self.chain() {
            effective.cpu_quota = match (effective.cpu_quota, each.own_cpus()) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        effective
    }

    /// The lowest limit of memory up to the root.
    pub(crate) fn effective_memory(&self) -> Option<u64> {
        self.chain().filter_map(|each| each.own_memory()).min()
    }

    /// Itself and those above.
    fn chain(&self) -> impl Iterator<Item = Cgroup> {
        self.path.chain().into_iter().map(|path| self.at(&path))
    }

    fn own_memory(&self) -> Option<u64> {
        let limit = match self.home("memory")? {
            Home::Legacy(dir) => file::number_if_there(&dir.join("memory.limit_in_bytes")),
            Home::Unified(dir) => file::number_if_there(&dir.join("memory.max")),
        };
        // v1 shows "no limit" as the greatest number of whole pages.
        limit.filter(|bytes| *bytes < (1 << 62))
    }

    fn own_cpus(&self) -> Option<f64> {
        let (quota, period) = match self.home("cpu")? {
            Home::Legacy(dir) => (
                file::number_if_there(&dir.join("cpu.cfs_quota_us"))?,
                file::number_if_there(&dir.join("cpu.cfs_period_us"))?,
            ),
            Home::Unified(dir) => {
                let text = file::read_if_there(&dir.join("cpu.max")).ok()??;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
        };
        (period > 0).then(|| quota as f64 / period as f64)
    }

    fn cpuset_size(&self) -> Option<u32> {
        let file = match self.home("cpuset")? {
            Home::Legacy(dir) => dir.join("cpuset.effective_cpus"),
            Home::Unified(dir) => dir.join("cpuset.cpus.effective"),
        };
        let text = file::read_if_there(&file).ok()??;
        crate::system::list_size(text.trim()).filter(|size| *size > 0)
    }

    /// The same cgroup at another path.
    pub fn at(&self, path: &CgroupPath) -> Cgroup {
        Cgroup { layout: self.layout.clone(), path: path.clone() }
    }
}
