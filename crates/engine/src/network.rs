//! The networks of one host: `bridge`, `host` and `none`, and what a running container has of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_model::id::{EndpointId, NetworkId};
use droste_model::port::{ContainerPort, PortBinding, PublishedPort};
use droste_model::time::Timestamp;
use droste_network::{
    AddressPools, Attached, Bridge, BridgeSubnet, Endpoint, Family, Gateway, HostNetwork, InterfaceName, IpNet, Ipam,
    MacAddr, Namespace, PortRequest, PortReservation, Publication, Taken, Uplink, Wanted,
};

use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::random;
use crate::record::{EndpointRecord, HostRecord};
use crate::settings::Settings;
use crate::view::{NetworkMember, NetworkView};

/// The default bridge's interface, on every host.
const BRIDGE: &str = "droste0";

/// What marks rules and links as ours.
const TAG: &str = "droste";

/// The networks that every host has from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// The default bridge.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Loopback alone.
    None,
}

impl Builtin {
    const ALL: [Builtin; 3] = [Builtin::Bridge, Builtin::Host, Builtin::None];

    /// The network's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Builtin::Bridge => "bridge",
            Builtin::Host => "host",
            Builtin::None => "none",
        }
    }

    fn driver(self) -> &'static str {
        match self {
            Builtin::Bridge => "bridge",
            Builtin::Host => "host",
            Builtin::None => "null",
        }
    }
}

/// The networks of a host. They are opened when the first container needs them, and closed when the host goes off.
pub(crate) struct Networks {
    ids: [NetworkId; 3],
    created: Timestamp,
    open: Mutex<Option<Arc<Open>>>,
}

/// A host's network namespace with the default bridge in it.
struct Open {
    network: HostNetwork,
    bridge: Bridge,
    addresses: Mutex<Ipam>,
}

/// A running container's network: given back when dropped.
pub(crate) struct Attachment {
    /// The container's namespace.
    pub sandbox: Namespace,
    on_bridge: Option<OnBridge>,
}

struct OnBridge {
    open: Arc<Open>,
    record: EndpointRecord,
    host_ifname: String,
    reservations: Vec<PortReservation>,
    publications: Vec<Publication>,
    relays: Vec<tokio::task::AbortHandle>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: &droste_network::NetworkError) -> Error {
    Error::internal(format!("failed to set up container networking: {error}"))
}

impl Networks {
    /// The networks of a host with this identity.
    pub(crate) fn new(record: &HostRecord) -> Self {
        Self { ids: record.networks.clone(), created: record.created, open: Mutex::default() }
    }

    /// The id of a network.
    pub(crate) fn id(&self, network: Builtin) -> &NetworkId {
        &self.ids[network as usize]
    }

    /// A network by name, id or unique prefix of an id.
    pub(crate) fn find(&self, typed: &str) -> Result<Builtin> {
        let by_name = Builtin::ALL.into_iter().find(|network| network.name() == typed);
        let by_prefix = || {
            let fits = |network: &Builtin| self.id(*network).as_str().starts_with(typed);
            let mut fitting = Builtin::ALL.into_iter().filter(|network| !typed.is_empty() && fits(network));
            fitting.next().filter(|_| fitting.next().is_none())
        };
        by_name
            .or_else(by_prefix)
            .ok_or_else(|| Error::NotFound(crate::error::Message::new(format!("network {typed} not found"))))
    }

    /// Lets go of the host's namespace.
    pub(crate) fn close(&self) {
        *lock(&self.open) = None;
    }

