//! Cgroups: where a container's processes are counted, and what limits them.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use droste_cgroup::devices::{Kind, Rule};
use droste_cgroup::{Cgroup, CgroupPath, Cgroups, Limits};
use droste_confine::{DeviceKind, DeviceRule, Privileges};
use droste_runtime::namespaces::HostNamespaces;
use droste_runtime::plan::CgroupPlan;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::{HostState, Power};
use crate::launch::text;
use crate::record::ContainerRecord;

impl Engine {
    /// The cgroup of a container, below its host's.
    pub(crate) fn cgroup_path(&self, record: &ContainerRecord, host: &HostState) -> Result<CgroupPath> {
        CgroupPath::of_container(&host.cgroup, &record.host_config.resources.cgroup_parent, record.id.as_str())
            .map_err(|error| Error::invalid(error.to_string()))
    }

    /// The cgroup of a container, whether it exists or not.
    pub(crate) fn cgroup(&self, container: &Container) -> Result<Cgroup> {
        let record = container.record().clone();
        Ok(self.cgroups.get(&self.cgroup_path(&record, &container.host)?))
    }

    /// The cgroup in which the container's own processes are.
    fn leaf(&self, group: &Cgroup, is_host: bool) -> Cgroup {
        if is_host { self.cgroups.get(&group.path().of_host_itself()) } else { group.clone() }
    }

    /// Where a further process of a running container goes.
    pub(crate) fn cgroup_plan(&self, container: &Container) -> Result<CgroupPlan> {
        let is_host = container.record().is_host();
        Ok(cgroup_plan(&self.cgroups, &self.leaf(&self.cgroup(container)?, is_host)))
    }

    /// Makes the cgroup with its limits. A host's processes go into a child of it, so that its containers may lie
    /// beside them below the same limits; the child repeats them for programs that read their own cgroup.
    pub(crate) fn make_cgroup(
        &self,
        record: &ContainerRecord,
        privileges: &Privileges,
        power: &Power,
    ) -> Result<Cgroup> {
        let failed = |error: droste_cgroup::CgroupError| {
            Error::internal(format!("failed to make the container's cgroup: {error}"))
        };
        let state = self.host(&record.host).ok_or_else(|| Error::conflict("the host of this container is gone"))?;
        let path = self.cgroup_path(record, &state)?;
        let limits = self.limits(record, power)?;
        let group = self.cgroups.create(&path).map_err(failed)?;
        let limited = (|| {
            group.limit(&limits)?;
            group.set_devices(&device_rules(privileges), &attach_program)?;
            if !record.is_host() {
                return Ok(group.clone());
            }
            let leaf = self.cgroups.create(&path.of_host_itself())?;
            leaf.mirror_limits_of(&group)?;
            Ok(leaf)
        })();
        limited.map_err(|error| {
            let _ = group.remove();
            failed(error)
        })
    }

    pub(crate) fn limits(&self, record: &ContainerRecord, power: &Power) -> Result<Limits> {
        let resources = &record.host_config.resources;
        let number = |path: &str| device_number(&power.namespaces, path);
        let mut limits = Limits::from_resources(resources, number)?;
        limits.oom_group = None;
        Ok(limits)
    }
}

fn device_rules(privileges: &Privileges) -> Vec<Rule> {
    let kind = |kind| match kind {
        DeviceKind::All => Kind::All,
        DeviceKind::Block => Kind::Block,
        DeviceKind::Char => Kind::Char,
    };
    let rule = |rule: &DeviceRule| Rule {
        allow: rule.allow,
        kind: kind(rule.kind),
        major: rule.major,
        minor: rule.minor,
        access: rule.access.bits(),
    };
    privileges.device_rules.iter().map(rule).collect()
}

/// Loads a device program and attaches it to a new cgroup.
fn attach_program(folder: &Path, program: &[u8]) -> std::io::Result<()> {
    let folder = std::fs::File::open(folder)?;
    let program = droste_runtime::sys::bpf::load_device_program(program)?;
    droste_runtime::sys::bpf::attach_device_program(folder.as_fd(), program.as_fd(), None)
}

fn device_number(namespaces: &HostNamespaces, path: &str) -> Result<droste_cgroup::DeviceNumber> {
    use std::os::unix::fs::MetadataExt;
    let owned = path.to_owned();
    let view = namespaces.view().map_err(|error| Error::hidden("the host's root could not be entered", error))?;
    let looked = view.run(move || crate::privileges::at(Path::new(&owned)).map(|metadata| metadata.rdev()));
    let number = looked
        .map_err(|error| Error::hidden("the host's devices could not be looked up", error))?
        .map_err(|error| Error::invalid(format!("invalid device {path:?}: {error}")))?;
    Ok(droste_cgroup::DeviceNumber { major: rustix::fs::major(number), minor: rustix::fs::minor(number) })
}

/// The file in which the kernel counts what it killed for want of memory.
fn oom_events(cgroups: &Cgroups, group: &Cgroup) -> Option<String> {
    let file = match cgroups.layout().hierarchy("memory") {
        Some(hierarchy) => group.path().below(&hierarchy.mount_point).join("memory.oom_control"),
        None => group.unified_dir()?.join("memory.events"),
    };
    Some(text(&file))
}

pub(crate) fn cgroup_plan(cgroups: &Cgroups, group: &Cgroup) -> CgroupPlan {
    let unified = group.unified_dir();
    let in_unified = |file: &PathBuf| unified.as_ref().is_some_and(|folder| file.starts_with(folder));
    CgroupPlan {
        v1_procs: group.procs_files().iter().filter(|file| !in_unified(file)).map(|file| text(file)).collect(),
        oom_events: oom_events(cgroups, group),
        shim_procs: Vec::new(),
        v2: unified.as_deref().map(text),
    }
}
