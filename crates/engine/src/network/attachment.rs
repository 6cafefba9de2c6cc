//! What a running container has of its host's networks: its namespace, a place on each network, published ports and
//! what its name server knows. Given back when dropped.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use droste_model::port::{ContainerPort, PortBinding, PublishedPort};
use droste_network::{DnsServer, Family, HostNetwork, Namespace, Upstream, Wanted};

use super::connect::may_be_together;
use super::endpoint::{Place, Routes};
use super::names::{SandboxNames, dns_names};
use super::one::Network;
use super::ports::{Ports, Target, refused};
use super::{Networks, failed, lock};
use crate::error::{Error, Result};
use crate::host::HostState;
use crate::record::{ContainerRecord, Driver, EndpointRecord, Membership};
use crate::settings::Settings;

/// A running container's network.
pub(crate) struct Attachment {
    /// The container's namespace.
    pub sandbox: Namespace,
    /// What names mean in it.
    pub names: Arc<SandboxNames>,
    inner: Mutex<Inner>,
}

/// What changes while the container runs. The order is that of giving back.
struct Inner {
    resolver: Option<DnsServer>,
    open: Option<Arc<HostNetwork>>,
    ports: Ports,
    places: Vec<Place>,
}

/// What a container asks of its networks.
pub(crate) struct Wish<'a> {
    /// Its record.
    pub record: &'a ContainerRecord,
    /// The ports to publish.
    pub ports: Vec<(ContainerPort, PortBinding)>,
}

impl Networks {
    /// A namespace with loopback alone. Blocking.
    pub(crate) fn isolated(&self) -> Result<Attachment> {
        let sandbox = Namespace::create().map_err(|error| failed(&error))?;
        Ok(Attachment::new(sandbox, Ports::default()))
    }

    /// A namespace with a place on each network that a container asks for, and its published ports. Blocking.
    pub(crate) fn wire(&self, host: &HostState, settings: &Settings, wish: Wish<'_>) -> Result<Attachment> {
        let networks = self.of_container(wish.record)?;
        may_be_together(networks.iter().map(|(_, network)| &**network))?;
        if networks.iter().all(|(_, network)| network.record.driver == Driver::Null) {
            return self.isolated();
        }
        let open = self.open(host)?;
        self.guard(&open);
        if let Err(error) = open.verify() {
            tracing::warn!(%error, "the firewall rules could not be verified");
        }
        let sandbox = Namespace::create().map_err(|error| failed(&error))?;
        let attachment = Attachment::new(sandbox, Ports::new(wish.ports));
        attachment.inner().open = Some(Arc::clone(&open));
        attachment.take_places(self, host, settings, wish.record, networks)?;
        attachment.settle(wish.record.name.as_str())?;
        Ok(attachment)
    }

    /// The networks that a container asks for: the one of its mode first, for its interface is `eth0`.
    fn of_container(&self, record: &ContainerRecord) -> Result<Vec<(String, Arc<Network>)>> {
        let first = record.host_config.network_mode.network().unwrap_or_default();
        let mut all = Vec::new();
        for (key, membership) in &record.networks {
            let network = self.of_membership(key, membership)?;
            all.push((key.clone(), network));
        }
        all.sort_by_key(|(key, network)| (key != first && network.id() != first, key.clone()));
        Ok(all)
    }

    /// The network that a membership means: the one where the container was, or the one of that name.
    pub(crate) fn of_membership(&self, key: &str, membership: &Membership) -> Result<Arc<Network>> {
        match &membership.network {
            Some(id) => self.by_id(id).ok_or_else(|| Error::not_found(format!("network {id} not found"))),
            None => self.find(key),
        }
    }

    /// Takes over what a container has had since before the daemon was started. Blocking.
    pub(crate) fn adopt(
        &self,
        host: &HostState,
        settings: &Settings,
        sandbox: Namespace,
        record: &ContainerRecord,
        ports: Vec<(ContainerPort, PortBinding)>,
    ) -> Result<Attachment> {
        let attachment = Attachment::new(sandbox, Ports::new(ports));
        for (key, membership) in &record.networks {
            let Some(endpoint) = membership.endpoint.clone() else { continue };
            let network = match self.of_membership(key, membership) {
                Ok(network) => network,
                Err(error) => {
                    tracing::error!(container = %record.id, %error, "a network of it is not remembered");
                    continue;
                }
            };
            let open = self.ensure(host, settings, &network)?;
            let place = Place::adopt(Arc::clone(&network), key, membership, endpoint, &record.id);
            let names = dns_names(record, membership, &network);
            network.enter(&record.id, record.name.as_str(), &names, &place.record);
            attachment.names.join(&network, membership.request.links.as_deref().unwrap_or_default());
            let mut inner = attachment.inner();
            inner.open = Some(open);
            inner.places.push(place);
        }
        attachment.adopt_ports(&record.ports)?;
        Ok(attachment)
    }
}

