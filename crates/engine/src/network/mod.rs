//! The networks of one host: those that every host has, those that clients made, and the namespace in which they are.
//!
//! A host's networks are its own: names, subnets and bridges are looked up here and nowhere else, and all that is done
//! is done in the host's own network namespace.

mod attachment;
mod connect;
mod create;
mod driver;
mod endpoint;
mod myself;
mod names;
mod one;
mod ports;
mod views;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_model::host::HostId;
use droste_model::id::NetworkId;
use droste_model::limit::Resource;
use droste_network::{
    AddressPools, Bridge, BridgeSubnet, Family, HostNetwork, IpNet, Namespace, NetworkError, Taken, Wanted,
};

pub(crate) use self::attachment::{Attachment, Wish};
pub(crate) use self::connect::check_request;
pub(crate) use self::names::shown_names;
pub(crate) use self::one::Network;
use self::watch::Guard;
use crate::error::{Error, Result};
use crate::host::HostState;
use crate::limits::{Account, Places};
use crate::record::{Driver, HostRecord, NetworkRecord};
use crate::settings::Settings;
use crate::store::{Change, Key};

/// The default bridge's interface, on every host.
const BRIDGE: &str = "droste0";

/// What marks rules and links as ours.
const TAG: &str = "droste";

/// What Docker says before every failure at a start.
pub(crate) const SETTING_UP: &str = "failed to set up container networking: ";

/// The networks of a host. They are opened when the first container needs them, and closed when the host goes off.
pub(crate) struct Networks {
    table: Mutex<Table>,
    open: Mutex<Option<Arc<HostNetwork>>>,
    guard: Mutex<Option<Guard>>,
    /// Held while a network is made or removed, so that two never choose the same subnet.
    changing: Mutex<()>,
    seed: String,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<NetworkId, Arc<Network>>,
    by_name: BTreeMap<String, NetworkId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: &NetworkError) -> Error {
    Error::internal(error.to_string())
}

