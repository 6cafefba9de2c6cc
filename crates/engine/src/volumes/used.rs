//! What clients see of volumes, and what containers do with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::event::EventType;
use droste_model::mount::Mount;
use droste_model::name::VolumeName;
use droste_model::time::Timestamp;

use super::plugin::is_plugins;
use super::{LOCAL, Pin, Volume, no_such_volume, users};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::host::{Host, HostState};
use crate::lifecycle::to_the_end;
use crate::options::NewVolume;
use crate::view::VolumeView;

impl Engine {
    /// Mounts a volume for a container that starts, and says so on its host. Blocking.
    pub(crate) fn use_volume(&self, container: &Container, name: &VolumeName, mount: &Mount) -> Result<Pin> {
        let volume = self.volumes.find(&container.host.id, name).ok_or_else(|| no_such_volume(name.as_str()))?;
        let known = container.live().volumes.contains(name);
        if !known {
            self.volumes.mount(&container.host, &volume, container.id.as_str())?;
        }
        container.live().volumes.push(name.clone());
        let attributes = [
            ("container", container.id.to_string()),
            ("destination", mount.target.to_string()),
            ("driver", volume.record.driver.clone()),
            ("propagation", String::new()),
            ("read/write", (!mount.read_only).to_string()),
        ];
        container.host.emit(EventType::Volume, "mount", name.as_str(), &attributes);
        Ok(volume)
    }

    /// Unmounts the volumes of a container that has ended. Blocking.
    pub(crate) fn release_volumes(&self, container: &Container) {
        let used = std::mem::take(&mut container.live().volumes);
        for name in used {
            let Some(volume) = self.volumes.find(&container.host.id, &name) else { continue };
            self.volumes.unmount(&container.host, &volume, container.id.as_str());
            let attributes = [("container", container.id.to_string()), ("driver", volume.record.driver.clone())];
            container.host.emit(EventType::Volume, "unmount", name.as_str(), &attributes);
        }
    }

    /// Takes note of the volumes of a container that ran on while no daemon was there.
    pub(crate) fn adopt_volumes(&self, container: &Container) {
        let names: Vec<VolumeName> = super::mounted(&container.record()).cloned().collect();
        for name in &names {
            if let Some(volume) = self.volumes.find(&container.host.id, name) {
                self.volumes.adopt(&volume, &container.id);
            }
        }
        container.live().volumes = names;
    }

    /// What the engine knows of a volume itself.
    fn volume_view(&self, host: &HostState, volume: &Volume) -> VolumeView {
        let record = &volume.record;
        VolumeView {
            mountpoint: self.volumes.shown_path(host, &record.name).to_string_lossy().into_owned(),
            created: record.created,
            labels: record.labels.clone(),
            options: record.options.clone(),
            ..bare(host, record.name.clone(), &record.driver)
        }
    }

    async fn whole_view(self: &Arc<Self>, host: &Arc<HostState>, volume: &Pin) -> Result<VolumeView> {
        let view = self.volume_view(host, volume);
        if !is_plugins(volume) {
            return Ok(view);
        }
        let volume = Arc::clone(&volume.0);
        self.on_host(host, move |engine, host| engine.volumes.view_in_plugin(host, &volume, view)).await
    }
}

/// A volume of which only the name and the driver are known.
fn bare(host: &HostState, name: VolumeName, driver: &str) -> VolumeView {
    VolumeView {
        users: users(host, &name).len(),
        name,
        driver: driver.to_owned(),
        mountpoint: String::new(),
        created: Timestamp::from_secs(0),
        labels: None,
        options: None,
        scope: "local".to_owned(),
        status: None,
    }
}

impl Host {
    /// Makes a volume, or finds the one that has the name.
    pub async fn create_volume(&self, wish: NewVolume) -> Result<VolumeView> {
        self.require_write()?;
        let host = self.clone();
        to_the_end(async move {
            let volume = host.engine.ensure_volume(&host.state, wish).await?;
            host.engine.whole_view(&host.state, &volume).await
        })
        .await
    }

    /// All volumes of this host by name, and why those of some plugins are missing.
    pub async fn volumes(&self) -> Result<(Vec<VolumeView>, Vec<String>)> {
        let listed = self.engine.on_host(&self.state, |engine, host| {
            let known = |name: &VolumeName| engine.volumes.find(&host.id, name).map(|pin| Arc::clone(&pin.0));
            let view = |name: VolumeName, driver: &str, known: Option<&Volume>| match known {
                Some(known) => engine.volume_view(host, known),
                None => bare(host, name, driver),
            };
            Ok(engine.volumes.list_plugins(host, known, view))
        });
        let (mut all, warnings) = listed.await?;
        let own = self.engine.volumes.of_host(&self.state.id);
        let local = own.iter().filter(|volume| !is_plugins(volume));
        all.extend(local.map(|volume| self.engine.volume_view(&self.state, volume)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((all, warnings))
    }

    /// One volume.
    pub async fn volume(&self, typed: &str) -> Result<VolumeView> {
        let name: VolumeName = typed.parse().map_err(|_| no_such_volume(typed))?;
        if let Some(volume) = self.engine.volumes.find(&self.state.id, &name) {
            return self.engine.whole_view(&self.state, &volume).await;
        }
        let (all, _) = self.volumes().await?;
        all.into_iter().find(|view| view.name == name).ok_or_else(|| no_such_volume(typed))
    }

    /// Volumes whose files are the engine's own and no driver's: only those are counted and pruned.
    pub(super) fn plain_volumes(&self) -> Vec<VolumeView> {
        let is_plain = |volume: &&Arc<Volume>| {
            volume.record.driver == LOCAL && volume.record.options.as_ref().is_none_or(BTreeMap::is_empty)
        };
        let all = self.engine.volumes.of_host(&self.state.id);
        all.iter().filter(is_plain).map(|volume| self.engine.volume_view(&self.state, volume)).collect()
    }

    /// Bytes of a volume's files.
    pub(super) async fn volume_size(&self, name: &VolumeName) -> u64 {
        let path = self.engine.volumes.path(&self.state.id, name);
        tokio::task::spawn_blocking(move || crate::files::size_of(&path)).await.unwrap_or(0)
    }

    /// The volumes of which `system df` tells, with the bytes of their files.
    pub(crate) async fn volume_usage(&self) -> Vec<(VolumeView, u64)> {
        let mut all = Vec::new();
        for view in self.plain_volumes() {
            let size = self.volume_size(&view.name).await;
            all.push((view, size));
        }
        all
    }
}
