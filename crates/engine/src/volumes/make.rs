//! Making volumes: on a client's request, and for a container that is being made.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use droste_model::id::ContainerId;
use droste_model::limit::Resource;
use droste_model::mount::MountSource;
use droste_model::name::VolumeName;
use droste_model::time::Timestamp;

use super::plugin::is_plugins;
use super::{ANONYMOUS, LOCAL, Pin, Volume, emit, local, remove_folder};
use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::host::HostState;
use crate::options::NewVolume;
use crate::random;
use crate::record::{ContainerRecord, VolumeRecord};
use crate::store::{Change, Key};

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
        Error::Internal(message) => Error::Internal(text(message)),
        Error::Exhausted(what, message) => Error::Exhausted(what, text(message)),
        other => other,
    }
}

/// Refuses a name that another driver's volume has.
fn check_same_driver(driver: &str, known: &VolumeRecord) -> Result<()> {
    if driver.is_empty() || known.driver == driver {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "driver '{}' already has volume '{}': volume name must be unique",
        known.driver, known.name
    )))
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
    fresh: Vec<Arc<Volume>>,
}

impl Held {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Volume>> {
        self.pins.iter().map(|pin| Arc::clone(&pin.0)).chain(self.fresh.iter().cloned()).collect()
    }

    /// The records of volumes that come with the container.
    pub(crate) fn changes(&self) -> Result<Vec<Change>> {
        let put = |volume: &Arc<Volume>| {
            let record = &volume.record;
            Ok(Change::put(Key::Volume(self.host.id.clone(), record.name.clone()), record)?)
        };
        self.fresh.iter().map(put).collect()
    }

