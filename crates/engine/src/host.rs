//! Hosts: where containers run. [`HostState`] is what the engine keeps of one; [`Host`] is the capability to act on it.
//!
//! There is one code path for every level: nothing here asks whether a host is the machine, but for the few facts that
//! only a container has (its own record, which it may inspect as SELF).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use droste_cgroup::CgroupPath;
use droste_confine::Bounds;
use droste_model::event::{Event, EventType};
use droste_model::host::HostId;
use droste_model::id::ExecId;
use droste_model::time::Timestamp;
use droste_network::{Held, Sockets};
use droste_runtime::namespaces::HostNamespaces;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::EventLog;
use crate::exec::Exec;
use crate::limits::{Account, Turn};
use crate::network::Networks;
use crate::record::HostRecord;
use crate::table::Table;
use crate::tags::Tags;
use crate::transit::Transit;
use crate::usage::Measured;

/// What the engine keeps of a host.
pub(crate) struct HostState {
    /// Which host.
    pub id: HostId,
    /// How deep: 0 is the machine.
    pub level: usize,
    /// The host one level up.
    pub parent: Option<Arc<HostState>>,
    /// Its image names.
    pub tags: Arc<Tags>,
    /// What it uses and may use.
    pub account: Arc<Account>,
    /// What it was found to use on disk.
    pub measured: Measured,
    /// Its events.
    pub events: EventLog,
    /// Its networks.
    pub networks: Networks,
    /// Its threads for archives.
    pub transit: Transit,
    /// Its places for sockets of the daemon's.
    pub sockets: Sockets,
    /// The cgroup below which its containers are placed, relative to the hierarchy's root.
    pub cgroup: CgroupPath,
    table: Mutex<Table>,
    execs: Mutex<BTreeMap<ExecId, Arc<Exec>>>,
    record: Mutex<HostRecord>,
    power: Mutex<Option<Power>>,
    myself: Mutex<Weak<Container>>,
    removed: RwLock<bool>,
}

/// A host that is switched on.
#[derive(Clone)]
pub(crate) struct Power {
    /// Its namespaces and root, held open.
    pub namespaces: Arc<HostNamespaces>,
    /// What nothing on it can exceed.
    pub bounds: Arc<Bounds>,
}

/// How many sockets the daemon has open for a host that is a container on the machine, and those below it: of all that it
/// could have, no more than this part.
fn share_of_sockets() -> usize {
    const PART: u64 = 8;
    const LEAST: usize = 1024;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let share = most.map_or(usize::MAX, |most| usize::try_from(most / PART).unwrap_or(usize::MAX));
    share.max(LEAST)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostState {
    /// A host that is switched off.
    pub(crate) fn new(
        id: HostId,
        parent: Option<Arc<HostState>>,
        tags: Arc<Tags>,
        account: Arc<Account>,
        cgroup: CgroupPath,
        record: HostRecord,
    ) -> HostState {
        let level = parent.as_ref().map_or(0, |parent| parent.level + 1);
        let networks = Networks::new(&id, &record);
        let levels = parent.as_ref().map(|parent| Arc::clone(parent.events.levels())).unwrap_or_default();
        let events = EventLog::new(id.clone(), levels);
        let transit = match &parent {
            None => Transit::of_machine(),
            Some(machine) if machine.level == 0 => Transit::of_host(),
            Some(above) => above.transit.clone(),
        };
        let sockets = match &parent {
            None => Sockets::default(),
            Some(machine) if machine.level == 0 => Sockets::new(share_of_sockets()),
            Some(above) => above.sockets.clone(),
        };
        HostState {
            id,
            level,
            parent,
            tags,
            measured: Measured::default(),
            events,
            account,
            networks,
            transit,
            sockets,
            cgroup,
            table: Mutex::default(),
            execs: Mutex::default(),
            record: Mutex::new(record),
            power: Mutex::default(),
            myself: Mutex::default(),
            removed: RwLock::default(),
        }
    }

    /// Its containers.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Its containers now, as a list that holds no lock.
    pub(crate) fn members(&self) -> Vec<Arc<Container>> {
        self.table().all()
    }

    /// Processes started by exec in its containers.
    pub(crate) fn execs(&self) -> MutexGuard<'_, BTreeMap<ExecId, Arc<Exec>>> {
        lock(&self.execs)
    }

    /// Its identity.
    pub(crate) fn record(&self) -> MutexGuard<'_, HostRecord> {
        lock(&self.record)
    }

    /// Switches it on: from now on containers may start on it.
    pub(crate) fn switch_on(&self, power: Power) {
        *lock(&self.power) = Some(power);
    }

    /// Switches it off: nothing starts on it any more, and its namespaces are let go.
    pub(crate) fn switch_off(&self) {
        *lock(&self.power) = None;
        self.networks.close();
    }

    /// Its namespaces and bounds, while it is on.
    pub(crate) fn power(&self) -> Result<Power> {
        lock(&self.power).clone().ok_or_else(Self::off)
    }

    /// What is said of a host that is off.
    pub(crate) fn off() -> Error {
        Error::conflict("the host of this container is not running")
    }

    /// Whether it is on.
    pub(crate) fn is_on(&self) -> bool {
        lock(&self.power).is_some()
    }

    /// Keeps it from being removed for the moment in which something new takes its place in the records and the tables:
    /// its removal finds that, or it is refused.
    pub(crate) async fn stay(&self) -> Result<RwLockReadGuard<'_, bool>> {
        let removed = self.removed.read().await;
        if *removed { Err(Error::conflict("the host is being removed")) } else { Ok(removed) }
    }

    /// From now on nothing new takes its place on it.
    pub(crate) async fn begin_removal(&self) {
        *self.removed.write().await = true;
    }

    /// Whether its removal has begun. For work that may not wait.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.try_read().is_ok_and(|removed| *removed)
    }

    /// Says which container this host is.
    pub(crate) fn is_container(&self, container: &Arc<Container>) {
        *lock(&self.myself) = Arc::downgrade(container);
    }

    /// The container that this host is; `None` for the machine.
    pub(crate) fn myself(&self) -> Option<Arc<Container>> {
        lock(&self.myself).upgrade()
    }

    /// Emits an event about an image, a network or the daemon.
    pub(crate) fn emit(&self, kind: EventType, action: &str, actor: &str, attributes: &[(&str, String)]) {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let (action, actor) = (action.to_owned(), actor.to_owned());
        self.events.emit(Event { kind, action, actor, attributes, time: Timestamp::now() });
    }
}

