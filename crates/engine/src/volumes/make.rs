//! Making, finding, removing and pruning volumes; the volumes of a container that is being made.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use droste_model::event::EventType;
use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::mount::{Mount, MountSource};
use droste_model::name::VolumeName;
use droste_model::time::Timestamp;

use super::{ANONYMOUS, LOCAL, Pin, Volume, Volumes, local, no_such_volume, remove_folder, users};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::host::{Host, HostState};
use crate::lifecycle::to_the_end;
use crate::options::NewVolume;
use crate::random;
use crate::record::{ContainerRecord, VolumeRecord};
use crate::store::{Change, Key};
use crate::view::VolumeView;

/// A name for a volume that nobody named.
pub(crate) fn new_name() -> Result<VolumeName> {
    let id = ContainerId::from_bytes(random::bytes()?);
    id.as_str().parse().map_err(|error| Error::hidden("no volume name could be made", error))
}

/// The same error with `create NAME: ` before it, as Docker has it.
fn creating(name: &VolumeName, error: Error) -> Error {
    let text = |message: Message| message.after(format_args!("create {name}: "));
    match error {
        Error::Invalid(message) => Error::Invalid(text(message)),
        Error::NotFound(message) => Error::NotFound(text(message)),
        Error::Conflict(message) => Error::Conflict(text(message)),
        other => other,
    }
}

/// Refuses a driver that does not exist, and a name that another driver's volume has.
fn check_driver(driver: &str, known: Option<&VolumeRecord>) -> Result<()> {
    if !matches!(driver, "" | LOCAL) {
        return Err(Error::NotFound(Message::new(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found"
        ))));
    }
    match known.filter(|record| !driver.is_empty() && record.driver != driver) {
        Some(record) => Err(Error::conflict(format!(
            "driver '{}' already has volume '{}': volume name must be unique",
            record.driver, record.name
        ))),
        None => Ok(()),
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    // What an older daemon left there was never a volume.
    remove_folder(folder)?;
    let make = |path: &Path, mode| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    make(folder, 0o701)?;
    make(&folder.join(super::DATA), 0o755)
}

/// The volumes of a container that is being made: named ones stay until it is there, new anonymous ones go with it if
/// it is not.
pub(crate) struct Held {
    engine: Arc<Engine>,
    host: Arc<HostState>,
    pins: Vec<Pin>,
    fresh: Vec<VolumeRecord>,
}

impl Held {
    /// The records of volumes that come with the container.
    pub(crate) fn changes(&self) -> Result<Vec<Change>> {
        let put =
            |record: &VolumeRecord| Ok(Change::put(Key::Volume(self.host.id.clone(), record.name.clone()), record)?);
        self.fresh.iter().map(put).collect()
    }

    /// The records are durable: the volumes are there. They stay at least until the returned value is dropped.
    pub(crate) fn keep(mut self) -> Vec<Pin> {
        let mut pins = std::mem::take(&mut self.pins);
        for record in std::mem::take(&mut self.fresh) {
            emit(&self.host, &record, "create");
            pins.push(self.engine.volumes.insert(&self.host.id, record));
        }
        pins
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for record in &self.fresh {
            if let Err(error) = remove_folder(&self.engine.volumes.folder(&self.host.id, &record.name)) {
                tracing::warn!(volume = %record.name, %error, "it was not removed");
            }
        }
    }
}

fn emit(host: &HostState, record: &VolumeRecord, action: &str) {
    host.emit(EventType::Volume, action, record.name.as_str(), &[("driver", record.driver.clone())]);
}

