//! The network of one host: everything that is done in its namespace.
//!
//! A `HostNetwork` remembers what should be there (bridges, published ports) and makes the namespace
//! so. It never asks which host it serves: the namespace that it was given is all that it touches.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use droste_model::port::Protocol;
use ipnet::IpNet;

use crate::attach::{self, addresses_of};
use crate::beside;
use crate::bridge::{Bridge, check_ifname};
use crate::endpoint::{Attached, Endpoint, Uplink};
use crate::error::{NetworkError, Result};
use crate::firewall::{self, Desired, Entry, Ledger, Publication};
use crate::flows;
use crate::forward;
use crate::ipam::{self, AddressPools, Family, Taken};
use crate::link::{self, Link};
use crate::mac::MacAddr;
use crate::namespace::{Namespace, lock};
use crate::netlink::Socket;
use crate::netlink::uapi::NFPROTO_INET;
use crate::nft::{self, Batch};
use crate::parent::{self, Parent};
use crate::ports::{PortRequest, PortReservation, PortTable};
use crate::sockets::Sockets;
use crate::survey::{is_everywhere, leftovers, refuse_overlap, used_subnets};

/// The network of one host.
#[derive(Debug)]
pub struct HostNetwork {
    namespace: Namespace,
    tag: String,
    state: Mutex<State>,
    ports: Arc<Mutex<PortTable>>,
    sockets: Sockets,
}

/// What should be there, and the number of the nf_tables commit at which it was.
#[derive(Debug, Default)]
struct State {
    desired: Desired,
    ledger: Ledger,
    /// Whether the table has been compared since this value was made.
    compared: bool,
    generation: Option<u32>,
}

/// Which elements a sound table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elements {
    Exactly,
    OthersToo,
}

/// What a host's namespace should contain, as its records say.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its bridges.
    pub bridges: Vec<Bridge>,
    /// The parents of its macvlan and ipvlan networks.
    pub parents: Vec<Parent>,
    /// Its published ports.
    pub ports: Vec<Publication>,
    /// The host's ends of its endpoints.
    pub host_ifnames: Vec<String>,
}

impl HostNetwork {
    /// The network of the host whose namespace this is. `tag` names the nf_tables table and marks bridges;
    /// nothing is changed yet.
    pub fn open(namespace: Namespace, tag: &str) -> Result<Self> {
        check_ifname(tag)?;
        let (tag, state) = (tag.to_owned(), Mutex::default());
        Ok(Self { namespace, tag, state, ports: Arc::default(), sockets: Sockets::default() })
    }

    /// The same, for a host that has these places for sockets.
    #[must_use]
    pub fn with_sockets(self, sockets: Sockets) -> Self {
        Self { sockets, ..self }
    }

    /// The host's places for sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The host's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Every subnet that the namespace has an address in or a route to, without the default routes.
    pub fn used_subnets(&self) -> Result<Vec<IpNet>> {
        self.namespace.with_route(|socket| used_subnets(socket, None))
    }

    /// The first subnet of the pools that overlaps neither the namespace's subnets nor `taken`.
    ///
    /// A nested host sees the routes of its own namespace only. For its containers to reach what lies beyond
    /// its parent, `taken` has to contain the subnets that the hosts above it use.
    pub fn choose_subnet(&self, pools: &AddressPools, family: Family, taken: &[Taken]) -> Result<IpNet> {
        let mut all = self.used_subnets()?;
        all.extend(taken.iter().map(|t| t.subnet));
        pools
            .first_free(family, &all)
            .ok_or_else(|| NetworkError::NoSubnet { holders: ipam::holders(pools, family, &all, taken) })
    }

    /// Refuses a subnet that overlaps one of the namespace's.
    pub fn check_subnet(&self, subnet: IpNet) -> Result<()> {
        self.namespace.with_route(|socket| refuse_overlap(&used_subnets(socket, None)?, subnet))
    }

    /// The subnets of a bridge of ours that is there already, as after a restart.
    pub fn bridge_subnets(&self, name: &str) -> Result<Vec<IpNet>> {
        let mark = self.mark();
        self.namespace.with_route(|socket| {
            let Some(bridge) = link::find_link(socket, name)?.filter(|l| l.alias == mark) else {
                return Ok(Vec::new());
            };
            let of_bridge = link::addresses(socket)?.into_iter().filter(|a| a.index == bridge.index);
            Ok(of_bridge.map(|a| a.address.trunc()).filter(|net| !is_everywhere(*net)).collect())
        })
    }

