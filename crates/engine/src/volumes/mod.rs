//! Volumes: what belongs to a host and outlives its containers. This file keeps the table of all hosts' volumes, their
//! names' turns and who uses them; [`make`] makes them, [`remove`] removes them, [`used`] shows them, [`local`] reads the options of the `local` driver,
//! [`content`] fills new ones from images, [`mounted`] mounts those
//! with options, [`plugin`] asks those who keep others.
//!
//! A volume of the `local` driver is a folder, `volumes/NAME/_data` below the data root, and a record. The record
//! counts: a folder without one was being made or removed when the daemon was killed, and goes at the next start.

mod content;
mod local;
mod make;
mod mounted;
mod plugin;
mod remove;
mod used;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use droste_model::event::EventType;
use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::limit::Resource;
use droste_model::mount::MountSource;
use droste_model::name::VolumeName;
use droste_runtime::filesystems;
use droste_runtime::namespaces::{BindError, BindOptions};

use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::host::HostState;
use crate::limits::Places;
use crate::random;
use crate::record::{ContainerRecord, VolumeRecord};

pub(crate) use content::fill;
pub(crate) use make::new_name;
pub(crate) use remove::removals;

/// The folder of a volume in which its files are.
const DATA: &str = "_data";

/// The folder of the volumes of hosts below the machine; no volume can have its name.
const OF_HOSTS: &str = ".hosts";

/// The driver that is built in.
pub(crate) const LOCAL: &str = "local";

/// The label of volumes whose names nobody chose.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Where Docker's volumes are on most machines. A nested host is shown its volumes there.
const SHOWN_ROOT: &str = "/var/lib/docker/volumes";

/// One volume in memory.
pub(crate) struct Volume {
    /// What is remembered of it.
    pub record: VolumeRecord,
    /// Requests that need it to stay, for moments; containers that mount it count beside them.
    pins: Mutex<usize>,
    /// Who uses its files now: ids of running containers, and others for moments.
    users: Mutex<BTreeSet<String>>,
    /// Where its plugin has mounted it, on its host.
    place: Mutex<Option<String>>,
    /// What it takes of its host's limits, given back once nobody knows it any more.
    _places: Places,
}

impl Volume {
    fn new(record: VolumeRecord, places: Places) -> Arc<Self> {
        let (pins, users, place) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { record, pins, users, place, _places: places })
    }
}

/// Keeps a volume from being removed until it is dropped.
pub(crate) struct Pin(Arc<Volume>);

impl Pin {
    fn new(volume: &Arc<Volume>) -> Self {
        *lock(&volume.pins) += 1;
        Self(Arc::clone(volume))
    }
}

impl std::ops::Deref for Pin {
    type Target = Volume;

    fn deref(&self) -> &Volume {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        *lock(&self.0.pins) -= 1;
    }
}

type Key = (HostId, VolumeName);
type Turn = tokio::sync::Mutex<()>;

/// The volumes of all hosts, below one folder.
pub(crate) struct Volumes {
    root: PathBuf,
    table: Mutex<BTreeMap<Key, Arc<Volume>>>,
    turns: Mutex<BTreeMap<Key, Weak<Turn>>>,
    /// Plugins of hosts that were greeted.
    activated: Mutex<BTreeSet<(HostId, String)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volumes {
    /// The volumes below a folder.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, table: Mutex::default(), turns: Mutex::default(), activated: Mutex::default() }
    }

    /// The folder of a host's volumes: the machine's are where Docker has them, beside them those of all others.
    fn folder_of(&self, host: &HostId) -> PathBuf {
        match host {
            HostId::Machine => self.root.clone(),
            HostId::Container(id) => self.root.join(OF_HOSTS).join(id.as_str()),
        }
    }

    fn folder(&self, host: &HostId, name: &VolumeName) -> PathBuf {
        self.folder_of(host).join(name.as_str())
    }

    /// Where the files of a volume of the `local` driver are.
    pub(crate) fn path(&self, host: &HostId, name: &VolumeName) -> PathBuf {
        self.folder(host, name).join(DATA)
    }