/// The capability to act on one host. Whoever holds it can reach that host's objects and no others.
#[derive(Clone)]
pub struct Host {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: Arc<HostState>,
    read_only: bool,
}

/// What a client's word for a container means on its host.
pub(crate) enum Target {
    /// One of the host's containers.
    Member(Arc<Container>),
    /// The host itself.
    Myself(Arc<Container>),
}

impl Target {
    /// The container, member or SELF.
    pub(crate) fn container(&self) -> &Arc<Container> {
        match self {
            Target::Member(container) | Target::Myself(container) => container,
        }
    }
}

impl Host {
    /// The capability to act on a host. Only the engine makes one from nothing.
    pub(crate) fn new(engine: Arc<Engine>, state: Arc<HostState>, read_only: bool) -> Self {
        Self { engine, state, read_only }
    }

    /// How deep the host is: 0 is the machine.
    pub fn level(&self) -> usize {
        self.state.level
    }

    /// The path of names from the machine down to this host, `/` for the machine, and its id.
    pub fn address(&self) -> (String, String) {
        let up = std::iter::successors(Some(&self.state), |host| host.parent.as_ref());
        let mut names: Vec<String> = up.filter_map(|host| Some(host.myself()?.record().name.to_string())).collect();
        names.reverse();
        let path = if names.is_empty() { "/".to_owned() } else { names.join("/") };
        (path, self.state.id.to_string())
    }

    /// Whether this capability only looks.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The right to have one request answered on this host, as long as its limit of them allows.
    pub fn take_turn(&self) -> Result<Turn> {
        self.state.account.take_turn()
    }

    /// Waits until the daemon may keep one more connection open for this host and those below it.
    pub async fn take_connection(&self) -> Option<Held> {
        self.state.sockets.wait().await
    }

    /// Refuses a change through a capability that only looks.
    pub(crate) fn require_write(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::forbidden(
                "this socket is read-only (label droste.socket=parent-ro): it can look at its host but not change it",
            ));
        }
        Ok(())
    }

    /// What `typed` means here: a member by id, name or prefix, else SELF by id, short id, hostname or name.
    pub(crate) fn target(&self, typed: &str) -> Result<Target> {
        let found = self.state.table().find(typed);
        match found {
            Ok(container) => Ok(Target::Member(container)),
            Err(error @ Error::NotFound(_)) => self.find_self(typed).map(Target::Myself).ok_or(error),
            Err(error) => Err(error),
        }
    }

    fn find_self(&self, typed: &str) -> Option<Arc<Container>> {
        let myself = self.state.myself()?;
        let record = myself.record();
        let bare = typed.strip_prefix('/').unwrap_or(typed);
        let by_id = bare.len() >= 12 && record.id.as_str().starts_with(bare);
        let named = bare == record.name.as_str() || (!bare.is_empty() && bare == record.config.hostname);
        drop(record);
        (by_id || named).then_some(myself)
    }

    /// One of the host's containers; SELF is refused with a reason.
    pub(crate) fn member(&self, typed: &str) -> Result<Arc<Container>> {
        match self.target(typed)? {
            Target::Member(container) => Ok(container),
            Target::Myself(_) => Err(Error::conflict(format!(
                "{typed} is the container that this engine socket belongs to: a host can inspect itself and join its \
                 own namespaces, but only the host above can change it"
            ))),
        }
    }

    /// One of the host's containers for a change.
    pub(crate) fn member_to_change(&self, typed: &str) -> Result<Arc<Container>> {
        self.require_write()?;
        self.member(typed)
    }

    /// A process started by exec in one of the host's containers.
    pub(crate) fn find_exec(&self, typed: &str) -> Result<Arc<Exec>> {
        let absent = || Error::NotFound(crate::error::Message::new(format!("No such exec instance: {typed}")));
        let id: ExecId = typed.parse().map_err(|_| absent())?;
        self.state.execs().get(&id).cloned().ok_or_else(absent)
    }
}