    /// Makes a bridge with its rules, or puts right what is missing of it. A bridge of that name that somebody else made
    /// is used as it is, with the network's addresses added.
    pub fn ensure_bridge(&self, bridge: &Bridge) -> Result<()> {
        bridge.check()?;
        let mut state = lock(&self.state);
        self.ensure_link(bridge)?;
        let mut closed = forward::open(&self.namespace, bridge)?;
        closed.retain(|family| !state.desired.closed.contains(family));
        let old = state.desired.bridges.insert(bridge.name.clone(), bridge.clone());
        state.desired.closed.extend(closed.iter().copied());
        let mut fresh = firewall::bridge_entries(bridge);
        fresh.extend(closed.into_iter().map(firewall::closed_entry));
        let stale = old.map(|old| firewall::bridge_entries(&old)).unwrap_or_default();
        self.change(&mut state, "add a bridge", &fresh, &stale)?;
        self.admit(&mut state)
    }

    /// Removes a bridge with its rules. Endpoints that are still attached lose their network. A bridge that somebody
    /// else made stays, without the network's addresses.
    pub fn remove_bridge(&self, name: &str) -> Result<()> {
        let mut state = lock(&self.state);
        let old = state.desired.bridges.remove(name);
        let addresses = old.as_ref().map(Bridge::addresses).unwrap_or_default();
        self.namespace.with_route(|socket| match link::find_link(socket, name)? {
            Some(found) if is_foreign(&found, &self.mark()) => link::remove_addresses(socket, &found, &addresses),
            _ => link::delete(socket, name),
        })?;
        let stale = old.map(|old| firewall::bridge_entries(&old)).unwrap_or_default();
        self.change(&mut state, "remove a bridge", &[], &stale)?;
        self.admit(&mut state)
    }

    /// Makes a parent of macvlan or ipvlan interfaces, unless it is there.
    pub fn ensure_parent(&self, parent: &Parent) -> Result<()> {
        self.namespace.with_route(|socket| parent::ensure(socket, parent, &self.mark()))
    }

    /// Removes a parent that was made for a network; one that the host had before stays.
    pub fn remove_parent(&self, parent: &Parent) -> Result<()> {
        self.namespace.with_route(|socket| parent::remove(socket, parent, &self.mark()))
    }

    /// Gives a sandbox an interface, before its first process or while it runs.
    pub fn attach(&self, sandbox: &Namespace, endpoint: &Endpoint) -> Result<Attached> {
        let isolated = match &endpoint.uplink {
            Uplink::Bridge { bridge, .. } => lock(&self.state).desired.bridges.get(bridge).is_some_and(|b| !b.icc),
            Uplink::Macvlan { .. } | Uplink::Ipvlan { .. } => false,
        };
        attach::attach(&self.namespace, sandbox, endpoint, isolated)
    }

    /// Takes an interface from a sandbox that lives on; it may be gone. Default routes through it go with it.
    pub fn detach(&self, sandbox: &Namespace, attached: &Attached) -> Result<()> {
        attach::remove(&self.namespace, sandbox, &attached.ifname, attached.host_ifname.as_deref())?;
        self.filter("forget flows", |socket| flows::forget_addresses(socket, addresses_of(attached)))
    }

    /// Silences an endpoint, by its host's end, so that its address may be given again at once.
    ///
    /// This is for a sandbox that ends: the kernel removes the link with it, some time later. Removing it here
    /// would take the kernel 20 ms of waiting.
    pub fn unplug(&self, host_ifname: &str) -> Result<()> {
        self.namespace.with_route(|socket| link::unplug(socket, host_ifname))
    }

    /// Reserves ports of the host for one container: all or none.
    pub fn reserve(&self, requests: &[PortRequest]) -> Result<Vec<PortReservation>> {
        PortTable::reserve(&self.ports, &self.namespace, requests, &self.sockets)
    }

    /// Leads ports of the host to containers.
    pub fn publish(&self, ports: &[Publication]) -> Result<()> {
        let mut state = lock(&self.state);
        let fresh: Vec<_> = ports.iter().copied().filter(|p| state.desired.ports.insert(*p)).collect();
        let entries: Vec<Entry> = fresh.iter().flat_map(firewall::port_entries).collect();
        let done = self.change(&mut state, "publish ports", &entries, &[]);
        if done.is_err() {
            state.desired.ports.retain(|port| !fresh.contains(port));
        }
        done?;
        self.forget_flows(&fresh)
    }

    /// Ends that; ports that lead nowhere are passed over.
    pub fn unpublish(&self, ports: &[Publication]) -> Result<()> {
        let mut state = lock(&self.state);
        let stale: Vec<_> = ports.iter().copied().filter(|p| state.desired.ports.remove(p)).collect();
        let entries: Vec<Entry> = stale.iter().flat_map(firewall::port_entries).collect();
        self.change(&mut state, "unpublish ports", &[], &entries)?;
        self.forget_flows(&stale)
    }