    /// Opens the host's namespace and makes the default bridge, unless that is done. Blocking.
    fn open(&self, host: &HostState, settings: &Settings) -> Result<Arc<Open>> {
        let mut open = lock(&self.open);
        if let Some(open) = open.as_ref() {
            return Ok(Arc::clone(open));
        }
        let network = network_of(host)?;
        let bridge = default_bridge(&network, host, settings)?;
        network.ensure_bridge(&bridge).map_err(|error| failed(&error))?;
        let mut addresses = Ipam::new(subnet_of(&bridge)?);
        let _ = addresses.reserve(gateway_of(&bridge)?.into());
        let made = Arc::new(Open { network, bridge, addresses: Mutex::new(addresses) });
        *open = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A namespace with loopback alone. Blocking.
    pub(crate) fn isolated(&self) -> Result<Attachment> {
        let sandbox = Namespace::create().map_err(|error| failed(&error))?;
        Ok(Attachment { sandbox, on_bridge: None })
    }

    /// A namespace with a place on the default bridge and published ports. Blocking.
    pub(crate) fn on_bridge(&self, host: &HostState, settings: &Settings, wish: &Wish) -> Result<Attachment> {
        let open = self.open(host, settings)?;
        if let Err(error) = open.network.verify() {
            tracing::warn!(%error, "the firewall rules could not be verified");
        }
        let mut sandbox = OnBridge::prepare(open, wish)?;
        let namespace = Namespace::create().map_err(|error| failed(&error))?;
        sandbox.attach(&namespace)?;
        sandbox.publish(&wish.name, &wish.ports)?;
        Ok(Attachment { sandbox: namespace, on_bridge: Some(sandbox) })
    }

    /// Takes over what a container has had since before the daemon was started. Blocking.
    pub(crate) fn adopt(
        &self,
        host: &HostState,
        settings: &Settings,
        sandbox: Namespace,
        record: Option<EndpointRecord>,
    ) -> Result<Attachment> {
        let Some(record) = record else { return Ok(Attachment { sandbox, on_bridge: None }) };
        let open = self.open(host, settings)?;
        let _ = lock(&open.addresses).reserve(record.address.0.into());
        let requests = record.ports.iter().filter(|port| port.host_ip.is_ipv4()).map(|port| PortRequest {
            protocol: port.container.protocol,
            host_ip: Some(port.host_ip).filter(|ip| !ip.is_unspecified()),
            host_ports: Some((port.host_port, port.host_port)),
            target: SocketAddrV4::new(record.address.0, port.container.port).into(),
        });
        let reservations = open.network.reserve(&requests.collect::<Vec<_>>()).map_err(|error| failed(&error))?;
        let publications = reservations.iter().flat_map(PortReservation::publications).collect();
        let host_ifname = droste_network::host_ifname(record.id.as_str());
        let mut on_bridge = OnBridge { open, record, host_ifname, reservations, publications, relays: Vec::new() };
        on_bridge.relay();
        Ok(Attachment { sandbox, on_bridge: Some(on_bridge) })
    }

    /// Makes a host's namespace contain what its running containers have and nothing else of ours. Blocking.
    pub(crate) fn reconcile<'a>(
        &self,
        host: &HostState,
        settings: &Settings,
        attachments: impl Iterator<Item = &'a Attachment>,
    ) -> Result<()> {
        let is_there = network_of(host)?.bridge_subnets(BRIDGE).map_err(|error| failed(&error))?.first().is_some();
        if !is_there {
            return Ok(());
        }
        let open = self.open(host, settings)?;
        let mut wanted = Wanted { bridges: vec![open.bridge.clone()], ..Wanted::default() };
        for on_bridge in attachments.filter_map(|attachment| attachment.on_bridge.as_ref()) {
            wanted.ports.extend(on_bridge.publications.iter().cloned());
            wanted.host_ifnames.push(on_bridge.host_ifname.clone());
        }
        open.network.reconcile(&wanted).map_err(|error| failed(&error))
    }
}

/// What a container asks of the default bridge.
pub(crate) struct Wish {
    /// The container's name, for messages.
    pub(crate) name: String,
    /// Its hardware address, or none for a random one.
    pub mac: Option<MacAddr>,
    /// The ports to publish.
    pub ports: Vec<(ContainerPort, PortBinding)>,
}

/// A host's network namespace. Nothing is made in it.
fn network_of(host: &HostState) -> Result<HostNetwork> {
    let fd = host.power()?.namespaces.net.try_clone();
    let fd = fd.map_err(|error| Error::hidden("the network namespace of the host could not be opened", error))?;
    HostNetwork::open(Namespace::from_fd(fd), TAG).map_err(|error| failed(&error))
}

/// The bridge that the settings name, or the one that an earlier daemon made, or one in a free subnet.
fn default_bridge(network: &HostNetwork, host: &HostState, settings: &Settings) -> Result<Bridge> {
    let is_there = network.bridge_subnets(BRIDGE).map_err(|error| failed(&error))?.first().copied();
    let mut bridge = match (settings.bridge_ip.filter(|_| host.level == 0), is_there) {
        (Some((gateway, prefix)), _) => {
            let subnet = IpNet::new(gateway.into(), prefix).map_err(|error| {
                Error::invalid(format!("invalid address of the default bridge {gateway}/{prefix}: {error}"))
            })?;
            let subnets = vec![BridgeSubnet { address: Some(gateway.into()), ..BridgeSubnet::new(subnet) }];
            Bridge { subnets, ..Bridge::new(BRIDGE, subnet) }
        }
        (None, Some(subnet)) => Bridge::new(BRIDGE, subnet),
        (None, None) => Bridge::new(BRIDGE, free_subnet(network, host, settings)?),
    };
    bridge.icc = settings.icc;
    if let Some(mtu) = settings.mtu {
        bridge.mtu = mtu;
    }
    Ok(bridge)
}