    /// Takes over what the store remembers, and removes the folders that no record speaks of.
    pub(crate) fn restore(&self, records: Vec<(Arc<HostState>, VolumeRecord)>) {
        let mut table = lock(&self.table);
        for (host, record) in records {
            let name = record.name.clone();
            let places = host.account.hold_object(Resource::Volumes, crate::record::size(&record));
            table.insert((host.id.clone(), name), Volume::new(record, places));
        }
        let known: BTreeSet<PathBuf> = table.keys().map(|(host, name)| self.folder(host, name)).collect();
        let of_hosts = self.root.join(OF_HOSTS);
        let own = folders(&self.root).into_iter().filter(|folder| *folder != of_hosts);
        let others = folders(&of_hosts).into_iter().flat_map(|host| folders(&host));
        for folder in own.chain(others) {
            if !known.contains(&folder)
                && let Err(error) = remove_folder(&folder)
            {
                tracing::warn!(folder = %folder.display(), %error, "a volume that was being made or removed is left");
            }
        }
        // Those of hosts that are gone, or that have no volumes.
        for empty in folders(&of_hosts) {
            let _ = std::fs::remove_dir(empty);
        }
    }

    /// Waits for the right to make or remove the volume of a name.
    async fn turn(&self, host: &HostId, name: &VolumeName) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&(host.clone(), name.clone())).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::new(Turn::default());
                turns.insert((host.clone(), name.clone()), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// A volume of a host, kept from being removed.
    pub(crate) fn find(&self, host: &HostId, name: &VolumeName) -> Option<Pin> {
        let table = lock(&self.table);
        table.get(&(host.clone(), name.clone())).map(Pin::new)
    }

    fn insert(&self, host: &HostId, volume: Arc<Volume>) -> Pin {
        let pin = Pin::new(&volume);
        lock(&self.table).insert((host.clone(), volume.record.name.clone()), volume);
        pin
    }

    /// All volumes of a host, by name.
    pub(crate) fn of_host(&self, host: &HostId) -> Vec<Arc<Volume>> {
        let table = lock(&self.table);
        table.iter().filter(|((of, _), _)| of == host).map(|(_, volume)| Arc::clone(volume)).collect()
    }

    /// The volumes of a host whose files are in their folders: those without a driver and options.
    pub(crate) fn plain(&self, host: &HostId) -> Vec<VolumeName> {
        let is_plain = |volume: &&Arc<Volume>| {
            volume.record.driver == LOCAL && volume.record.options.as_ref().is_none_or(BTreeMap::is_empty)
        };
        self.of_host(host).iter().filter(is_plain).map(|volume| volume.record.name.clone()).collect()
    }

    /// Takes a volume out of the table unless it is needed; `Err` names the containers that mount it. One container may
    /// be left out of account.
    fn take_out(
        &self,
        host: &HostState,
        name: &VolumeName,
        except: Option<&ContainerId>,
    ) -> Result<Arc<Volume>, Vec<ContainerId>> {
        let key = (host.id.clone(), name.clone());
        let mut table = lock(&self.table);
        let mut users = users(host, name);
        users.retain(|user| Some(user) != except);
        match table.get(&key) {
            Some(volume) if users.is_empty() && *lock(&volume.pins) == 0 => table.remove(&key).ok_or_else(Vec::new),
            _ => Err(users),
        }
    }

    fn put_back(&self, host: &HostId, volume: Arc<Volume>) {
        lock(&self.table).insert((host.clone(), volume.record.name.clone()), volume);
    }

    /// Where a host is shown a volume: the machine where it is, others where Docker's volumes are.
    pub(crate) fn shown_path(&self, host: &HostState, name: &VolumeName) -> PathBuf {
        match host.level {
            0 => self.path(&host.id, name),
            _ => Path::new(SHOWN_ROOT).join(name.as_str()).join(DATA),
        }
    }

    /// Opens a volume that is mounted for someone, or what lies in it at `subpath`, as a detached mount. Blocking.
    pub(crate) fn open(
        &self,
        engine: &Engine,
        host: &HostState,
        volume: &Volume,
        subpath: Option<&str>,
    ) -> Result<OwnedFd> {
        let name = &volume.record.name;
        let failed = |error: &dyn std::fmt::Display| Error::hidden(format!("volume {name} could not be opened"), error);
        let (view, path) = if plugin::is_plugins(volume) {
            let (view, place) = self.place_in_plugin(host, volume)?;
            (view, place.into())
        } else {
            let view = engine.machine_state().power()?.namespaces.view().map_err(|error| failed(&error))?;
            (view, self.path(&host.id, name))
        };
        let opened = match subpath {
            None => view.open_bind_source(&path, BindOptions::default()),
            Some(subpath) => view.open_below(&path, subpath),
        };
        let shown = self.shown_path(host, name);
        opened.map(|opened| opened.mount).map_err(|error| match (error, subpath) {
            (BindError::Missing { .. }, Some(subpath)) => no_subpath(&shown.display(), subpath),
            (BindError::Escapes { .. }, Some(subpath)) => escaping_subpath(&shown.display(), subpath),
            (BindError::Missing { .. }, None) if plugin::is_plugins(volume) => Error::internal(format!(
                "error while mounting volume {name:?}: driver {} answered the path {}, which does not exist",
                volume.record.driver,
                path.display()
            )),
            (error, _) => failed(&error),
        })
    }

    /// Opens a volume for a moment, mounted or not. Blocking.
    pub(crate) fn open_once(
        &self,
        engine: &Engine,
        host: &HostState,
        volume: &Volume,
        subpath: Option<&str>,
    ) -> Result<OwnedFd> {
        let user = random::uuid()?;
        self.mount(host, volume, &user)?;
        let opened = self.open(engine, host, volume, subpath);
        self.unmount(host, volume, &user);
        opened
    }

    /// The volume, and the path in it, that a path means where a nested host is shown its volumes.
    pub(crate) fn shown_at(&self, host: &HostState, path: &str) -> Option<(Pin, Option<String>)> {
        let below = path.strip_prefix(SHOWN_ROOT).filter(|_| host.level > 0)?.strip_prefix('/')?;
        let (name, below) = below.split_once('/')?;
        let below = below.strip_prefix(DATA)?;
        let subpath = match below.strip_prefix('/') {
            None if below.is_empty() => None,
            None => return None,
            Some(subpath) => Some(subpath.to_owned()),
        };
        Some((self.find(&host.id, &name.parse().ok()?)?, subpath))
    }
}