    /// The records are durable: the volumes are there. They stay at least until the returned value is dropped.
    pub(crate) fn keep(mut self) -> Vec<Pin> {
        let mut pins = std::mem::take(&mut self.pins);
        for volume in std::mem::take(&mut self.fresh) {
            emit(&self.host, &volume.record, "create");
            pins.push(self.engine.volumes.insert(&self.host.id, volume));
        }
        pins
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return;
        }
        let (engine, host) = (Arc::clone(&self.engine), Arc::clone(&self.host));
        tokio::task::spawn_blocking(move || {
            for volume in fresh {
                if let Err(error) = engine.unmake(&host, &volume) {
                    tracing::warn!(volume = %volume.record.name, %error, "it was not removed");
                }
            }
        });
    }
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
            if held.fresh.iter().any(|fresh| fresh.record.name == *name) {
                continue;
            }
            let set = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
            let (options, labels) = (set(driver_opts), set(labels));
            let wish = NewVolume { name: Some(name.clone()), driver: driver.clone(), options, labels };
            let is_anonymous = record.anonymous_volumes.contains(name);
            match self.volumes.find(&host.id, name) {
                Some(pin) if is_anonymous => held.pins.push(pin),
                None if is_anonymous => held.fresh.push(self.make_anonymous(host, wish).await?),
                _ => held.pins.push(self.ensure_volume(host, wish).await?),
            }
        }
        Ok(held)
    }

    async fn make_anonymous(self: &Arc<Self>, host: &Arc<HostState>, mut wish: NewVolume) -> Result<Arc<Volume>> {
        wish.labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
        self.make_files(host, new_record(wish)?).await
    }

    /// The volume of a name, made if there is none: a name makes one volume, however often it is asked for.
    pub(super) async fn ensure_volume(self: &Arc<Self>, host: &Arc<HostState>, mut wish: NewVolume) -> Result<Pin> {
        let Some(name) = wish.name.clone() else { return self.make_volume(host, new_record(wish)?).await };
        let _turn = self.volumes.turn(&host.id, &name).await;
        if !matches!(wish.driver.as_str(), "" | LOCAL) {
            let driver = wish.driver.clone();
            let looked = self.on_host(host, move |engine, host| engine.volumes.look_up_driver(host, &driver)).await;
            looked.map_err(|error| creating(&name, error))?;
        }
        if let Some(known) = self.volumes.find(&host.id, &name) {
            check_same_driver(&wish.driver, &known.record).map_err(|error| creating(&name, error))?;
            return Ok(known);
        }
        if wish.driver.is_empty() {
            let wanted = name.clone();
            let keeper = self.on_host(host, move |engine, host| Ok(engine.volumes.plugin_of(host, &wanted))).await?;
            wish.driver = keeper.unwrap_or_default();
        }
        self.make_volume(host, new_record(wish)?).await
    }

    async fn make_volume(self: &Arc<Self>, host: &Arc<HostState>, record: VolumeRecord) -> Result<Pin> {
        let volume = self.make_files(host, record).await?;
        match self.take_place(host, &volume).await {
            Ok(pin) => Ok(pin),
            Err(error) => {
                self.on_host(host, move |engine, host| engine.unmake(host, &volume)).await?;
                Err(error)
            }
        }
    }

    /// The volume's record and its place in the table.
    async fn take_place(&self, host: &Arc<HostState>, volume: &Arc<Volume>) -> Result<Pin> {
        let _stays = host.stay().await?;
        let key = Key::Volume(host.id.clone(), volume.record.name.clone());
        self.store.commit(vec![Change::put(key, &volume.record)?]).await?;
        emit(host, &volume.record, "create");
        Ok(self.volumes.insert(&host.id, Arc::clone(volume)))
    }

    /// Makes a volume's folder, and what its plugin keeps.
    async fn make_files(self: &Arc<Self>, host: &Arc<HostState>, record: VolumeRecord) -> Result<Arc<Volume>> {
        self.require_space(host).await.map_err(|error| creating(&record.name, error))?;
        let make = |engine: &Engine, host: &HostState| {
            let places = host.account.take_object(Resource::Volumes, crate::record::size(&record));
            let places = places.map_err(|error| creating(&record.name, error))?;
            let volume = Volume::new(record, places);
            let name = &volume.record.name;
            make_folder(&engine.volumes.folder(&host.id, name))
                .map_err(|error| Error::hidden(format!("create {name}: the folder could not be made"), error))?;
            engine.quotas.adopt(&host.id, &engine.volumes.path(&host.id, name));
            if is_plugins(&volume)
                && let Err(error) = engine.volumes.make_in_plugin(host, &volume)
            {
                let _ = remove_folder(&engine.volumes.folder(&host.id, name));
                return Err(creating(name, error));
            }
            Ok(volume)
        };
        self.on_host(host, make).await
    }

    /// Takes back what [`make_files`](Self::make_files) made. Blocking.
    fn unmake(&self, host: &HostState, volume: &Volume) -> Result<()> {
        if is_plugins(volume) {
            self.volumes.remove_in_plugin(host, volume)?;
        }
        let removed = remove_folder(&self.volumes.folder(&host.id, &volume.record.name));
        if host.is_removed() {
            self.volumes.forget_empty(&host.id);
        }
        removed.map_err(|error| Error::hidden("a volume could not be taken back", error))
    }

    /// Runs work that blocks, with the engine and a host.
    pub(super) async fn on_host<T: Send + 'static>(
        self: &Arc<Self>,
        host: &Arc<HostState>,
        work: impl FnOnce(&Engine, &HostState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (engine, host) = (Arc::clone(self), Arc::clone(host));
        let done = crate::transit::aside(move || work(&engine, &host)).await;
        done.map_err(|error| Error::hidden("the work on a volume was broken off", error))?
    }
}

/// What a new volume's record says, checked.
fn new_record(wish: NewVolume) -> Result<VolumeRecord> {
    let mut labels = wish.labels;
    let name = match wish.name {
        Some(name) => name,
        None => {
            labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
            new_name()?
        }
    };
    let driver = if wish.driver.is_empty() { LOCAL.to_owned() } else { wish.driver };
    if let Some(options) = wish.options.as_ref().filter(|_| driver == LOCAL) {
        local::check(options).map_err(|error| creating(&name, error))?;
    }
    Ok(VolumeRecord { name, driver, options: wish.options, labels, created: Timestamp::now() })
}