/// A subnet that nobody around uses: of the daemon's pools, or of Docker's.
fn free_subnet(network: &HostNetwork, host: &HostState, settings: &Settings) -> Result<IpNet> {
    let given: std::result::Result<Vec<_>, _> = settings
        .address_pools
        .iter()
        .map(|(base, prefix, size)| IpNet::new((*base).into(), *prefix).map(|pool| (pool, *size)))
        .collect();
    let given = given.map_err(|error| Error::invalid(format!("invalid address pool: {error}")))?;
    let pools = AddressPools::of(&given, host.id.to_string().as_bytes());
    let pools = pools.map_err(|error| Error::invalid(error.to_string()))?;
    network.choose_subnet(&pools, Family::V4, &above(host)).map_err(|error| failed(&error))
}

/// A bridge's IPv4 subnet.
fn subnet_of(bridge: &Bridge) -> Result<IpNet> {
    let subnet = bridge.subnet(Family::V4).map(|subnet| subnet.net);
    subnet.ok_or_else(|| Error::internal("the default bridge has no IPv4 subnet"))
}

/// A bridge's own IPv4 address.
fn gateway_of(bridge: &Bridge) -> Result<Ipv4Addr> {
    match bridge.subnet(Family::V4).and_then(|subnet| subnet.address) {
        Some(IpAddr::V4(address)) => Ok(address),
        _ => Err(Error::internal("the default bridge has no IPv4 address")),
    }
}

/// The subnets of the hosts above: a host that reused one could not reach what is on it.
fn above(host: &HostState) -> Vec<Taken> {
    let hosts = std::iter::successors(host.parent.as_deref(), |host| host.parent.as_deref());
    let open = hosts.filter_map(|host| lock(&host.networks.open).clone());
    let subnets = open.flat_map(|open| open.network.used_subnets().unwrap_or_default());
    subnets.map(|subnet| Taken { subnet, holder: "a host above".to_owned() }).collect()
}

impl OnBridge {
    fn prepare(open: Arc<Open>, wish: &Wish) -> Result<Self> {
        let id = EndpointId::from_bytes(random::bytes()?);
        let address = lock(&open.addresses)
            .allocate()
            .map_err(|error| Error::internal(format!("no address left on the default bridge: {error}")))?;
        let IpAddr::V4(v4) = address else {
            return Err(Error::internal("the default bridge gave an address that is not of IPv4"));
        };
        // Made of the address, because addresses are given again and neighbours remember who had them.
        let mac = wish.mac.unwrap_or_else(|| MacAddr::of_endpoint(address));
        let record = EndpointRecord {
            address: (v4, subnet_of(&open.bridge)?.prefix_len()),
            gateway: gateway_of(&open.bridge)?,
            mac: mac.to_string(),
            ports: Vec::new(),
            id,
        };
        let host_ifname = droste_network::host_ifname(record.id.as_str());
        Ok(Self { open, record, host_ifname, reservations: Vec::new(), publications: Vec::new(), relays: Vec::new() })
    }

    fn attach(&self, sandbox: &Namespace) -> Result<Attached> {
        let (address, prefix) = self.record.address;
        let address = IpNet::new(address.into(), prefix).map_err(|error| Error::internal(error.to_string()))?;
        let endpoint = Endpoint {
            uplink: Uplink::Bridge { bridge: self.open.bridge.name.clone(), host_ifname: self.host_ifname.clone() },
            name: InterfaceName::Prefix("eth".to_owned()),
            addresses: vec![address],
            mac: Some(self.record.mac.parse().map_err(|error| Error::internal(format!("{error}")))?),
            gateways: vec![Gateway::Via(self.record.gateway.into())],
            mtu: self.open.bridge.mtu,
            sysctls: Vec::new(),
        };
        self.open.network.attach(sandbox, &endpoint).map_err(|error| failed(&error))
    }

    /// Carries what comes to the ports' IPv6 addresses to the container, which has IPv4 only.
    fn relay(&mut self) {
        for held in &self.reservations {
            match held.relays(self.open.network.namespace()) {
                Ok(relays) => {
                    self.relays.extend(relays.into_iter().map(|relay| tokio::spawn(relay.run()).abort_handle()))
                }
                Err(error) => tracing::warn!(%error, "an IPv6 port is not relayed"),
            }
        }
    }

