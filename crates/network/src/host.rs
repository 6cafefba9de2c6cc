//! The network of one host: everything that is done in its namespace.
//!
//! A `HostNetwork` remembers what should be there (bridges, published ports) and makes the namespace
//! so. It never asks which host it serves: the namespace that it was given is all that it touches.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};

use droste_model::port::Protocol;
use ipnet::{IpNet, Ipv4Net};

use crate::beside;
use crate::bridge::{Bridge, Endpoint, HOST_PREFIX, check_ifname};
use crate::error::{NetworkError, Result};
use crate::firewall::{self, Desired, Publication};
use crate::flows;
use crate::ipam;
use crate::link::{self, Link, LinkAddress, Pair, Route};
use crate::mac::MacAddr;
use crate::namespace::{Namespace, lock, write_sysctl};
use crate::netlink::Socket;
use crate::netlink::uapi::NFPROTO_IPV4;
use crate::nft::{self, Batch, Element};
use crate::ports::{PortRequest, PortReservation, PortTable};

/// The network of one host.
#[derive(Debug)]
pub struct HostNetwork {
    namespace: Namespace,
    tag: String,
    state: Mutex<State>,
    ports: Arc<Mutex<PortTable>>,
}

/// What should be there, and the number of the nf_tables commit at which it was.
#[derive(Debug, Default)]
struct State {
    desired: Desired,
    generation: Option<u32>,
}

/// Which published ports a sound table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Exactly,
    OthersToo,
}

