//! The engine: what all hosts share, the table of hosts, opening and recovery.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use droste_cgroup::{CgroupPath, Cgroups, Layout, Support};
use droste_model::host::{Grant, HostId, ImageView};
use droste_model::id::{ContainerId, NetworkId};
use droste_model::limit::Limits;
use droste_model::time::Timestamp;
use droste_runtime::Runtime;
use droste_runtime::namespaces::HostNamespaces;
use tokio::sync::mpsc;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::host::{Host, HostState, Power};
use crate::limits::Account;
use crate::privileges;
use crate::random;
use crate::record::{ContainerRecord, HostRecord, NetworkRecord, TagRecord, VolumeRecord};
use crate::settings::Settings;
use crate::store::{Change, Key, Records, Store, StoreError};
use crate::tags::Tags;
use crate::usage::{Growth, Quotas};
use crate::volumes::Volumes;

/// A listening socket for the daemon to serve, or to serve no more.
pub enum ListenerChange {
    /// Serve it: connections act on the host.
    Open {
        /// The container in which the socket lies.
        id: ContainerId,
        /// The socket.
        listener: std::os::unix::net::UnixListener,
        /// The capability that it is.
        host: Host,
    },
    /// The container is gone.
    Close(ContainerId),
}

/// The engine.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) images: droste_image::Store,
    /// Read by whoever names an image, written by whoever removes unneeded content.
    pub(crate) collecting: RwLock<()>,
    /// How far the data root's file system has grown.
    pub(crate) growth: Growth,
    /// Those of that file system.
    pub(crate) quotas: Quotas,
    pub(crate) volumes: Volumes,
    pub(crate) runtime: Runtime,
    pub(crate) cgroups: Cgroups,
    pub(crate) support: Support,
    machine: Arc<HostState>,
    hosts: Mutex<BTreeMap<ContainerId, Arc<HostState>>>,
    settings: RwLock<Arc<Settings>>,
    listeners: mpsc::UnboundedSender<ListenerChange>,
    listener_changes: Mutex<Option<mpsc::UnboundedReceiver<ListenerChange>>>,
    _only_one: File,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::hidden("the record store failed", error)
    }
}

impl Engine {
    /// Opens the data root, finds every container as it really is, and starts those whose restart policy says so.
    pub async fn open(settings: Settings) -> Result<Arc<Engine>> {
        let only_one = claim_roots(&settings)?;
        // The first container waits for it, the daemon does not.
        tokio::task::spawn_blocking(crate::apparmor::has_default);
        let (store, records) = open_store(&settings.data_root)?;
        let images = droste_image::Store::open(&settings.data_root)
            .map_err(|error| Error::internal(format!("open the image store: {error}")))?;
        let runtime = Runtime::new(&settings.exec_root)
            .map_err(|error| Error::internal(format!("prepare the launcher: {error}")))?;
        let cgroups = Layout::detect()
            .and_then(|layout| Cgroups::open(layout, &settings.cgroup_parent))
            .map_err(|error| Error::internal(format!("find the machine's cgroups: {error}")))?;
        let support = Support::of(&cgroups);
        let Records { containers, hosts, tags, volumes, networks } = records;
        let machine = machine(&store, &settings, &hosts).await?;
        let (listeners, changes) = mpsc::unbounded_channel();
        let engine = Arc::new(Engine {
            store,
            images,
            collecting: RwLock::default(),
            growth: Growth::default(),
            quotas: Quotas::of(&settings.data_root),
            volumes: Volumes::new(settings.data_root.join("volumes")),
            runtime,
            cgroups,
            support,
            machine,
            hosts: Mutex::default(),
            settings: RwLock::new(Arc::new(settings)),
            listeners,
            listener_changes: Mutex::new(Some(changes)),
            _only_one: only_one,
        });
        engine.restore_hosts(&containers, hosts);
        engine.restore_tags(tags);
        engine.restore_volumes(volumes);
        engine.restore_networks(networks);
        engine.recover(containers).await?;
        engine.watch_space();
        Ok(engine)
    }

    /// The capability to act on level 0.
    pub fn machine(self: &Arc<Self>) -> Host {
        Host::new(Arc::clone(self), Arc::clone(&self.machine), false)
    }

    /// The host at a path of container names or ids below the machine, `ci-1/build`.
    pub fn at(self: &Arc<Self>, path: &str) -> Result<Host> {
        self.machine().below(path)
    }