    fn publish(&mut self, name: &str, ports: &[(ContainerPort, PortBinding)]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let requests: Vec<PortRequest> = ports.iter().map(|(port, binding)| self.request(*port, binding)).collect();
        self.reservations = self.open.network.reserve(&requests).map_err(|error| {
            Error::internal(format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint \
                 {name} ({}): {error}",
                self.record.id
            ))
        })?;
        self.publications = self.reservations.iter().flat_map(PortReservation::publications).collect();
        self.record.ports =
            self.reservations.iter().zip(ports).flat_map(|(held, (port, _))| shown(held, *port)).collect();
        self.open.network.publish(&self.publications).map_err(|error| failed(&error))?;
        self.relay();
        Ok(())
    }

    fn request(&self, port: ContainerPort, binding: &PortBinding) -> PortRequest {
        PortRequest {
            protocol: port.protocol,
            host_ip: binding.host_ip,
            host_ports: binding.wanted(),
            target: SocketAddrV4::new(self.record.address.0, port.port).into(),
        }
    }
}

fn shown(held: &PortReservation, container: ContainerPort) -> Vec<PublishedPort> {
    held.addresses()
        .map(|address| PublishedPort { container, host_ip: address.ip(), host_port: address.port() })
        .collect()
}

impl Drop for OnBridge {
    fn drop(&mut self) {
        if !self.publications.is_empty()
            && let Err(error) = self.open.network.unpublish(&self.publications)
        {
            tracing::debug!(%error, "ports were not unpublished: their host is off");
        }
        for relay in &self.relays {
            relay.abort();
        }
        // The link goes with its sandbox; removing it here would take the kernel twenty milliseconds.
        let _ = self.open.network.unplug(&self.host_ifname);
        lock(&self.open.addresses).release(self.record.address.0.into());
    }
}

impl Attachment {
    /// The place on the default bridge, if there is one.
    pub(crate) fn endpoint(&self) -> Option<&EndpointRecord> {
        self.on_bridge.as_ref().map(|on_bridge| &on_bridge.record)
    }

    /// A descriptor of the namespace.
    pub(crate) fn fd(&self) -> Result<OwnedFd> {
        self.sandbox.try_clone().map(Namespace::into_fd).map_err(|error| failed(&error))
    }
}

impl Host {
    /// The networks of this host, newest name first as Docker lists them.
    pub fn networks(&self) -> Vec<NetworkView> {
        Builtin::ALL.into_iter().map(|network| self.network_view(network)).collect()
    }

    /// A network by name, id or prefix.
    pub fn network(&self, at: &str) -> Result<NetworkView> {
        self.state.networks.find(at).map(|network| self.network_view(network))
    }

    fn network_view(&self, network: Builtin) -> NetworkView {
        let networks = &self.state.networks;
        let bridge = (network == Builtin::Bridge).then(|| self.bridge()).flatten();
        NetworkView {
            id: networks.id(network).clone(),
            name: network.name().to_owned(),
            driver: network.driver().to_owned(),
            created: networks.created,
            subnets: bridge.iter().flat_map(|one| &one.subnets).map(|one| (one.net.to_string(), one.address)).collect(),
            options: bridge.as_ref().map(options_of).unwrap_or_default(),
            containers: self.members_on(network),
        }
    }

    /// The default bridge. It is made at the latest when somebody looks at its addresses, so that a client which asks
    /// for the gateway gets one that answers.
    fn bridge(&self) -> Option<Bridge> {
        let open = self.state.networks.open(&self.state, &self.engine.settings());
        open.ok().map(|open| open.bridge.clone())
    }

    fn members_on(&self, network: Builtin) -> Vec<NetworkMember> {
        let on = |mode: &droste_model::network::NetworkMode| {
            mode.network().and_then(|name| self.state.networks.find(name).ok())
        };
        let mut members = Vec::new();
        for container in self.state.members() {
            let record = container.record();
            if record.state.running().is_none() || on(&record.host_config.network_mode) != Some(network) {
                continue;
            }
            let endpoint = record.endpoint.as_ref();
            members.push(NetworkMember {
                id: record.id.clone(),
                name: record.name.clone(),
                endpoint_id: endpoint.map(|endpoint| endpoint.id.to_string()).unwrap_or_default(),
                mac: endpoint.map(|endpoint| endpoint.mac.clone()).unwrap_or_default(),
                address: endpoint.map(|endpoint| endpoint.address),
            });
        }
        members
    }
}

/// A bridge's options as Docker shows them.
fn options_of(bridge: &Bridge) -> BTreeMap<String, String> {
    let options = [
        ("bridge.default_bridge", true.to_string()),
        ("bridge.enable_icc", bridge.icc.to_string()),
        ("bridge.enable_ip_masquerade", bridge.masquerade.to_string()),
        ("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
        ("bridge.name", bridge.name.clone()),
        ("driver.mtu", bridge.mtu.to_string()),
    ];
    options.map(|(name, value)| (format!("com.docker.network.{name}"), value)).into()
}