impl Networks {
    /// The networks of a host with this identity: `bridge`, `host` and `none`.
    pub(crate) fn new(id: &HostId, record: &HostRecord) -> Self {
        let networks = Self {
            table: Mutex::default(),
            open: Mutex::default(),
            guard: Mutex::default(),
            changing: Mutex::default(),
            seed: record.engine_id.clone(),
        };
        let drivers = [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)];
        for ((name, driver), network) in drivers.into_iter().zip(&record.networks) {
            let record = builtin(name, driver, network.clone(), id.clone(), record);
            // Without options there is nothing that could be wrong.
            if let Ok(network) = Network::new(record, true, Places::new()) {
                networks.insert(Arc::new(network));
            }
        }
        networks
    }

    /// Puts a network back that the store remembers.
    pub(crate) fn restore(&self, record: NetworkRecord, account: &Arc<Account>) {
        let (id, name) = (record.id.clone(), record.name.clone());
        let places = account.hold_object(Resource::Networks, crate::record::size(&record));
        match Network::new(record, false, places) {
            Ok(network) => self.insert(Arc::new(network)),
            Err(error) => tracing::error!(network = %id, name, %error, "its record can not be understood"),
        }
    }

    fn insert(&self, network: Arc<Network>) {
        let mut table = lock(&self.table);
        table.by_name.insert(network.record.name.clone(), network.record.id.clone());
        table.by_id.insert(network.record.id.clone(), network);
    }

    fn remove(&self, network: &Network) {
        let mut table = lock(&self.table);
        table.by_id.remove(&network.record.id);
        table.by_name.remove(&network.record.name);
    }

    /// All networks: those of every host first, then the others by their age.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<Arc<Network>> = lock(&self.table).by_id.values().cloned().collect();
        all.sort_by_key(|network| (!network.builtin, network.record.created, network.record.name.clone()));
        all
    }

    /// A network by its name alone.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Network>> {
        let table = lock(&self.table);
        table.by_id.get(table.by_name.get(name)?).cloned()
    }

    /// A network by its id alone.
    pub(crate) fn by_id(&self, id: &NetworkId) -> Option<Arc<Network>> {
        lock(&self.table).by_id.get(id).cloned()
    }

    /// A network by id, name, or unique prefix of an id.
    pub(crate) fn find(&self, typed: &str) -> Result<Arc<Network>> {
        let typed = if typed == "default" { "bridge" } else { typed };
        if let Some(network) = typed.parse().ok().and_then(|id| self.by_id(&id)).or_else(|| self.named(typed)) {
            return Ok(network);
        }
        let table = lock(&self.table);
        let fits = |network: &&Arc<Network>| !typed.is_empty() && network.id().starts_with(typed);
        let fitting: Vec<&Arc<Network>> = table.by_id.values().filter(fits).collect();
        match fitting.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(Error::not_found(format!("network {typed} not found"))),
            more => Err(Error::invalid(format!(
                "network {typed} is ambiguous ({} matches found based on ID prefix)",
                more.len()
            ))),
        }
    }

    /// What takes its networks out of the store: their host is removed, and its namespace goes with it.
    pub(crate) fn forgotten(&self, host: &HostId) -> Vec<Change> {
        let made = self.all().into_iter().filter(|network| !network.builtin);
        made.map(|network| Change::remove(Key::Network(host.clone(), network.record.id.clone()))).collect()
    }

    /// Lets go of the host's namespace: with it goes all that was made in it.
    pub(crate) fn close(&self) {
        *lock(&self.guard) = None;
        *lock(&self.open) = None;
        for network in self.all() {
            network.live().made = false;
        }
    }

    /// The host's namespace. Nothing is made in it.
    pub(crate) fn open(&self, host: &HostState) -> Result<Arc<HostNetwork>> {
        let mut open = lock(&self.open);
        if let Some(open) = open.as_ref() {
            return Ok(Arc::clone(open));
        }
        let made = Arc::new(network_of(host)?);
        *open = Some(Arc::clone(&made));
        Ok(made)
    }

    /// From now on rules that somebody else changes are put right. Not before it is known what belongs there: a guard
    /// would take the rules of what an earlier daemon left for somebody else's.
    fn guard(&self, open: &Arc<HostNetwork>) {
        let mut guard = lock(&self.guard);
        if guard.is_some() {
            return;
        }
        match Guard::start(open) {
            Ok(started) => *guard = Some(started),
            Err(error) => tracing::warn!(%error, "changes of the firewall rules are noticed at starts alone"),
        }
    }

    /// Makes a network's bridge, or what else its containers hang on, unless that is done. Blocking.
    pub(crate) fn ensure(&self, host: &HostState, settings: &Settings, network: &Network) -> Result<Arc<HostNetwork>> {
        let open = self.open(host)?;
        if network.live().made {
            return Ok(open);
        }
        let way = network.live().way.clone();
        match way {
            None if network.record.driver == Driver::Bridge => {
                let _only_one = lock(&self.changing);
                let bridge = self.default_bridge(&open, host, settings)?;
                open.ensure_bridge(&bridge).map_err(|error| failed(&error))?;
                if !network.live().made {
                    network.become_bridge(bridge);
                }
            }
            None => {}
            Some(way) => {
                if let Some(bridge) = way.bridge() {
                    open.ensure_bridge(&bridge.bridge).map_err(|error| failed(&error))?;
                }
                if let Some(parent) = way.parent() {
                    open.ensure_parent(parent).map_err(|error| failed(&error))?;
                }
                network.live().made = true;
            }
        }
        Ok(open)
    }

    /// Makes a host's namespace contain what its networks and running containers have and nothing else of ours.
    /// Blocking.
    pub(crate) fn reconcile<'a>(
        &self,
        host: &HostState,
        settings: &Settings,
        attachments: impl Iterator<Item = &'a Attachment>,
    ) -> Result<()> {
        let open = self.open(host)?;
        let all = self.all();
        let has_default = !open.bridge_subnets(BRIDGE).map_err(|error| failed(&error))?.is_empty();
        if !has_default && all.iter().all(|network| network.builtin) {
            return Ok(());
        }
        let mut wanted = Wanted::default();
        for network in all.iter().filter(|network| !network.builtin || has_default) {
            if let Err(error) = self.ensure(host, settings, network) {
                tracing::warn!(network = %network.record.name, %error, "it could not be made again");
            }
            match network.live().way.clone() {
                Some(driver::Way::Bridge(way)) => wanted.bridges.push(way.bridge),
                Some(way) => wanted.parents.extend(way.parent().cloned()),
                None => {}
            }
        }
        for attachment in attachments {
            attachment.tell_wanted(&mut wanted);
        }
        open.reconcile(&wanted).map_err(|error| failed(&error))?;
        self.guard(&open);
        Ok(())
    }

    /// The bridge that the settings name, or the one that an earlier daemon made, or one in a free subnet.
    fn default_bridge(&self, open: &HostNetwork, host: &HostState, settings: &Settings) -> Result<Bridge> {
        let is_there = open.bridge_subnets(BRIDGE).map_err(|error| failed(&error))?;
        let is_there = is_there.into_iter().find(|subnet| subnet.addr().is_ipv4());
        let mut bridge = match (settings.bridge_ip.filter(|_| host.level == 0), is_there) {
            (Some((gateway, prefix)), _) => {
                let subnet = IpNet::new(IpAddr::V4(gateway), prefix).map_err(|error| {
                    Error::invalid(format!("invalid address of the default bridge {gateway}/{prefix}: {error}"))
                })?;
                let own = BridgeSubnet { address: Some(IpAddr::V4(gateway)), ..BridgeSubnet::new(subnet.trunc()) };
                Bridge { subnets: vec![own], ..Bridge::new(BRIDGE, subnet.trunc()) }
            }
            (None, Some(subnet)) => Bridge::new(BRIDGE, subnet),
            (None, None) => Bridge::new(BRIDGE, self.free_subnet(open, host, settings, Family::V4, &[])?),
        };
        bridge.icc = settings.icc;
        if let Some(mtu) = settings.mtu {
            bridge.mtu = mtu;
        }
        Ok(bridge)
    }

    /// A subnet that nobody around uses: of the daemon's pools, or of Docker's.
    fn free_subnet(
        &self,
        open: &HostNetwork,
        host: &HostState,
        settings: &Settings,
        family: Family,
        also: &[IpNet],
    ) -> Result<IpNet> {
        let pools = self.pools(settings)?;
        let mut taken = above(host);
        for network in self.all() {
            let holder = format!("network {}", network.record.name);
            taken.extend(network.subnets().into_iter().map(|subnet| Taken { subnet, holder: holder.clone() }));
        }
        taken.extend(also.iter().map(|subnet| Taken { subnet: *subnet, holder: String::new() }));
        open.choose_subnet(&pools, family, &taken).map_err(|error| failed(&error))
    }

    /// The host's address on its default bridge, once that is made.
    pub(crate) fn default_gateway(&self) -> Option<IpAddr> {
        let default = self.named("bridge")?;
        let live = default.live();
        live.way.as_ref()?.bridge()?.bridge.subnets.iter().find_map(|subnet| subnet.address)
    }

    fn pools(&self, settings: &Settings) -> Result<AddressPools> {
        let seed = self.seed.as_bytes();
        let wrong = |error: &dyn std::fmt::Display| Error::internal(format!("the daemon's address pools: {error}"));
        let mut pools = Vec::new();
        for (base, prefix, size) in &settings.address_pools {
            pools.push((IpNet::new(IpAddr::V4(*base), *prefix).map_err(|error| wrong(&error))?, *size));
        }
        if pools.is_empty() {
            return Ok(AddressPools::docker(seed));
        }
        AddressPools::of(&pools, seed).map_err(|error| wrong(&error))
    }
}