/// Docker's words for a subpath that is not there. `base` is the directory that it was looked up in.
pub(crate) fn no_subpath(base: &dyn std::fmt::Display, subpath: &str) -> Error {
    Error::NotFound(Message::new(format!(
        "cannot access path {base}/{subpath}: lstat {base}/{subpath}: no such file or directory"
    )))
}

/// Docker's words for a subpath that leads out of its directory.
pub(crate) fn escaping_subpath(base: &dyn std::fmt::Display, subpath: &str) -> Error {
    Error::invalid(format!("path concatenation escapes the base directory, base: {base}, subpath: {subpath}"))
}

fn emit(host: &HostState, record: &VolumeRecord, action: &str) {
    host.emit(EventType::Volume, action, record.name.as_str(), &[("driver", record.driver.clone())]);
}

/// Docker's words for a name that no volume has.
pub(crate) fn no_such_volume(typed: &str) -> Error {
    Error::NotFound(Message::new(format!("get {typed}: no such volume")))
}

/// The volumes that a container mounts.
pub(crate) fn mounted(record: &ContainerRecord) -> impl Iterator<Item = &VolumeName> {
    record.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, .. } => name.as_ref(),
        _ => None,
    })
}

/// The containers of a host that mount a volume.
fn users(host: &HostState, name: &VolumeName) -> Vec<ContainerId> {
    let uses = |record: &ContainerRecord| mounted(record).any(|mounted| mounted == name);
    host.members().iter().filter(|container| uses(&container.record())).map(|container| container.id.clone()).collect()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes a volume's folder. What is mounted over its files is unmounted and not deleted.
fn remove_folder(path: &Path) -> std::io::Result<()> {
    filesystems::detach(&path.join(DATA))?;
    droste_image::remove_tree(path).map_err(std::io::Error::other)
}
