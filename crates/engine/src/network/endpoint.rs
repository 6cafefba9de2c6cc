//! A place on a network: what is taken for one container there, given back when dropped.

use std::net::IpAddr;
use std::sync::Arc;

use droste_model::id::{ContainerId, EndpointId};
use droste_network::{Attached, Endpoint, Family, Gateway, HostNetwork, InterfaceName, IpNet, MacAddr, Namespace};

use super::driver::Way;
use super::failed;
use super::one::Network;
use super::ports::Target;
use crate::error::{Error, Result};
use crate::random;
use crate::record::{EndpointRecord, Membership};

/// The option that names a container's interface.
const IFNAME: &str = "com.docker.network.endpoint.ifname";

/// The option with kernel parameters of the interface.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// A container's place on a network.
pub(crate) struct Place {
    /// The network.
    pub network: Arc<Network>,
    /// The name under which the container knows it.
    pub key: String,
    /// What is remembered of it.
    pub record: EndpointRecord,
    /// The place with the highest priority has the default route.
    pub priority: i64,
    container: ContainerId,
    attached: Option<Attached>,
}

/// Which default routes a place gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    pub v4: bool,
    pub v6: bool,
}

impl Place {
    /// Takes addresses for a container; nothing is in its namespace yet.
    pub(crate) fn take(
        network: Arc<Network>,
        key: &str,
        membership: &Membership,
        container: &ContainerId,
    ) -> Result<Place> {
        network.check_open()?;
        if network.record.config_only {
            return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
        }
        let id = EndpointId::from_bytes(random::bytes()?);
        let record = EndpointRecord {
            id,
            ifname: String::new(),
            v4: None,
            v6: None,
            link_local: Vec::new(),
            gateway4: None,
            gateway6: None,
            mac: String::new(),
        };
        let request = &membership.request;
        // From here on whatever was taken is given back when the place is dropped.
        let mut place = Place {
            network,
            key: key.to_owned(),
            record,
            priority: request.gateway_priority,
            container: container.clone(),
            attached: None,
        };
        if let Some(IpNet::V4(net)) = place.network.take_address(Family::V4, request.ipv4)? {
            place.record.v4 = Some((net.addr(), net.prefix_len()));
        }
        if let Some(IpNet::V6(net)) = place.network.take_address(Family::V6, request.ipv6)? {
            place.record.v6 = Some((net.addr(), net.prefix_len()));
        }
        for address in &request.link_local {
            if !is_link_local(*address) {
                return Err(Error::internal(format!("invalid link local IP address: {address}")));
            }
            place.record.link_local.push(*address);
        }
        place.set_gateways();
        Ok(place)
    }

    /// The place that a container has had since before the daemon was started.
    pub(crate) fn adopt(
        network: Arc<Network>,
        key: &str,
        membership: &Membership,
        record: EndpointRecord,
        container: &ContainerId,
    ) -> Place {
        for address in record.addresses() {
            network.keep_address(address);
        }
        let host_ifname =
            matches!(network.live().way, Some(Way::Bridge(_))).then(|| droste_network::host_ifname(record.id.as_str()));
        let attached = Attached {
            ifname: record.ifname.clone(),
            host_ifname,
            mac: record.mac.parse().ok(),
            addresses: record.addresses().collect(),
        };
        Place {
            network,
            key: key.to_owned(),
            record,
            priority: membership.request.gateway_priority,
            container: container.clone(),
            attached: Some(attached),
        }
    }

    /// The gateways of the network, for those families in which the container has an address. An internal network has
    /// none.
    fn set_gateways(&mut self) {
        if self.network.record.internal {
            return;
        }
        let live = self.network.live();
        if live.way.as_ref().is_some_and(Way::is_routed_by_link) {
            return;
        }
        let of_bridge = live.way.as_ref().and_then(Way::bridge);
        let bridge: Vec<IpAddr> =
            of_bridge.iter().flat_map(|way| way.bridge.subnets.iter().filter_map(|subnet| subnet.address)).collect();
        let subnets = self.network.record.subnets_in_use();
        // Where the host keeps out of a subnet, the gateway is somebody else's.
        let others = subnets.filter_map(|subnet| subnet.address.map(|ip| (subnet, ip)));
        let mine = |ip: IpAddr| Some(ip) == self.record.v4.map(|(ip, _)| IpAddr::V4(ip));
        let others = others.filter(|(subnet, ip)| {
            !mine(*ip) && self.record.addresses().any(|address| subnet.subnet.contains(&address))
        });
        let gateways: Vec<IpAddr> = bridge.into_iter().chain(others.map(|(_, ip)| ip)).collect();
        drop(live);
        for gateway in gateways {
            match gateway {
                IpAddr::V4(ip) if self.record.v4.is_some() && self.record.gateway4.is_none() => {
                    self.record.gateway4 = Some(ip);
                }
                IpAddr::V6(ip) if self.record.v6.is_some() && self.record.gateway6.is_none() => {
                    self.record.gateway6 = Some(ip);
                }
                _ => {}
            }
        }
    }