impl Attachment {
    fn new(sandbox: Namespace, ports: Ports) -> Self {
        let inner = Inner { resolver: None, open: None, ports, places: Vec::new() };
        Self { sandbox, names: Arc::default(), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Takes every place first, so that it is known which of them leads out, and then makes them.
    fn take_places(
        &self,
        networks: &Networks,
        host: &HostState,
        settings: &Settings,
        record: &ContainerRecord,
        wanted: Vec<(String, Arc<Network>)>,
    ) -> Result<()> {
        let mut inner = self.inner();
        for (key, network) in wanted {
            let Some(membership) = record.networks.get(&key) else { continue };
            let open = networks.ensure(host, settings, &network)?;
            inner.open = Some(open);
            inner.places.push(Place::take(network, &key, membership, &record.id)?);
        }
        let out = inner.ways_out();
        let Inner { open: Some(open), places, .. } = &mut *inner else { return Ok(()) };
        for (at, place) in places.iter_mut().enumerate() {
            let Some(membership) = record.networks.get(&place.key) else { continue };
            place.attach(open, &self.sandbox, membership, out.routes_of(at))?;
            self.announce(record, membership, place);
        }
        Ok(())
    }

    /// Tells the network that the container is there, and the container's name server of the network.
    fn announce(&self, record: &ContainerRecord, membership: &Membership, place: &Place) {
        let names = dns_names(record, membership, &place.network);
        place.network.enter(&record.id, record.name.as_str(), &names, &place.record);
        self.names.join(&place.network, membership.request.links.as_deref().unwrap_or_default());
    }

    /// Publishes ports where the default routes are now.
    fn settle(&self, name: &str) -> Result<()> {
        let mut inner = self.inner();
        let (target, endpoint) = inner.target();
        let Inner { open: Some(open), ports, .. } = &mut *inner else { return Ok(()) };
        if target == ports.target() {
            return Ok(());
        }
        ports.withdraw(open);
        ports.publish(open, target).map_err(|error| {
            ports.withdraw(open);
            refused(name, &endpoint, error)
        })
    }

    fn adopt_ports(&self, held: &[PublishedPort]) -> Result<()> {
        let mut inner = self.inner();
        let (target, _) = inner.target();
        let Inner { open: Some(open), ports, .. } = &mut *inner else { return Ok(()) };
        ports.adopt(open, target, held)
    }

    /// Joins another network while the container runs. Blocking.
    pub(crate) fn join(
        &self,
        host: &HostState,
        settings: &Settings,
        record: &ContainerRecord,
        key: &str,
        membership: &Membership,
        network: &Arc<Network>,
    ) -> Result<EndpointRecord> {
        let open = host.networks.ensure(host, settings, network)?;
        let mut place = Place::take(Arc::clone(network), key, membership, &record.id)?;
        place.attach(&open, &self.sandbox, membership, Routes::default())?;
        let endpoint = place.record.clone();
        {
            let mut inner = self.inner();
            inner.open = Some(Arc::clone(&open));
            self.announce(record, membership, &place);
            inner.places.push(place);
        }
        if let Err(error) = self.route().and_then(|()| self.settle(record.name.as_str())) {
            // A network that can not be joined wholly is not joined at all.
            let _ = self.leave(network, record.name.as_str());
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Leaves a network while the container runs. Blocking.
    pub(crate) fn leave(&self, network: &Network, name: &str) -> Result<()> {
        self.names.leave(network);
        let left = {
            let mut inner = self.inner();
            let at = inner.places.iter().position(|place| place.network.record.id == network.record.id);
            let Some(at) = at else { return Ok(()) };
            let mut place = inner.places.remove(at);
            // Ports that lead there end before their address is given to another.
            let (target, _) = inner.target();
            if let Inner { open: Some(open), ports, .. } = &mut *inner {
                if target != ports.target() {
                    ports.withdraw(open);
                }
                place.detach(open, &self.sandbox)
            } else {
                Ok(())
            }
        };
        self.route()?;
        self.settle(name)?;
        let internal = self.is_internal();
        if let Some(resolver) = &self.inner().resolver {
            resolver.forward(!internal);
        }
        left
    }

    /// Sets the default routes to where they belong now.
    fn route(&self) -> Result<()> {
        let inner = self.inner();
        let out = inner.ways_out();
        let mut routes = Vec::new();
        for (at, family) in [(out.v4, Family::V4), (out.v6, Family::V6)] {
            if let Some(place) = at.and_then(|at| inner.places.get(at)) {
                routes.push((place.record.ifname.clone(), place.gateway(family)));
            }
        }
        droste_network::set_default_routes(&self.sandbox, &routes).map_err(|error| failed(&error))
    }

    /// The places as they are remembered, in the order of the container's interfaces.
    pub(crate) fn endpoints(&self) -> Vec<EndpointRecord> {
        self.inner().places.iter().map(|place| place.record.clone()).collect()
    }

    /// The networks with the container's name for them and the places as they are remembered.
    pub(crate) fn places(&self) -> Vec<(String, Arc<Network>, EndpointRecord)> {
        let one = |place: &Place| (place.key.clone(), Arc::clone(&place.network), place.record.clone());
        self.inner().places.iter().map(one).collect()
    }

    /// Opens the name server of a container on a network with names, unless it is open. Blocking.
    pub(crate) fn resolve(&self, upstreams: Vec<Upstream>) -> Result<()> {
        let internal = self.is_internal();
        let mut inner = self.inner();
        let Inner { open: Some(open), resolver, .. } = &mut *inner else { return Ok(()) };
        if resolver.is_none() {
            let runtime = tokio::runtime::Handle::current();
            let names: Arc<SandboxNames> = Arc::clone(&self.names);
            let server =
                DnsServer::start(&runtime, &self.sandbox, (open.namespace(), open.sockets()), names, upstreams);
            *resolver = Some(server.map_err(|error| failed(&error))?);
        }
        if let Some(resolver) = resolver {
            resolver.forward(!internal);
        }
        Ok(())
    }

    /// Whether it has a name server.
    pub(crate) fn resolves(&self) -> bool {
        self.inner().resolver.is_some()
    }

    /// Ports that are published.
    pub(crate) fn published(&self) -> Vec<PublishedPort> {
        self.inner().ports.shown().to_vec()
    }

    /// Whether one of its networks has names, or one that it has joined as a host.
    pub(crate) fn has_names(&self) -> bool {
        self.names.are_there()
    }

    /// Whether it has loopback alone.
    pub(crate) fn is_isolated(&self) -> bool {
        self.inner().places.is_empty()
    }

    /// Whether nothing leads out of all its networks.
    pub(crate) fn is_internal(&self) -> bool {
        self.inner().places.iter().all(|place| place.network.record.internal)
    }

    /// Says what of it belongs into the host's namespace.
    pub(crate) fn tell_wanted(&self, wanted: &mut Wanted) {
        let inner = self.inner();
        wanted.ports.extend(inner.ports.publications().iter().copied());
        wanted.host_ifnames.extend(inner.places.iter().filter_map(Place::host_ifname).map(str::to_owned));
    }

    /// A descriptor of the namespace.
    pub(crate) fn fd(&self) -> Result<OwnedFd> {
        self.sandbox.try_clone().map(Namespace::into_fd).map_err(|error| failed(&error))
    }
}

/// By which places the default routes go.
#[derive(Clone, Copy, Default)]
struct WaysOut {
    v4: Option<usize>,
    v6: Option<usize>,
}

impl WaysOut {
    fn routes_of(self, at: usize) -> Routes {
        Routes { v4: self.v4 == Some(at), v6: self.v6 == Some(at) }
    }
}

impl Inner {
    /// The place with the highest priority counts; among equals the first by the network's name.
    fn ways_out(&self) -> WaysOut {
        let best = |family| {
            let fitting = self.places.iter().enumerate().filter(|(_, place)| place.leads_out(family));
            let order = |(_, place): &(usize, &Place)| (-place.priority, place.network.record.name.clone());
            fitting.min_by_key(order).map(|(at, _)| at)
        };
        WaysOut { v4: best(Family::V4), v6: best(Family::V6) }
    }

    /// Where ports lead, and the id of the endpoint for messages.
    fn target(&self) -> (Target, String) {
        let out = self.ways_out();
        let of = |at: Option<usize>| {
            let place = at.and_then(|at| self.places.get(at).map(|place| (place, out.routes_of(at))));
            place.map(|(place, routes)| place.port_target(routes)).unwrap_or_default()
        };
        let (first, second) = (of(out.v4), of(out.v6));
        let place = out.v4.or(out.v6).and_then(|at| self.places.get(at));
        let endpoint = place.map(|place| place.record.id.to_string()).unwrap_or_default();
        let host_binding = first.host_binding.or(second.host_binding);
        (Target { v4: first.v4, v6: second.v6.or(first.v6), host_binding }, endpoint)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Inner { open: Some(open), ports, places, .. } = self else { return };
        ports.withdraw(open);
        for place in places {
            place.unplug(open);
        }
    }
}