impl Engine {
    /// Makes the volumes that a new container needs, and keeps them from being removed until it is there.
    pub(crate) async fn hold_volumes(
        self: &Arc<Self>,
        host: &Arc<HostState>,
        record: &ContainerRecord,
    ) -> Result<Held> {
        let (engine, host_state) = (Arc::clone(self), Arc::clone(host));
        let mut held = Held { engine, host: host_state, pins: Vec::new(), fresh: Vec::new() };
        for mount in &record.mounts {
            let MountSource::Volume { name: Some(name), driver, driver_opts, labels, .. } = &mount.source else {
                continue;
            };
            if held.fresh.iter().any(|fresh| fresh.name == *name) {
                continue;
            }
            let set = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
            let (options, labels) = (set(driver_opts), set(labels));
            let wish = NewVolume { name: Some(name.clone()), driver: driver.clone(), options, labels };
            let is_anonymous = record.anonymous_volumes.contains(name);
            match self.volumes.find(&host.id, name) {
                Some(pin) if is_anonymous => held.pins.push(pin),
                None if is_anonymous => held.fresh.push(self.make_anonymous(host, wish)?),
                _ => held.pins.push(self.ensure_volume(host, wish).await?),
            }
        }
        Ok(held)
    }

    fn make_anonymous(&self, host: &HostState, mut wish: NewVolume) -> Result<VolumeRecord> {
        wish.labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
        let record = self.new_record(wish)?;
        self.make_files(&host.id, &record)?;
        Ok(record)
    }

    /// What a new volume's record says, checked.
    fn new_record(&self, wish: NewVolume) -> Result<VolumeRecord> {
        let (name, mut labels) = (wish.name.clone(), wish.labels);
        let name = match name {
            Some(name) => name,
            None => new_name()?,
        };
        check_driver(&wish.driver, None).map_err(|error| creating(&name, error))?;
        if let Some(options) = &wish.options {
            local::check(options).map_err(|error| creating(&name, error))?;
        }
        if wish.name.is_none() {
            labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
        }
        let driver = LOCAL.to_owned();
        Ok(VolumeRecord { name, driver, options: wish.options, labels, created: Timestamp::now() })
    }

    fn make_files(&self, host: &HostId, record: &VolumeRecord) -> Result<()> {
        make_folder(&self.volumes.folder(host, &record.name))
            .map_err(|error| Error::hidden(format!("create {}: the folder could not be made", record.name), error))
    }

    /// The volume of a name, made if there is none: a name makes one volume, however often it is asked for.
    async fn ensure_volume(&self, host: &HostState, wish: NewVolume) -> Result<Pin> {
        let record = match &wish.name {
            None => self.new_record(wish)?,
            Some(name) => {
                let name = name.clone();
                let turn = self.volumes.turn(&host.id, &name).await;
                if let Some(known) = self.volumes.find(&host.id, &name) {
                    check_driver(&wish.driver, Some(&known.record)).map_err(|error| creating(&name, error))?;
                    return Ok(known);
                }
                let record = self.new_record(wish)?;
                let made = self.make_volume(host, record).await;
                drop(turn);
                return made;
            }
        };
        self.make_volume(host, record).await
    }

    async fn make_volume(&self, host: &HostState, record: VolumeRecord) -> Result<Pin> {
        self.make_files(&host.id, &record)?;
        let key = Key::Volume(host.id.clone(), record.name.clone());
        if let Err(error) = self.store.commit(vec![Change::put(key, &record)?]).await {
            let _ = remove_folder(&self.volumes.folder(&host.id, &record.name));
            return Err(error.into());
        }
        emit(host, &record, "create");
        Ok(self.volumes.insert(&host.id, record))
    }