    /// Whether it can give a default route of a family.
    pub(crate) fn leads_out(&self, family: Family) -> bool {
        if self.network.record.internal {
            return false;
        }
        let by_link = self.network.live().way.as_ref().is_some_and(Way::is_routed_by_link);
        match family {
            Family::V4 => self.record.gateway4.is_some() || (by_link && self.record.v4.is_some()),
            Family::V6 => self.record.gateway6.is_some() || (by_link && self.record.v6.is_some()),
        }
    }

    /// The default route of a family by way of this place.
    pub(crate) fn gateway(&self, family: Family) -> Gateway {
        let ip = match family {
            Family::V4 => self.record.gateway4.map(IpAddr::V4),
            Family::V6 => self.record.gateway6.map(IpAddr::V6),
        };
        ip.map_or(Gateway::Link(family), Gateway::Via)
    }

    /// Puts the interface into the container's namespace.
    pub(crate) fn attach(
        &mut self,
        open: &HostNetwork,
        sandbox: &Namespace,
        membership: &Membership,
        routes: Routes,
    ) -> Result<()> {
        let way = self.network.live().way.clone();
        let Some(way) = way else { return Ok(()) };
        let endpoint = self.endpoint(&way, membership, routes)?;
        let attached = open.attach(sandbox, &endpoint).map_err(|error| failed(&error))?;
        self.record.ifname.clone_from(&attached.ifname);
        self.record.mac = attached.mac.map(|mac| mac.to_string()).unwrap_or_default();
        self.attached = Some(attached);
        Ok(())
    }

    fn endpoint(&self, way: &Way, membership: &Membership, routes: Routes) -> Result<Endpoint> {
        let request = &membership.request;
        let options = request.driver_opts.as_ref();
        let option = |name: &str| options.and_then(|options| options.get(name)).map(String::as_str);
        let prefix = self.network.record.options.get("com.docker.network.container_iface_prefix");
        let prefix = prefix.filter(|prefix| !prefix.is_empty()).map_or("eth", String::as_str);
        let name = match option(IFNAME) {
            Some(name) if !name.is_empty() => InterfaceName::Exactly(name.to_owned()),
            _ => InterfaceName::Prefix(prefix.to_owned()),
        };
        let net = |ip: IpAddr, prefix: u8| IpNet::new(ip, prefix).map_err(|error| Error::internal(error.to_string()));
        let mut addresses = Vec::new();
        if let Some((ip, prefix)) = self.record.v4 {
            addresses.push(net(IpAddr::V4(ip), prefix)?);
        }
        if let Some((ip, prefix)) = self.record.v6 {
            addresses.push(net(IpAddr::V6(ip), prefix)?);
        }
        for ip in &self.record.link_local {
            addresses.push(net(*ip, if ip.is_ipv4() { 16 } else { 64 })?);
        }
        let families = [(routes.v4, Family::V4), (routes.v6, Family::V6)];
        let gateways = families.into_iter().filter(|(wanted, _)| *wanted).map(|(_, family)| self.gateway(family));
        Ok(Endpoint {
            uplink: way.uplink(&droste_network::host_ifname(self.record.id.as_str())),
            name,
            addresses,
            mac: self.mac(way, &request.mac)?,
            gateways: gateways.collect(),
            mtu: way.bridge().map_or(0, |way| way.bridge.mtu),
            sysctls: option(SYSCTLS).map(sysctls).unwrap_or_default(),
        })
    }

    /// Made of the address unless one is asked for, because addresses are given again and neighbours remember.
    fn mac(&self, way: &Way, asked: &str) -> Result<Option<MacAddr>> {
        if matches!(way, Way::Ipvlan { .. }) {
            return Ok(None);
        }
        if !asked.is_empty() {
            return asked.parse().map(Some).map_err(|_| Error::invalid(format!("invalid MAC address: {asked}")));
        }
        Ok(self.record.addresses().next().map(MacAddr::of_endpoint))
    }

    /// Where ports lead at this place.
    pub(crate) fn port_target(&self, routes: Routes) -> Target {
        let live = self.network.live();
        let Some(way) = live.way.as_ref().and_then(Way::bridge) else { return Target::default() };
        let mode = |family| way.bridge.subnet(family).map(|subnet| subnet.mode).unwrap_or_default();
        Target {
            v4: self.record.v4.filter(|_| routes.v4).map(|(ip, _)| (ip, mode(Family::V4))),
            v6: self.record.v6.filter(|_| routes.v6).map(|(ip, _)| (ip, mode(Family::V6))),
            host_binding: way.host_binding,
        }
    }

    /// The host's end of the interface.
    pub(crate) fn host_ifname(&self) -> Option<&str> {
        self.attached.as_ref().and_then(|attached| attached.host_ifname.as_deref())
    }

    /// Takes the interface out of a namespace that lives on.
    pub(crate) fn detach(&mut self, open: &HostNetwork, sandbox: &Namespace) -> Result<()> {
        let Some(attached) = self.attached.take() else { return Ok(()) };
        open.detach(sandbox, &attached).map_err(|error| failed(&error))
    }

    /// Silences the interface of a namespace that ends; the kernel removes the two together.
    pub(crate) fn unplug(&mut self, open: &HostNetwork) {
        if let Some(name) = self.attached.take().and_then(|attached| attached.host_ifname) {
            let _ = open.unplug(&name);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.network.leave(&self.container);
        for address in self.record.addresses() {
            self.network.give_back(address);
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn sysctls(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