    /// The changes of sockets to serve. The daemon takes them once.
    pub fn take_listeners(&self) -> Option<mpsc::UnboundedReceiver<ListenerChange>> {
        lock(&self.listener_changes).take()
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over the settings that may change at run time; the others stay.
    pub fn reload(&self, new: Settings) {
        let old = self.settings();
        let merged = Settings {
            default_ulimits: new.default_ulimits,
            log: new.log,
            init: new.init,
            labels: new.labels,
            debug: new.debug,
            registry: new.registry,
            max_concurrent_downloads: new.max_concurrent_downloads,
            max_concurrent_uploads: new.max_concurrent_uploads,
            parent_images: new.parent_images,
            default_grant: new.default_grant,
            runtimes: new.runtimes,
            default_runtime: new.default_runtime,
            ..(*old).clone()
        };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(merged);
    }

    /// The host that a container is, if it is one.
    pub(crate) fn host_of(&self, id: &ContainerId) -> Option<Arc<HostState>> {
        lock(&self.hosts).get(id).cloned()
    }

    /// The host with an id.
    pub(crate) fn host(&self, id: &HostId) -> Option<Arc<HostState>> {
        match id {
            HostId::Machine => Some(Arc::clone(&self.machine)),
            HostId::Container(id) => self.host_of(id),
        }
    }

    /// All hosts below the machine.
    pub(crate) fn hosts(&self) -> Vec<Arc<HostState>> {
        lock(&self.hosts).values().cloned().collect()
    }

    /// Level 0.
    pub(crate) fn machine_state(&self) -> &Arc<HostState> {
        &self.machine
    }

    /// Makes a container with a socket of its own a host, switched off.
    pub(crate) fn add_host(&self, record: &ContainerRecord, identity: HostRecord) -> Option<Arc<HostState>> {
        let socket = record.socket.as_ref().filter(|socket| socket.grant == Grant::Own)?;
        let parent = self.host(&record.host)?;
        let id = HostId::Container(record.id.clone());
        let account = parent.account.below(record.name.as_str(), identity.limits.clone());
        let tags = Tags::new(id.clone(), socket.images, Some(Arc::clone(&parent.tags)), Arc::clone(&account));
        let cgroup = self.cgroup_path(record, &parent).ok()?.of_hosts_containers();
        let state = Arc::new(HostState::new(id, Some(parent), Arc::new(tags), account, cgroup, identity));
        lock(&self.hosts).insert(record.id.clone(), Arc::clone(&state));
        Some(state)
    }

    /// Forgets a host; its containers are gone before.
    pub(crate) fn remove_host(&self, id: &ContainerId) -> Option<Arc<HostState>> {
        let host = lock(&self.hosts).remove(id)?;
        host.account.close();
        self.quotas.forget(&host);
        Some(host)
    }

    /// Tells the daemon to serve a socket, or to serve it no more.
    pub(crate) fn change_listener(&self, change: ListenerChange) {
        let _ = self.listeners.send(change);
    }

    /// The directory in which a container is kept.
    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.settings().data_root.join("containers").join(id.as_str())
    }

    /// The directory of a container whose removal has begun.
    pub(crate) fn removed_dir(&self, id: &ContainerId) -> PathBuf {
        self.container_dir(id).with_extension("removed")
    }

    /// The directory of a container's run state.
    pub(crate) fn state_dir(&self, id: &ContainerId) -> PathBuf {
        self.settings().exec_root.join("containers").join(id.as_str())
    }

    /// Stores a container's record soon.
    pub(crate) fn remember(&self, container: &Container) {
        let record = container.record().clone();
        match Change::update(Key::Container(record.id.clone()), &record) {
            Ok(change) => self.store.queue(vec![change]),
            Err(error) => tracing::error!(%error, container = %record.id, "a record was lost"),
        }
    }

    /// Stores a container's record now.
    pub(crate) async fn remember_now(&self, container: &Container) -> Result<()> {
        let record = container.record().clone();
        let change = Change::update(Key::Container(record.id.clone()), &record)?;
        Ok(self.store.commit(vec![change]).await?)
    }

