//! Volumes of the `local` kind: folders that belong to a host and outlive its containers.
//!
//! Clients make them by naming them in `-v` or `--mount`, and images by their `VOLUME`; the volume commands come later.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use droste_model::host::HostId;
use droste_model::name::VolumeName;
use droste_runtime::namespaces::BindOptions;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::host::HostState;

/// The folder of a volume in which its files are.
const DATA: &str = "_data";

/// The volumes of all hosts, below one folder: a folder for each host, in it one for each volume.
pub(crate) struct Volumes {
    root: PathBuf,
}

impl Volumes {
    /// The volumes below a folder.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a volume's files are.
    pub(crate) fn path(&self, host: &HostId, name: &VolumeName) -> PathBuf {
        self.root.join(host.to_string()).join(name.as_str()).join(DATA)
    }

    /// Opens a volume as a detached mount, making it if it is new. Blocking.
    pub(crate) fn open(
        &self,
        engine: &Engine,
        container: &Arc<Container>,
        name: &VolumeName,
        target: &str,
        no_copy: bool,
        subpath: Option<&str>,
    ) -> Result<OwnedFd> {
        let failed = |error: &dyn std::fmt::Display| Error::hidden(format!("volume {name} could not be opened"), error);
        let path = self.path(&container.host.id, name);
        let is_new = !path.exists();
        std::fs::create_dir_all(&path).map_err(|error| failed(&error))?;
        if is_new && !no_copy {
            crate::files::copy_up(engine, container, target, &path)?;
        }
        if let Some(subpath) = subpath {
            return Err(Error::NotImplemented(Message::new(format!(
                "subpath {subpath:?} of volume {name}: subpaths of volumes come with a later version of Droste"
            ))));
        }
        let view = engine.machine_state().power()?.namespaces.view().map_err(|error| failed(&error))?;
        let whole = view.open_bind_source(&path, BindOptions::default()).map_err(|error| failed(&error))?;
        Ok(whole.mount)
    }

    /// Removes the volumes that were made for one container alone.
    pub(crate) fn remove_anonymous(&self, host: &HostState, names: &[VolumeName]) -> Result<()> {
        for name in names {
            let in_use = host.members().iter().filter(|container| mounts(container, name)).count() > 1;
            if !in_use {
                remove(&self.root.join(host.id.to_string()).join(name.as_str()))?;
            }
        }
        Ok(())
    }

    /// Removes all volumes of a host that is removed.
    pub(crate) fn forget_host(&self, host: &HostId) -> Result<()> {
        remove(&self.root.join(host.to_string()))
    }
}

fn mounts(container: &Container, name: &VolumeName) -> bool {
    use droste_model::mount::MountSource;
    container
        .record()
        .mounts
        .iter()
        .any(|mount| matches!(&mount.source, MountSource::Volume { name: Some(mounted), .. } if mounted == name))
}

fn remove(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::hidden("a volume could not be removed", error))
        }
        _ => Ok(()),
    }
}