    /// Deletes the files of a volume that is out of the table and of the records. Blocking.
    fn delete_files(&self, host: &HostId, name: &VolumeName) -> Result<()> {
        let folder = self.volumes.folder(host, name);
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

    /// Removes a volume that is out of the table: its record first, so that a cut leaves files without a record.
    async fn remove_volume(self: &Arc<Self>, host: &HostState, volume: Arc<Volume>) -> Result<()> {
        let name = volume.record.name.clone();
        let key = Key::Volume(host.id.clone(), name.clone());
        if let Err(error) = self.store.commit(vec![Change::remove(key)]).await {
            self.volumes.put_back(&host.id, volume);
            return Err(error.into());
        }
        self.forget_files(host, &volume).await
    }

    /// Deletes the files of a volume whose record is removed, and says so.
    async fn forget_files(self: &Arc<Self>, host: &HostState, volume: &Volume) -> Result<()> {
        let (engine, id, name) = (Arc::clone(self), host.id.clone(), volume.record.name.clone());
        let deleted = tokio::task::spawn_blocking(move || engine.delete_files(&id, &name)).await;
        deleted.map_err(|error| Error::hidden("the removal was broken off", error))??;
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
    pub(crate) async fn forget_anonymous(self: &Arc<Self>, host: &HostState, volumes: Vec<Arc<Volume>>) {
        for volume in volumes {
            if let Err(error) = self.forget_files(host, &volume).await {
                tracing::warn!(volume = %volume.record.name, %error, "an anonymous volume's files are left");
            }
        }
    }

    /// Mounts a volume for a container that starts, and says so on its host. Blocking.
    pub(crate) fn use_volume(&self, container: &Container, name: &VolumeName, mount: &Mount) -> Result<Pin> {
        let volume = self.volumes.find(&container.host.id, name).ok_or_else(|| no_such_volume(name.as_str()))?;
        self.volumes.mount(&container.host, &volume, container.id.as_str())?;
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

    fn volume_view(&self, host: &HostState, volume: &Volume) -> VolumeView {
        let record = &volume.record;
        VolumeView {
            name: record.name.clone(),
            driver: record.driver.clone(),
            mountpoint: self.volumes.shown_path(host, &record.name).to_string_lossy().into_owned(),
            created: record.created,
            labels: record.labels.clone(),
            options: record.options.clone(),
            users: users(host, &record.name).len(),
        }
    }
}

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
}

impl Host {
    /// Makes a volume, or finds the one that has the name.
    pub async fn create_volume(&self, wish: NewVolume) -> Result<VolumeView> {
        self.require_write()?;
        let host = self.clone();
        to_the_end(async move {
            let volume = host.engine.ensure_volume(&host.state, wish).await?;
            Ok(host.engine.volume_view(&host.state, &volume))
        })
        .await
    }

    /// All volumes of this host, by name.
    pub fn volumes(&self) -> Vec<VolumeView> {
        let all = self.engine.volumes.of_host(&self.state.id);
        all.iter().map(|volume| self.engine.volume_view(&self.state, volume)).collect()
    }

    /// One volume.
    pub fn volume(&self, typed: &str) -> Result<VolumeView> {
        let name: VolumeName = typed.parse().map_err(|_| no_such_volume(typed))?;
        let volume = self.engine.volumes.find(&self.state.id, &name).ok_or_else(|| no_such_volume(typed))?;
        Ok(self.engine.volume_view(&self.state, &volume))
    }

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
                Ok(volume) => host.engine.remove_volume(&host.state, volume).await,
                Err(users) => Err(in_use(&name, &users)),
            }
        })
        .await
    }

    /// Removes volumes that no container mounts, anonymous ones or with `all` every one, for which `keep` says no; gives
    /// their names and the bytes that they held.
    pub async fn prune_volumes(
        &self,
        all: bool,
        keep: &(dyn Fn(&VolumeView) -> bool + Send + Sync),
    ) -> Result<(Vec<VolumeName>, u64)> {
        self.require_write()?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for view in self.volumes() {
            let anonymous = view.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS));
            if view.users > 0 || !is_plain(&view) || !(all || anonymous) || keep(&view) {
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

    /// Bytes of a volume's files.
    pub(crate) async fn volume_size(&self, name: &VolumeName) -> u64 {
        let path = self.engine.volumes.path(&self.state.id, name);
        tokio::task::spawn_blocking(move || crate::files::size_of(&path)).await.unwrap_or(0)
    }

    /// The volumes of which `system df` tells, plain ones of the `local` driver, with the bytes of their files.
    pub(crate) async fn volume_usage(&self) -> Vec<(VolumeView, u64)> {
        let mut all = Vec::new();
        for view in self.volumes() {
            if is_plain(&view) {
                let size = self.volume_size(&view.name).await;
                all.push((view, size));
            }
        }
        all
    }
}

/// Whether a volume's files are the engine's own and no driver's: only those are counted and pruned.
fn is_plain(view: &VolumeView) -> bool {
    view.driver == LOCAL && view.options.as_ref().is_none_or(BTreeMap::is_empty)
}

fn in_use(name: &VolumeName, users: &[ContainerId]) -> Error {
    let users: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
    Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", ")))
}
