//! One network: its record, and what is alive of it: addresses, members, names.
//!
//! What a container's start or end touches here takes the same time however many members there are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use droste_model::id::{ContainerId, EndpointId};
use droste_model::network::EndpointRequest;
use droste_network::{Bridge, Family, Ipam, IpamError};

use super::driver::{self, BridgeWay, Way};
use crate::error::{Error, Result};
use crate::limits::Places;
use crate::record::{Driver, EndpointRecord, NetworkRecord};

/// A network of a host.
pub(crate) struct Network {
    /// What is remembered of it.
    pub record: NetworkRecord,
    /// Whether every host has it from the beginning.
    pub builtin: bool,
    live: Mutex<Live>,
    /// What it takes of its host's limits, given back once nobody knows it any more.
    _places: Places,
}

/// What is alive of a network.
#[derive(Default)]
pub(crate) struct Live {
    /// How containers hang on it; `None` for networks without a driver, and for the default bridge until it is made.
    pub way: Option<Way>,
    /// It is there in the host's namespace.
    pub made: bool,
    /// It is being created and is not stored: nobody may remove it.
    pub being_made: bool,
    /// It is being removed: nobody may join.
    pub removed: bool,
    /// The host itself has joined it, with these wishes.
    pub myself: Option<EndpointRequest>,
    /// The host itself among those that answer.
    own: Option<ContainerId>,
    pools: Vec<Ipam>,
    members: BTreeMap<ContainerId, Member>,
    names: BTreeMap<String, Vec<Answer>>,
    holders: BTreeMap<IpAddr, ContainerId>,
}

/// A running container on a network.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name.
    pub name: String,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// All names under which others find it, in lower case.
    names: Vec<String>,
    /// Its addresses.
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