/// What a host's namespace should contain, as its records say.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its bridges.
    pub bridges: Vec<Bridge>,
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
        Ok(Self { namespace, tag, state, ports: Arc::default() })
    }

    /// The host's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Every subnet that the namespace has an address in or a route to, without the default route.
    pub fn used_subnets(&self) -> Result<Vec<Ipv4Net>> {
        self.namespace.with_route(|socket| used_subnets(socket, None))
    }

    /// The first of Docker's default pools that overlaps neither the namespace's subnets nor `taken`.
    ///
    /// A nested host sees the routes of its own namespace only. For its containers to reach what lies beyond
    /// its parent, `taken` has to contain the subnets that the hosts above it use.
    pub fn choose_subnet(&self, taken: &[Ipv4Net]) -> Result<Ipv4Net> {
        let mut all = self.used_subnets()?;
        all.extend_from_slice(taken);
        ipam::first_free(ipam::default_pools(), &all).ok_or(NetworkError::NoSubnet)
    }

    /// The subnet of a bridge of ours that is there already, as after a restart.
    pub fn bridge_subnet(&self, name: &str) -> Result<Option<Ipv4Net>> {
        let mark = self.mark();
        self.namespace.with_route(|socket| {
            let links = link::links(socket)?;
            let Some(bridge) = links.iter().find(|l| l.name == name && l.alias == mark) else {
                return Ok(None);
            };
            let addresses = link::addresses(socket)?;
            Ok(addresses.iter().find_map(|a| match a.address {
                IpNet::V4(net) if a.index == bridge.index => Some(net.trunc()),
                _ => None,
            }))
        })
    }

    /// Makes a bridge with its rules, or puts right what is missing of it.
    pub fn ensure_bridge(&self, bridge: &Bridge) -> Result<()> {
        check_ifname(&bridge.name)?;
        let mut state = lock(&self.state);
        self.ensure_link(bridge)?;
        self.route_through(&bridge.name)?;
        state.desired.bridges.insert(bridge.name.clone(), bridge.clone());
        // After a restart the table has ports that are not told yet: they are left until `reconcile`.
        if !self.is_sound(&state, Ports::OthersToo)? {
            self.replace(&mut state)?;
        }
        self.admit(&mut state)
    }

    /// Removes a bridge with its rules. Endpoints that are still attached lose their network.
    pub fn remove_bridge(&self, name: &str) -> Result<()> {
        let mut state = lock(&self.state);
        self.namespace.with_route(|socket| link::delete(socket, name))?;
        state.desired.bridges.remove(name);
        self.replace(&mut state)?;
        self.admit(&mut state)
    }

    /// Gives a sandbox an interface on a bridge.
    pub fn attach(&self, sandbox: &Namespace, endpoint: &Endpoint) -> Result<()> {
        check_ifname(&endpoint.host_ifname)?;
        check_ifname(&endpoint.ifname)?;
        let isolated = lock(&self.state).desired.bridges.get(&endpoint.bridge).is_some_and(|b| !b.icc);
        self.namespace.with_route(|socket| create_pair(socket, sandbox, endpoint, isolated))?;
        let done = configure_endpoint(sandbox, endpoint);
        if done.is_err() {
            // The reason of the failure matters more than that of a failed removal.
            let _ = self.detach(&endpoint.host_ifname);
        }
        done
    }

    /// Removes an endpoint, by its host's end, from a sandbox that lives on. It may be gone: it goes with its sandbox.
    pub fn detach(&self, host_ifname: &str) -> Result<()> {
        self.namespace.with_route(|socket| link::delete(socket, host_ifname))
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
        PortTable::reserve(&self.ports, &self.namespace, requests)
    }

    /// Leads ports of the host to containers.
    pub fn publish(&self, ports: &[Publication]) -> Result<()> {
        let mut state = lock(&self.state);
        let before = state.desired.ports.clone();
        state.desired.ports.extend(ports);
        let fresh: Vec<_> = ports.iter().filter(|p| !before.contains(p)).collect();
        let done = self.change_ports(&mut state, &fresh, Batch::add_elements);
        if done.is_err() {
            state.desired.ports = before;
        }
        done?;
        self.forget_flows(&fresh)
    }

    /// Ends that; ports that lead nowhere are passed over.
    pub fn unpublish(&self, ports: &[Publication]) -> Result<()> {
        let mut state = lock(&self.state);
        let stale: Vec<_> = ports.iter().filter(|p| state.desired.ports.remove(p)).collect();
        self.change_ports(&mut state, &stale, Batch::delete_elements)?;
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
        let sound = self.is_sound(&state, Ports::Exactly)?;
        if !sound {
            self.replace(&mut state)?;
        }
        self.admit(&mut state)?;
        state.generation = Some(self.filter("read the generation", nft::generation)?);
        Ok(!sound)
    }

    /// Makes the namespace contain what is wanted and nothing else of ours, as after a crash.
    pub fn reconcile(&self, wanted: &Wanted) -> Result<()> {
        let mut state = lock(&self.state);
        self.remove_leftovers(wanted)?;
        for bridge in &wanted.bridges {
            check_ifname(&bridge.name)?;
            self.ensure_link(bridge)?;
            self.route_through(&bridge.name)?;
        }
        let bridges = wanted.bridges.iter().map(|b| (b.name.clone(), b.clone())).collect();
        state.desired = Desired { bridges, ports: wanted.ports.iter().copied().collect() };
        self.replace(&mut state)?;
        self.admit(&mut state)
    }

    /// Removes everything of ours from the namespace.
    pub fn clear(&self) -> Result<()> {
        let mut state = lock(&self.state);
        self.remove_leftovers(&Wanted::default())?;
        state.desired = Desired::default();
        self.admit(&mut state)?;
        let mut batch = Batch::new(NFPROTO_IPV4, &self.tag);
        batch.add_table("");
        batch.delete_table();
        self.commit(&mut state, "remove the table", batch)
    }

    fn ensure_link(&self, bridge: &Bridge) -> Result<()> {
        self.namespace.with_route(|socket| {
            for taken in used_subnets(socket, Some(&bridge.name))? {
                if ipam::overlap(taken, bridge.subnet) {
                    return Err(NetworkError::Overlap { subnet: bridge.subnet, taken });
                }
            }
            ensure_bridge_link(socket, bridge, &self.mark())
        })
    }

    /// Lets the kernel forward packets, and lead loopback's packets to a bridge.
    fn route_through(&self, bridge: &str) -> Result<()> {
        self.namespace.run_in(|| {
            write_sysctl("net/ipv4/ip_forward", "1")?;
            write_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")
        })?
    }

    fn is_sound(&self, state: &State, ports: Ports) -> Result<bool> {
        self.filter("list the rules", |socket| is_as_desired(socket, &self.tag, &state.desired, ports))
    }

    fn replace(&self, state: &mut State) -> Result<()> {
        let batch = firewall::replace(&self.tag, &state.desired);
        self.commit(state, "write the rules", batch)
    }

    /// Changes elements; if the table is not as it was left, writes all of it.
    fn change_ports(
        &self,
        state: &mut State,
        ports: &[&Publication],
        change: fn(&mut Batch, &str, &[Element]),
    ) -> Result<()> {
        let mut batch = Batch::new(NFPROTO_IPV4, &self.tag);
        for port in ports {
            let (set, element) = firewall::port_element(port);
            change(&mut batch, set, &[element]);
        }
        match self.commit(state, "change published ports", batch) {
            Err(NetworkError::Firewall { source, .. }) if is_out_of_step(&source) => self.replace(state),
            other => other,
        }
    }

    fn forget_flows(&self, ports: &[&Publication]) -> Result<()> {
        let udp = ports.iter().filter(|p| p.protocol == Protocol::Udp).map(|p| p.host_port).collect();
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

/// The links of a namespace, `lo` among them, with their counters.
pub fn links(namespace: &Namespace) -> Result<Vec<Link>> {
    namespace.with_route(link::links)
}

/// The interfaces of a sandbox with their counters, as `docker stats` shows them: all but `lo`.
pub fn interface_stats(sandbox: &Namespace) -> Result<Vec<Link>> {
    let mut all = links(sandbox)?;
    all.retain(|link| link.name != "lo");
    Ok(all)
}

/// The addresses of a namespace.
pub fn addresses(namespace: &Namespace) -> Result<Vec<LinkAddress>> {
    namespace.with_route(link::addresses)
}

/// The IPv4 routes of a namespace.
pub fn routes(namespace: &Namespace) -> Result<Vec<Route>> {
    namespace.with_route(link::routes)
}

/// The gateway of a namespace's default IPv4 route.
pub fn default_gateway(namespace: &Namespace) -> Result<Option<Ipv4Addr>> {
    let routes = routes(namespace)?;
    Ok(routes.iter().find(|r| r.destination.prefix_len() == 0).and_then(|r| r.gateway))
}

fn used_subnets(socket: &mut Socket, except: Option<&str>) -> Result<Vec<Ipv4Net>> {
    let own = match except {
        Some(name) => link::index_of(socket, name)?,
        None => None,
    };
    let mut all = BTreeSet::new();
    for found in link::addresses(socket)? {
        if let (IpNet::V4(net), true) = (found.address, own != Some(found.index)) {
            all.insert(net.trunc());
        }
    }
    for route in link::routes(socket)? {
        let foreign = own.is_none() || route.link != own;
        if foreign && route.destination.prefix_len() > 0 {
            all.insert(route.destination.trunc());
        }
    }
    Ok(all.into_iter().collect())
}

fn ensure_bridge_link(socket: &mut Socket, bridge: &Bridge, mark: &str) -> Result<()> {
    let name = &bridge.name;
    if find_bridge(socket, bridge)?.is_none() {
        link::create_bridge(socket, name, MacAddr::random()?)?;
    }
    let Some(found) = find_bridge(socket, bridge)? else {
        return Err(NetworkError::NoBridge(name.clone()));
    };
    if found.kind != "bridge" || (found.up && found.alias != mark) {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(NetworkError::Link { link: name.clone(), operation: "make the bridge: the name is taken", source });
    }
    link::configure_bridge(socket, &found, mark, bridge.mtu)?;
    link::ensure_only_address(socket, &found, bridge.address())
}

fn find_bridge(socket: &mut Socket, bridge: &Bridge) -> Result<Option<Link>> {
    Ok(link::links(socket)?.into_iter().find(|l| l.name == bridge.name))
}

fn create_pair(socket: &mut Socket, sandbox: &Namespace, endpoint: &Endpoint, isolated: bool) -> Result<()> {
    let bridge =
        link::index_of(socket, &endpoint.bridge)?.ok_or_else(|| NetworkError::NoBridge(endpoint.bridge.clone()))?;
    let pair = Pair {
        name: &endpoint.host_ifname,
        bridge,
        mtu: endpoint.mtu,
        isolated,
        peer_name: &endpoint.ifname,
        peer_mac: endpoint.mac,
        peer_namespace: sandbox.as_fd().as_raw_fd(),
    };
    link::create_pair(socket, &pair)
}

/// Sets up the sandbox's end. Docker's default bridge is IPv4 only, and so is the interface.
fn configure_endpoint(sandbox: &Namespace, endpoint: &Endpoint) -> Result<()> {
    let name = &endpoint.ifname;
    let setting = format!("net/ipv6/conf/{name}/disable_ipv6");
    match sandbox.run_in(|| write_sysctl(&setting, "1"))? {
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    sandbox.with_route(|socket| {
        let index = link::index_of(socket, name)?.ok_or_else(|| NetworkError::Link {
            link: name.clone(),
            operation: "find it in its sandbox",
            source: io::ErrorKind::NotFound.into(),
        })?;
        link::bring_up(socket, name, index, endpoint.address, endpoint.gateway)
    })
}

/// Whether the table has the rules and elements that are desired.
fn is_as_desired(socket: &mut Socket, table: &str, desired: &Desired, ports: Ports) -> io::Result<bool> {
    let mut listed: Vec<_> =
        nft::rules(socket, NFPROTO_IPV4, table, None)?.into_iter().map(|rule| (rule.chain, rule.comment)).collect();
    let mut expected: Vec<_> =
        firewall::rules().into_iter().map(|(chain, rule)| (chain.to_owned(), rule.comment)).collect();
    // Chains may be listed in any order; their rules keep theirs.
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    if listed != expected {
        return Ok(false);
    }
    for (set, expected) in firewall::contents(desired) {
        let Some(listed) = nft::elements(socket, NFPROTO_IPV4, table, set)? else {
            return Ok(false);
        };
        let lenient = ports == Ports::OthersToo && firewall::is_port_map(set);
        let found = if lenient { expected.iter().all(|e| listed.contains(e)) } else { listed == expected };
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The links of ours that are not wanted: ends of endpoints first, then bridges.
fn leftovers(links: &[Link], mark: &str, wanted: &Wanted) -> Vec<String> {
    let bridges: Vec<&Link> = links.iter().filter(|l| l.kind == "bridge" && l.alias == mark).collect();
    let ours = |l: &&Link| l.name.starts_with(HOST_PREFIX) && bridges.iter().any(|b| Some(b.index) == l.master);
    let ends = links.iter().filter(ours).filter(|l| !wanted.host_ifnames.contains(&l.name));
    let stale = bridges.iter().copied().filter(|b| !wanted.bridges.iter().any(|w| w.name == b.name));
    ends.chain(stale).map(|l| l.name.clone()).collect()
}
