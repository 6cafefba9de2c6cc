//! The mounts of a launch plan: the system's own, the engine's files and sockets, and what the client asked for.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use droste_cgroup::{Cgroup, View};
use droste_confine::Privileges;
use droste_model::container::{HostConfig, NamespaceMode};
use droste_model::mount::{MountSource as Wanted, Propagation as WantedPropagation};
use droste_runtime::namespaces::{BindError, BindOptions};
use droste_runtime::plan::{FdIndex, Mount, MountFlags, MountSource, Propagation};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::Power;
use crate::launch::Fds;
use crate::privileges;
use crate::record::ContainerRecord;

impl Engine {
    /// The engine's own files, the sockets, and what the client asked for, parents first.
    pub(crate) fn wanted_mounts(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &ContainerRecord,
        power: &Power,
        socket: Option<&Path>,
        fds: &mut Fds,
    ) -> Result<Vec<Mount>> {
        let unseen = |error: std::io::Error| Error::hidden("the machine's root could not be entered", error);
        let machine = self.machine_state().power()?.namespaces.view().map_err(unseen)?;
        let folder = self.container_dir(&record.id);
        let mut mounts = Vec::new();
        let own = |path: &Path, target: &str, flags: MountFlags, fds: &mut Fds| {
            let source = machine
                .open_bind_source(path, BindOptions::default())
                .map_err(|error| Error::hidden(format!("the container's {target} could not be mounted"), error))?;
            Ok::<Mount, Error>(Mount::bind(fds.add(source.mount), target, flags))
        };
        for wanted in &record.mounts {
            mounts.push(self.wanted_mount(container, record, wanted, power, fds)?);
        }
        for (name, target) in
            [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
        {
            if !record.mounts.iter().any(|wanted| wanted.target.as_str() == target) {
                mounts.push(own(&folder.join(name), target, MountFlags::NONE, fds)?);
            }
        }
        if let (Some(path), Some(granted)) = (socket, &record.socket) {
            for target in &granted.targets {
                mounts.push(own(path, target.as_str(), MountFlags::NONE, fds)?);
            }
        }
        mounts.sort_by_key(|mount| mount.target.matches('/').count());
        Ok(mounts)
    }

    fn wanted_mount(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &ContainerRecord,
        wanted: &droste_model::mount::Mount,
        power: &Power,
        fds: &mut Fds,
    ) -> Result<Mount> {
        let target = wanted.target.to_string();
        let mut flags = if wanted.read_only { MountFlags::RDONLY } else { MountFlags::NONE };
        let source = match &wanted.source {
            Wanted::Tmpfs { size, mode, options } => {
                let options = tmpfs_options(*size, *mode, options)?;
                flags = options.1 | flags;
                MountSource::Fs { fstype: "tmpfs".to_owned(), options: options.0 }
            }
            Wanted::Bind { source, create, non_recursive } => {
                let (opened, read_only) = match self.volumes.shown_at(&container.host, source.as_str()) {
                    Some((volume, subpath)) => {
                        let volume = self.use_volume(container, &volume.record.name, wanted)?;
                        (self.volumes.open(self, &container.host, &volume, subpath.as_deref())?, false)
                    }
                    None => open_bind(power, source.as_str(), *create, *non_recursive, wanted)?,
                };
                if read_only {
                    flags = flags | MountFlags::RDONLY;
                }
                bind(fds.add(opened), wanted)
            }
            Wanted::Volume { name, subpath, .. } => {
                let name = name.as_ref().ok_or_else(|| Error::internal("a volume has no name"))?;
                let volume = self.use_volume(container, name, wanted)?;
                let opened = self.volumes.open(self, &container.host, &volume, subpath.as_deref())?;
                bind(fds.add(opened), wanted)
            }
            Wanted::Image { subpath, .. } => {
                let image = mounted_image(container, record, wanted)?;
                flags = flags | MountFlags::RDONLY;
                bind(fds.add(self.open_image(container, &image, subpath.as_deref())?), wanted)
            }
        };
        Ok(Mount { target, source, flags })
    }
}

/// The image of one of a container's mounts: the ids are in the order of the mounts.
fn mounted_image(
    container: &Container,
    record: &ContainerRecord,
    wanted: &droste_model::mount::Mount,
) -> Result<droste_image::Image> {
    let of_images = record.mounts.iter().filter(|mount| matches!(mount.source, Wanted::Image { .. }));
    let id = of_images.zip(&record.mounted_images).find(|(mount, _)| *mount == wanted).map(|(_, id)| id.clone());
    let id = id.ok_or_else(|| Error::internal("a mount's image is not remembered"))?;
    let images = container.live().images.clone();
    images.into_iter().find(|image| image.id().to_string() == id).ok_or_else(|| Error::no_such_image(&id))
}

/// A path of the host's as a detached mount, and whether it is read-only there.
fn open_bind(
    power: &Power,
    source: &str,
    create: bool,
    non_recursive: bool,
    wanted: &droste_model::mount::Mount,
) -> Result<(OwnedFd, bool)> {
    let options = BindOptions {
        create_directory: create,
        non_recursive,
        keep_covered: !privileges::is_unbounded(power)?,
        propagation: propagation(wanted.propagation),
    };
    let opened = power
        .namespaces
        .view()
        .map_err(|error| Error::hidden("the host's root could not be entered", error))?
        .open_bind_source(Path::new(source), options)
        .map_err(|error| bind_failed(&error, source))?;
    Ok((opened.mount, opened.read_only))
}

fn propagation(wanted: WantedPropagation) -> Propagation {
    match wanted {
        WantedPropagation::Private | WantedPropagation::RPrivate => Propagation::Private,
        WantedPropagation::Slave | WantedPropagation::RSlave => Propagation::Slave,
        WantedPropagation::Shared | WantedPropagation::RShared => Propagation::Shared,
    }
}

/// What every container has mounted before anything that was asked for.
pub(crate) fn system_mounts(asked: &HostConfig, privileges: &Privileges, cgroup: &Cgroup) -> Vec<Mount> {
    let mut mounts = vec![Mount::proc(), Mount::dev(), Mount::devpts(), Mount::sysfs(privileges.writable_sysfs)];
    mounts.push(match cgroup.view() {
        View::Unified { .. } => Mount::cgroup2(privileges.writable_cgroups),
        View::Legacy(hierarchies) => Mount {
            target: "/sys/fs/cgroup".to_owned(),
            source: MountSource::CgroupV1(
                hierarchies
                    .into_iter()
                    .map(|one| (one.name, one.options.split(',').map(str::to_owned).collect()))
                    .collect(),
            ),
            flags: if privileges.writable_cgroups { MountFlags::NONE } else { MountFlags::RDONLY },
        },
    });
    mounts.push(Mount::mqueue());
    if asked.ipc_mode != NamespaceMode::None {
        mounts.push(Mount::shm(u64::try_from(asked.shm_size).unwrap_or(0)));
    }
    mounts
}

fn bind(mount: FdIndex, wanted: &droste_model::mount::Mount) -> MountSource {
    let propagation = propagation(wanted.propagation);
    MountSource::Bind { mount, propagation, recursive_readonly: !wanted.read_only_non_recursive }
}

fn bind_failed(error: &BindError, source: &str) -> Error {
    match error {
        BindError::Missing { .. } => {
            Error::invalid(format!("invalid mount config for type \"bind\": bind source path does not exist: {source}"))
        }
        BindError::NotShared { .. } => Error::internal(error.to_string()),
        BindError::Covered { .. } => Error::invalid(error.to_string()),
        error => Error::internal(format!("error while mounting {source}: {error}")),
    }
}

/// Options of a tmpfs and the flags among them. Docker's defaults are noexec, nosuid and nodev.
fn tmpfs_options(size: Option<u64>, mode: Option<u32>, words: &[String]) -> Result<(Vec<String>, MountFlags)> {
    let mut flags = vec![("noexec", MountFlags::NOEXEC), ("nosuid", MountFlags::NOSUID), ("nodev", MountFlags::NODEV)];
    let mut options = Vec::new();
    let mut read_only = MountFlags::NONE;
    for word in words {
        match word.as_str() {
            "exec" | "suid" | "dev" => flags.retain(|(name, _)| name[2..] != **word),
            "noexec" | "nosuid" | "nodev" | "rw" => {}
            "ro" => read_only = MountFlags::RDONLY,
            option
                if ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="]
                    .iter()
                    .any(|key| option.starts_with(key)) =>
            {
                options.push(option.to_owned());
            }
            option => return Err(Error::invalid(format!("invalid tmpfs option [{option:?}]"))),
        }
    }
    options.extend(size.map(|bytes| format!("size={bytes}")));
    options.extend(mode.map(|bits| format!("mode={bits:o}")));
    Ok((options, flags.into_iter().fold(read_only, |all, (_, flag)| all | flag)))
}