/// Who answers to a name.
struct Answer {
    container: ContainerId,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Network {
    /// A network with nobody on it.
    pub(crate) fn new(record: NetworkRecord, builtin: bool, places: Places) -> Result<Self> {
        let lazy = builtin && record.driver == Driver::Bridge;
        let way = if lazy { None } else { driver::way(&record)? };
        let network = Self { record, builtin, live: Mutex::default(), _places: places };
        {
            let mut live = network.live();
            live.way = way;
            live.myself.clone_from(&network.record.myself);
            live.pools = pools(&network.record)?;
        }
        Ok(network)
    }

    /// What is alive.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its subnets, and the default bridge's once it is made.
    pub(crate) fn subnets(&self) -> Vec<droste_network::IpNet> {
        if self.builtin {
            return self.live().pools.iter().map(Ipam::subnet).collect();
        }
        self.record.subnets.iter().map(|subnet| subnet.subnet).collect()
    }

    /// The id as text.
    pub(crate) fn id(&self) -> &str {
        self.record.id.as_str()
    }

    /// Whether names are resolved on it: every network that somebody made.
    pub(crate) fn has_names(&self) -> bool {
        !self.builtin
    }

    /// The default bridge as it has been made.
    pub(crate) fn become_bridge(&self, bridge: Bridge) {
        let mut live = self.live();
        let mut pools = Vec::new();
        for subnet in &bridge.subnets {
            let mut pool = Ipam::new(subnet.net);
            if let Some(address) = subnet.address {
                let _ = pool.reserve(address);
            }
            pools.push(pool);
        }
        live.pools = pools;
        live.way = Some(Way::Bridge(BridgeWay { bridge, host_binding: None }));
        live.made = true;
    }

    /// Takes an address of a family: the one asked for, or the lowest that is free.
    pub(crate) fn take_address(&self, family: Family, asked: Option<IpAddr>) -> Result<Option<droste_network::IpNet>> {
        let mut live = self.live();
        let mut of_family = live.pools.iter_mut().filter(|pool| Family::of(pool.subnet().addr()) == family).peekable();
        if of_family.peek().is_none() {
            return Ok(None);
        }
        if let Some(asked) = asked {
            let pool = of_family.find(|pool| pool.subnet().contains(&asked));
            let pool = pool.ok_or_else(|| Error::internal("Requested address is out of range"))?;
            return match pool.reserve(asked) {
                Ok(()) => Ok(Some(pool.on_link(asked))),
                Err(IpamError::InUse(_) | IpamError::OutOfRange(_)) => Err(Error::forbidden("Address already in use")),
                Err(error) => Err(Error::internal(error.to_string())),
            };
        }
        for pool in of_family {
            if let Ok(address) = pool.allocate() {
                return Ok(Some(pool.on_link(address)));
            }
        }
        Err(Error::internal(format!(
            "no available {} addresses on this network's address pools: {} ({})",
            family.name(),
            self.record.name,
            self.record.id
        )))
    }

    /// Gives an address back.
    pub(crate) fn give_back(&self, address: IpAddr) {
        for pool in self.live().pools.iter_mut().filter(|pool| pool.subnet().contains(&address)) {
            pool.release(address);
        }
    }

    /// Marks an address as taken, as after a start of the daemon.
    pub(crate) fn keep_address(&self, address: IpAddr) {
        for pool in self.live().pools.iter_mut().filter(|pool| pool.subnet().contains(&address)) {
            let _ = pool.reserve(address);
        }
    }

    /// Refuses newcomers to a network that goes.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.live().removed {
            return Err(Error::not_found(format!("network {} not found", self.record.name)));
        }
        Ok(())
    }

    /// A container is on the network now, under its names.
    pub(crate) fn enter(&self, id: &ContainerId, name: &str, names: &[String], endpoint: &EndpointRecord) {
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let (v4, v6) = (endpoint.v4.map(|(ip, _)| ip), endpoint.v6.map(|(ip, _)| ip));
        let mut live = self.live();
        live.say(id, &names, v4, v6);
        for address in v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)) {
            live.holders.insert(address, id.clone());
        }
        let member = Member { name: name.to_owned(), endpoint: endpoint.id.clone(), names, v4, v6 };
        live.members.insert(id.clone(), member);
    }

    /// The host itself is on the network, under its names: it answers, but it is no member.
    pub(crate) fn call(&self, id: &ContainerId, name: &str, names: &[String], endpoint: &EndpointRecord) {
        self.enter(id, name, names, endpoint);
        self.live().own = Some(id.clone());
    }

    /// A container has left.
    pub(crate) fn leave(&self, id: &ContainerId) {
        let mut live = self.live();
        let Some(member) = live.members.remove(id) else { return };
        live.unsay(id, &member.names);
        for address in member.v4.map(IpAddr::V4).into_iter().chain(member.v6.map(IpAddr::V6)) {
            live.holders.remove(&address);
        }
    }

    /// A member has other names.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str, names: &[String]) {
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let mut live = self.live();
        let Some(mut member) = live.members.get(id).cloned() else { return };
        live.unsay(id, &member.names);
        live.say(id, &names, member.v4, member.v6);
        (member.name, member.names) = (name.to_owned(), names);
        live.members.insert(id.clone(), member);
    }

    /// The addresses of a name, in lower case.
    pub(crate) fn look_up(&self, name: &str) -> Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)> {
        let live = self.live();
        let answers = live.names.get(name)?;
        let v4 = answers.iter().filter_map(|answer| answer.v4).collect();
        Some((v4, answers.iter().filter_map(|answer| answer.v6).collect()))
    }

    /// The name of an address, as `container.network`.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<String> {
        let live = self.live();
        let member = live.members.get(live.holders.get(&address)?)?;
        Some(format!("{}.{}", member.name, self.record.name))
    }

    /// The running containers on it.
    pub(crate) fn members(&self) -> BTreeMap<ContainerId, Member> {
        let live = self.live();
        let others = live.members.iter().filter(|(id, _)| Some(*id) != live.own.as_ref());
        others.map(|(id, member)| (id.clone(), member.clone())).collect()
    }
}

impl Live {
    /// Whether somebody is on it.
    pub(crate) fn is_used(&self) -> bool {
        !self.members.is_empty()
    }

    fn say(&mut self, id: &ContainerId, names: &[String], v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) {
        for name in names {
            let answers = self.names.entry(name.clone()).or_default();
            if !answers.iter().any(|answer| answer.container == *id) {
                answers.push(Answer { container: id.clone(), v4, v6 });
            }
        }
    }

    fn unsay(&mut self, id: &ContainerId, names: &[String]) {
        for name in names {
            if let Some(answers) = self.names.get_mut(name) {
                answers.retain(|answer| answer.container != *id);
                if answers.is_empty() {
                    self.names.remove(name);
                }
            }
        }
    }
}

/// The pools of a network with what is never given taken out.
fn pools(record: &NetworkRecord) -> Result<Vec<Ipam>> {
    let mut pools = Vec::new();
    for subnet in record.subnets_in_use() {
        let mut pool = Ipam::new(subnet.subnet);
        if let Some(range) = subnet.range {
            pool = pool.with_range(range);
        }
        for address in subnet.address.iter().chain(subnet.auxiliary.values()) {
            let _ = pool.reserve(*address);
        }
        pools.push(pool);
    }
    Ok(pools)
}