/// A host's network namespace.
fn network_of(host: &HostState) -> Result<HostNetwork> {
    let fd = host.power()?.namespaces.net.try_clone();
    let fd = fd.map_err(|error| Error::hidden("the network namespace of the host could not be opened", error))?;
    let open = HostNetwork::open(Namespace::from_fd(fd), TAG).map_err(|error| failed(&error))?;
    Ok(open.with_sockets(host.sockets.clone()))
}

/// The subnets of the hosts above: a host that reused one could not reach what is on it.
fn above(host: &HostState) -> Vec<Taken> {
    let hosts = std::iter::successors(host.parent.as_deref(), |host| host.parent.as_deref());
    let open = hosts.filter_map(|host| lock(&host.networks.open).clone());
    let subnets = open.flat_map(|open| open.used_subnets().unwrap_or_default());
    subnets.map(|subnet| Taken { subnet, holder: "the host above".to_owned() }).collect()
}

/// The record of a network that every host has.
fn builtin(name: &str, driver: Driver, id: NetworkId, host: HostId, record: &HostRecord) -> NetworkRecord {
    NetworkRecord {
        id,
        name: name.to_owned(),
        host,
        created: record.created,
        driver,
        scope: "local".to_owned(),
        internal: false,
        attachable: false,
        config_only: false,
        config_from: String::new(),
        ipv4: true,
        ipv6: false,
        ipam_options: None,
        subnets: Vec::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        myself: None,
    }
}