    /// Makes every host that the records speak of, parents first.
    fn restore_hosts(&self, containers: &[ContainerRecord], identities: Vec<(String, HostRecord)>) {
        let identities: BTreeMap<String, HostRecord> = identities.into_iter().collect();
        let mut waiting: Vec<&ContainerRecord> = containers.iter().filter(|record| record.is_host()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|record| {
                let ready = self.host(&record.host).is_some();
                if let Some(identity) = identities.get(record.id.as_str()).filter(|_| ready) {
                    self.add_host(record, identity.clone());
                }
                !ready
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for record in waiting {
            tracing::error!(container = %record.id, "its host is not remembered");
        }
    }

    fn restore_tags(&self, tags: Vec<(String, String, TagRecord)>) {
        let mut orphans = Vec::new();
        for (host, key, record) in tags {
            let id = host.parse().map_or(HostId::Machine, HostId::Container);
            match self.host(&id) {
                Some(state) => state.tags.restore(key, record),
                None => orphans.push(Change::remove(Key::Tag(id, key))),
            }
        }
        self.store.queue(orphans);
    }

    /// Volumes of hosts that are not remembered go with them.
    fn restore_networks(&self, networks: Vec<NetworkRecord>) {
        let mut orphans = Vec::new();
        for record in networks {
            match self.host(&record.host) {
                Some(host) => host.networks.restore(record, &host.account),
                None => orphans.push(Change::remove(Key::Network(record.host, record.id))),
            }
        }
        self.store.queue(orphans);
    }

    fn restore_volumes(&self, volumes: Vec<(String, VolumeRecord)>) {
        let (mut known, mut orphans) = (Vec::new(), Vec::new());
        for (host, record) in volumes {
            let id = host.parse().map_or(HostId::Machine, HostId::Container);
            match self.host(&id) {
                Some(host) => known.push((host, record)),
                None => orphans.push(Change::remove(Key::Volume(id, record.name))),
            }
        }
        self.store.queue(orphans);
        self.volumes.restore(known);
    }
}

/// Makes the roots and makes sure that no other daemon uses them.
fn claim_roots(settings: &Settings) -> Result<File> {
    let make = |path: &Path, mode: u32| {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)))
            .map_err(|error| Error::internal(format!("make the folder {}: {error}", path.display())))
    };
    make(&settings.data_root, 0o711)?;
    make(&settings.exec_root, 0o711)?;
    make(&settings.data_root.join("containers"), 0o710)?;
    crate::base::make(&settings.data_root)?;
    make(&settings.exec_root.join("containers"), 0o711)?;
    let path = settings.data_root.join("lock");
    let failed = |error: std::io::Error| Error::internal(format!("lock {}: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    file.try_lock().map_err(|_| {
        Error::conflict(format!(
            "another droste daemon uses {}; end it or choose another --data-root",
            settings.data_root.display()
        ))
    })?;
    Ok(file)
}

type Remembered = Records<ContainerRecord, HostRecord, TagRecord, VolumeRecord, NetworkRecord>;

fn open_store(data_root: &Path) -> Result<(Store, Remembered)> {
    Store::open(&data_root.join("records")).map_err(|error| Error::internal(error.to_string()))
}

/// A host's identity that no host had before.
pub(crate) fn new_identity(limits: Limits) -> Result<HostRecord> {
    let network = || random::bytes().map(NetworkId::from_bytes);
    Ok(HostRecord {
        engine_id: random::uuid()?,
        created: Timestamp::now(),
        networks: [network()?, network()?, network()?],
        limits,
    })
}

/// Level 0, switched on: the daemon's own namespaces.
async fn machine(store: &Store, settings: &Settings, known: &[(String, HostRecord)]) -> Result<Arc<HostState>> {
    let key = HostId::Machine.to_string();
    let record = match known.iter().find(|(host, _)| *host == key) {
        Some((_, record)) => record.clone(),
        None => {
            let record = new_identity(Limits::new())?;
            store.commit(vec![Change::put(Key::Host(HostId::Machine), &record)?]).await?;
            record
        }
    };
    let space = rustix::fs::statvfs(&settings.data_root).map(|found| found.f_blocks * found.f_frsize).ok();
    let account = Account::machine(space);
    let tags = Tags::new(HostId::Machine, ImageView::Isolated, None, Arc::clone(&account));
    let cgroup = CgroupPath::parse(&settings.cgroup_parent).map_err(|error| Error::invalid(error.to_string()))?;
    let state = HostState::new(HostId::Machine, None, Arc::new(tags), account, cgroup, record);
    let namespaces =
        HostNamespaces::own().map_err(|error| Error::internal(format!("open the machine's namespaces: {error}")))?;
    let bounds = privileges::machine_bounds()?;
    state.switch_on(Power { namespaces: Arc::new(namespaces), bounds: Arc::new(bounds) });
    Ok(Arc::new(state))
}
