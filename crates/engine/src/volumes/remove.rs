//! Removing volumes: by name, unused ones, those of a container, those of a host. The record goes first, so that a cut
//! leaves files without a record, which go at the next start.

use std::sync::Arc;

use droste_model::event::EventType;
use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::name::VolumeName;

use super::plugin::is_plugins;
use super::{ANONYMOUS, Volume, Volumes, emit, no_such_volume, remove_folder};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::lifecycle::to_the_end;
use crate::random;
use crate::store::{Change, Key};
use crate::view::VolumeView;

/// The changes that forget volumes of a host.
pub(crate) fn removals(host: &HostId, volumes: &[Arc<Volume>]) -> Vec<Change> {
    let key = |volume: &Arc<Volume>| Key::Volume(host.clone(), volume.record.name.clone());
    volumes.iter().map(|volume| Change::remove(key(volume))).collect()
}

impl Volumes {
    /// The changes that forget a host's volumes.
    pub(crate) fn forgotten(&self, host: &HostId) -> Vec<Change> {
        removals(host, &self.of_host(host))
    }

    /// Removes all volumes of a host that is removed; their records are gone. Blocking.
    pub(crate) fn forget_host(&self, host: &HostId) -> Result<()> {
        super::lock(&self.table).retain(|(of, _), _| of != host);
        let folder = self.folder_of(host);
        let all = super::folders(&folder);
        all.iter()
            .chain([&folder])
            .try_for_each(|folder| remove_folder(folder))
            .map_err(|error| Error::hidden("the host's volumes could not be removed", error))
    }

    /// Removes the folder of a removed host's volumes, in which a volume was being made.
    pub(super) fn forget_empty(&self, host: &HostId) {
        if *host != HostId::Machine {
            let _ = std::fs::remove_dir(self.folder_of(host));
        }
    }

    /// Deletes the files of a volume that is out of the table and of the records. Blocking.
    fn delete_files(&self, host: &HostId, name: &VolumeName) -> Result<()> {
        let folder = self.folder(host, name);
        let failed = |error: &dyn std::fmt::Display| {
            Error::hidden(format!("remove {name}: its files could not be deleted"), error)
        };
        // Out of the way first: a volume of this name that is made meanwhile begins empty.
        let gone = folder.with_file_name(format!(".gone-{}", random::number()?));
        match std::fs::rename(&folder, &gone) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| failed(&error))?,
        }
        remove_folder(&gone).map_err(|error| failed(&error))
    }
}

impl Engine {
    /// Removes a volume that is out of the table. With `force`, its plugin's refusal does not count.
    async fn remove_volume(self: &Arc<Self>, host: &Arc<HostState>, volume: Arc<Volume>, force: bool) -> Result<()> {
        if is_plugins(&volume) {
            let asked = Arc::clone(&volume);
            let removed = self.on_host(host, move |engine, host| engine.volumes.remove_in_plugin(host, &asked)).await;
            if let (Err(error), false) = (removed, force) {
                self.volumes.put_back(&host.id, volume);
                return Err(error);
            }
        }
        if let Err(error) = self.store.commit(removals(&host.id, &[Arc::clone(&volume)])).await {
            self.volumes.put_back(&host.id, volume);
            return Err(error.into());
        }
        self.forget_files(host, &volume).await
    }

    /// Deletes the files of a volume whose record is removed, and says so.
    async fn forget_files(self: &Arc<Self>, host: &Arc<HostState>, volume: &Volume) -> Result<()> {
        let name = volume.record.name.clone();
        self.on_host(host, move |engine, host| engine.volumes.delete_files(&host.id, &name)).await?;
        emit(host, &volume.record, "destroy");
        Ok(())
    }

    /// The anonymous volumes that go with a container that is removed, out of the table.
    pub(crate) fn take_anonymous(&self, container: &Container) -> Vec<Arc<Volume>> {
        let names = container.record().anonymous_volumes.clone();
        let take = |name: &VolumeName| self.volumes.take_out(&container.host, name, Some(&container.id)).ok();
        names.iter().filter_map(take).collect()
    }

    /// Deletes what [`take_anonymous`](Self::take_anonymous) took, once the records are gone.
    pub(crate) async fn forget_anonymous(self: &Arc<Self>, host: &Arc<HostState>, volumes: Vec<Arc<Volume>>) {
        for volume in volumes {
            let asked = Arc::clone(&volume);
            if is_plugins(&volume)
                && let Err(error) =
                    self.on_host(host, move |engine, host| engine.volumes.remove_in_plugin(host, &asked)).await
            {
                tracing::warn!(volume = %volume.record.name, %error, "its plugin did not remove it");
            }
            if let Err(error) = self.forget_files(host, &volume).await {
                tracing::warn!(volume = %volume.record.name, %error, "an anonymous volume's files are left");
            }
        }
    }
}

impl Host {
    /// Removes a volume. With `force`, one that does not exist is fine.
    pub async fn remove_volume(&self, typed: &str, force: bool) -> Result<()> {
        self.require_write()?;
        let known = typed.parse().ok().filter(|name| self.engine.volumes.find(&self.state.id, name).is_some());
        let Some(name): Option<VolumeName> = known else {
            return if force { Ok(()) } else { Err(no_such_volume(typed)) };
        };
        let host = self.clone();
        to_the_end(async move {
            let _turn = host.engine.volumes.turn(&host.state.id, &name).await;
            match host.engine.volumes.take_out(&host.state, &name, None) {
                Ok(volume) => host.engine.remove_volume(&host.state, volume, force).await,
                Err(users) => Err(in_use(&name, &users)),
            }
        })
        .await
    }

    /// Removes plain volumes that no container mounts, anonymous ones or with `all` every one, for which `keep` says
    /// no; gives their names and the bytes that they held.
    pub async fn prune_volumes(
        &self,
        all: bool,
        keep: &(dyn Fn(&VolumeView) -> bool + Send + Sync),
    ) -> Result<(Vec<VolumeName>, u64)> {
        self.require_write()?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for view in self.plain_volumes() {
            let anonymous = view.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS));
            if view.users > 0 || !(all || anonymous) || keep(&view) {
                continue;
            }
            let size = self.volume_size(&view.name).await;
            if self.remove_volume(view.name.as_str(), false).await.is_ok() {
                removed.push(view.name);
                freed += size;
            }
        }
        self.state.emit(EventType::Volume, "prune", "", &[("reclaimed", freed.to_string())]);
        Ok((removed, freed))
    }
}

fn in_use(name: &VolumeName, users: &[ContainerId]) -> Error {
    let users: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
    Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", ")))
}
