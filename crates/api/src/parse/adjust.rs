//! What older versions of the API lack or meant otherwise, as a list of small edits of the decoded body.
//!
//! Each edit stands for one line of Docker's API changelog.

use crate::ApiVersion;
use crate::error::{RequestError, Result};
use crate::wire::{ContainerConfig, CreateExtras, HostConfig, Mount};

/// A decoded `POST /containers/create`.
pub(super) struct Body {
    pub(super) config: ContainerConfig,
    pub(super) extras: CreateExtras,
}

impl Body {
    pub(super) fn host(&mut self) -> &mut HostConfig {
        self.extras.host_config.get_or_insert_default()
    }

    fn mounts(&mut self) -> impl Iterator<Item = &mut Mount> {
        self.host().mounts.iter_mut().flatten()
    }
}

/// One edit of a body.
type Edit = fn(&mut Body) -> Result<()>;

/// Applies every edit that the version asks for.
pub(super) fn adjust(body: &mut Body, version: ApiVersion) -> Result<()> {
    let edits: [(u16, Edit); 8] = [
        (25, below_1_25),
        (40, below_1_40),
        (41, below_1_41),
        (42, below_1_42),
        (44, below_1_44),
        (45, below_1_45),
        (46, below_1_46),
        (48, below_1_48),
    ];
    for (minor, edit) in edits {
        if version.below(minor) {
            edit(body)?;
        }
    }
    if version.at_least(42) {
        // 1.42: "HostConfig.KernelMemory has been removed" and is ignored.
        body.host().kernel_memory = 0;
    }
    if version.at_least(52) {
        // 1.52: "Config.MacAddress has been removed" and is ignored.
        body.config.mac_address.clear();
    }
    Ok(())
}

/// 1.25: "POST /containers/create now takes an AutoRemove in HostConfig".
fn below_1_25(body: &mut Body) -> Result<()> {
    body.host().auto_remove = false;
    Ok(())
}

/// 1.40: "BindOptions.NonRecursive", "IpcMode: the default is private", "PidsLimit can be null", "Capabilities".
fn below_1_40(body: &mut Body) -> Result<()> {
    for options in body.mounts().filter_map(|mount| mount.bind_options.as_mut()) {
        options.non_recursive = false;
    }
    let host = body.host();
    host.kernel_memory_tcp = 0;
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    Ok(())
}

/// 1.41: "CgroupnsMode": older clients expect the host's.
fn below_1_41(body: &mut Body) -> Result<()> {
    body.host().cgroupns_mode = "host".to_owned();
    Ok(())
}

/// 1.42: "BindOptions.CreateMountpoint", "ConsoleSize"; 1.43: "Annotations".
fn below_1_42(body: &mut Body) -> Result<()> {
    for options in body.mounts().filter_map(|mount| mount.bind_options.as_mut()) {
        options.create_mountpoint = false;
    }
    let host = body.host();
    host.console_size = Default::default();
    host.annotations = None;
    Ok(())
}

/// 1.44: "read-only bind mounts are made recursively read-only", "StartInterval", "several networks at creation".
fn below_1_44(body: &mut Body) -> Result<()> {
    if let Some(health) = &mut body.config.healthcheck {
        health.start_interval = 0;
    }
    for mount in body.mounts().filter(|mount| mount.kind == "bind" && mount.read_only) {
        let options = mount.bind_options.get_or_insert_default();
        if options.read_only_force_recursive {
            return Err(RequestError::invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        }
        options.read_only_non_recursive = true;
    }
    let endpoints = body.extras.networking_config.iter().filter_map(|config| config.endpoints_config.as_ref());
    let names: Vec<&str> = endpoints.flat_map(|endpoints| endpoints.keys()).map(String::as_str).collect();
    if names.len() > 1 {
        return Err(RequestError::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

/// 1.45: "VolumeOptions.Subpath".
fn below_1_45(body: &mut Body) -> Result<()> {
    for options in body.mounts().filter_map(|mount| mount.volume_options.as_mut()) {
        options.subpath.clear();
    }
    Ok(())
}

/// 1.46: "TmpfsOptions.Options".
fn below_1_46(body: &mut Body) -> Result<()> {
    for options in body.mounts().filter_map(|mount| mount.tmpfs_options.as_mut()) {
        options.options = None;
    }
    Ok(())
}

/// 1.48: "Mount type image", "GwPriority".
fn below_1_48(body: &mut Body) -> Result<()> {
    if body.mounts().any(|mount| mount.kind == "image") {
        return Err(RequestError::invalid("Mount type image needs API v1.48 or newer"));
    }
    let endpoints = body.extras.networking_config.iter_mut().filter_map(|config| config.endpoints_config.as_mut());
    for endpoint in endpoints.flat_map(|endpoints| endpoints.values_mut()).flatten() {
        endpoint.gw_priority = 0;
    }
    Ok(())
}