    /// Puts the rules right if anyone has changed them; says whether that was needed.
    pub fn verify(&self) -> Result<bool> {
        let mut state = lock(&self.state);
        if state.desired.bridges.is_empty() && state.desired.ports.is_empty() {
            return Ok(false);
        }
        let now = self.filter("read the generation", nft::generation)?;
        if state.generation == Some(now) {
            return Ok(false);
        }
        // From here on only our own commits are counted: whatever others do meanwhile is seen the next time.
        state.generation = Some(now);
        let put_right = self.put_right(&mut state);
        if put_right.is_err() {
            state.generation = None;
        }
        put_right
    }

    fn put_right(&self, state: &mut State) -> Result<bool> {
        let sound = self.is_sound(state, Elements::Exactly)?;
        if !sound {
            self.replace(state)?;
        }
        self.admit(state)?;
        Ok(!sound)
    }

    /// Makes the namespace contain what is wanted and nothing else of ours, as after a crash.
    pub fn reconcile(&self, wanted: &Wanted) -> Result<()> {
        let mut state = lock(&self.state);
        self.adopt(&mut state)?;
        self.remove_leftovers(wanted)?;
        let mut closed = std::mem::take(&mut state.desired.closed);
        for bridge in &wanted.bridges {
            bridge.check()?;
            self.ensure_link(bridge)?;
            closed.extend(forward::open(&self.namespace, bridge)?);
        }
        wanted.parents.iter().try_for_each(|parent| self.ensure_parent(parent))?;
        let bridges = wanted.bridges.iter().map(|b| (b.name.clone(), b.clone())).collect();
        state.desired = Desired { bridges, ports: wanted.ports.iter().copied().collect(), closed };
        self.replace(&mut state)?;
        self.admit(&mut state)
    }

    /// Removes everything of ours from the namespace.
    pub fn clear(&self) -> Result<()> {
        let mut state = lock(&self.state);
        self.remove_leftovers(&Wanted::default())?;
        state.desired = Desired::default();
        state.ledger = Ledger::default();
        self.admit(&mut state)?;
        let mut batch = Batch::new(NFPROTO_INET, &self.tag);
        batch.add_table("");
        batch.delete_table();
        self.commit(&mut state, "remove the table", batch)
    }

    fn ensure_link(&self, bridge: &Bridge) -> Result<()> {
        let ours = self.namespace.with_route(|socket| {
            let used = used_subnets(socket, Some(&bridge.name))?;
            bridge.subnets.iter().try_for_each(|subnet| refuse_overlap(&used, subnet.net))?;
            make_bridge_link(socket, bridge, &self.mark())
        })?;
        // A bridge of somebody else's keeps the IPv6 that it may have for itself.
        if ours || bridge.subnet(Family::V6).is_some() {
            forward::settle_ipv6(&self.namespace, bridge)?;
        }
        // Only now, since a bridge without IPv6 takes no address of it.
        self.namespace.with_route(|socket| match find_bridge(socket, bridge)? {
            Some(found) if is_foreign(&found, &self.mark()) => link::add_addresses(socket, &found, &bridge.addresses()),
            Some(found) => link::ensure_only_addresses(socket, &found, &bridge.addresses()),
            None => Err(NetworkError::NoBridge(bridge.name.clone())),
        })
    }

    fn is_sound(&self, state: &State, elements: Elements) -> Result<bool> {
        self.filter("list the rules", |socket| is_as_desired(socket, &self.tag, &state.desired, elements))
    }

    /// Writes the whole table.
    fn replace(&self, state: &mut State) -> Result<()> {
        state.ledger.reset(firewall::entries(&state.desired));
        let batch = firewall::replace(&self.tag, &state.desired);
        self.commit(state, "write the rules", batch)?;
        state.compared = true;
        Ok(())
    }

    /// Learns what an earlier daemon left that only the table knows.
    fn adopt(&self, state: &mut State) -> Result<()> {
        let closed = self
            .filter("list the rules", |socket| nft::elements(socket, NFPROTO_INET, &self.tag, firewall::CLOSED_SET))?;
        state.desired.closed.extend(firewall::closed_families(&closed.unwrap_or_default()));
        Ok(())
    }

    /// Changes elements; if the table is not as it was left, writes all of it. `desired` is changed already.
    fn change(&self, state: &mut State, operation: &'static str, fresh: &[Entry], stale: &[Entry]) -> Result<()> {
        if !state.compared {
            self.adopt(state)?;
            // After a restart the table has elements that are not told yet: they are left until `reconcile`.
            if !self.is_sound(state, Elements::OthersToo)? {
                return self.replace(state);
            }
            state.compared = true;
            state.ledger.reset(firewall::entries(&state.desired));
            return Ok(());
        }
        let difference = state.ledger.change(fresh, stale);
        let mut batch = Batch::new(NFPROTO_INET, &self.tag);
        batch.delete_entries(&difference.removed);
        batch.add_entries(&difference.added);
        match self.commit(state, operation, batch) {
            Err(NetworkError::Firewall { source, .. }) if is_out_of_step(&source) => self.replace(state),
            Err(error) => {
                state.ledger.change(stale, fresh);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn forget_flows(&self, ports: &[Publication]) -> Result<()> {
        let udp = ports.iter().filter(|p| p.protocol == Protocol::Udp);
        let udp: BTreeSet<_> = udp.filter_map(|p| Some((Family::of(p.target.ip()), p.host?.port()))).collect();
        if udp.is_empty() {
            return Ok(());
        }
        self.filter("forget flows", |socket| flows::forget_udp(socket, &udp))
    }

    fn commit(&self, state: &mut State, operation: &'static str, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let generation = state.generation.take();
        self.filter(operation, |socket| socket.transaction(batch.finish()).map_err(|r| r.source))?;
        state.generation = generation.map(|g| g.wrapping_add(1));
        Ok(())
    }

    /// Lets the bridges' packets through other programs' chains that drop by default.
    fn admit(&self, state: &mut State) -> Result<()> {
        let bridges: BTreeSet<&str> = state.desired.bridges.keys().map(String::as_str).collect();
        let batches =
            self.filter("list other tables", |socket| beside::admissions(socket, &self.tag, &self.mark(), &bridges))?;
        for batch in batches {
            self.commit(state, "let bridges through other tables", batch)?;
        }
        Ok(())
    }

    fn remove_leftovers(&self, wanted: &Wanted) -> Result<()> {
        let mark = self.mark();
        self.namespace.with_route(|socket| {
            for name in leftovers(&link::links(socket)?, &mark, wanted) {
                link::delete(socket, &name)?;
            }
            Ok(())
        })
    }

    fn filter<T>(&self, operation: &'static str, work: impl FnOnce(&mut Socket) -> io::Result<T>) -> Result<T> {
        self.namespace.with_filter(|socket| {
            work(socket).map_err(|source| NetworkError::Firewall { table: self.tag.clone(), operation, source })
        })
    }

    /// What bridges and rules of ours are marked with.
    fn mark(&self) -> String {
        format!("droste:{}", self.tag)
    }
}

/// Whether elements could not be changed because the table is not as it was left: flushed, or with a port of
/// before a restart.
fn is_out_of_step(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy)
}

/// Makes the link of a bridge, unless it is there; whether it is ours.
fn make_bridge_link(socket: &mut Socket, bridge: &Bridge, mark: &str) -> Result<bool> {
    let name = &bridge.name;
    if find_bridge(socket, bridge)?.is_none() {
        link::create_bridge(socket, name, MacAddr::random()?)?;
    }
    let Some(found) = find_bridge(socket, bridge)? else {
        return Err(NetworkError::NoBridge(name.clone()));
    };
    if found.kind != "bridge" {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(NetworkError::Link { link: name.clone(), operation: "make the bridge: the name is taken", source });
    }
    if is_foreign(&found, mark) {
        return Ok(false);
    }
    link::mark(socket, found.index, name, mark, bridge.mtu)?;
    Ok(true)
}

/// Whether somebody else made a bridge. One that is down and unmarked is left of an attempt of ours that was cut short.
fn is_foreign(found: &Link, mark: &str) -> bool {
    found.alias != mark && found.up
}

fn find_bridge(socket: &mut Socket, bridge: &Bridge) -> Result<Option<Link>> {
    link::find_link(socket, &bridge.name)
}

/// Whether the table has the rules and elements that are desired.
fn is_as_desired(socket: &mut Socket, table: &str, desired: &Desired, elements: Elements) -> io::Result<bool> {
    let mut listed: Vec<_> =
        nft::rules(socket, NFPROTO_INET, table, None)?.into_iter().map(|rule| (rule.chain, rule.comment)).collect();
    let mut expected: Vec<_> =
        firewall::rules().into_iter().map(|(chain, rule)| (chain.to_owned(), rule.comment)).collect();
    // Chains may be listed in any order; their rules keep theirs.
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    if listed != expected {
        return Ok(false);
    }
    for (set, expected) in firewall::contents(desired) {
        let Some(listed) = nft::elements(socket, NFPROTO_INET, table, set)? else {
            return Ok(false);
        };
        let lenient = elements == Elements::OthersToo;
        let found = if lenient { expected.iter().all(|e| listed.contains(e)) } else { listed == expected };
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}
