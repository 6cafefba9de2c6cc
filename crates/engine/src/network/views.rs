//! What a host shows of its networks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use droste_network::Bridge;

use super::one::Network;
use crate::error::Result;
use crate::host::Host;
use crate::record::Driver;
use crate::view::{NetworkMember, NetworkView, SubnetView};

impl Host {
    /// The networks of this host: those of every host first. Their containers are told only if that is asked.
    pub fn networks(&self, with_members: bool) -> Vec<NetworkView> {
        self.state.networks.all().iter().map(|network| self.network_view(network, with_members)).collect()
    }

    /// A network by name, id or prefix.
    pub fn network(&self, at: &str) -> Result<NetworkView> {
        self.state.networks.find(at).map(|network| self.network_view(&network, true))
    }

    pub(super) fn network_view(&self, network: &Network, with_members: bool) -> NetworkView {
        let record = &network.record;
        let bridge =
            (network.builtin && record.driver == Driver::Bridge).then(|| self.default_bridge(network)).flatten();
        let subnets = match &bridge {
            Some(bridge) => bridge
                .subnets
                .iter()
                .map(|subnet| SubnetView {
                    subnet: subnet.net.to_string(),
                    range: None,
                    gateway: subnet.address,
                    auxiliary: BTreeMap::new(),
                })
                .collect(),
            None => record
                .subnets
                .iter()
                .map(|subnet| SubnetView {
                    subnet: subnet.subnet.to_string(),
                    range: subnet.range.map(|range| range.to_string()),
                    gateway: subnet.shown_gateway,
                    auxiliary: subnet.auxiliary.clone(),
                })
                .collect(),
        };
        let used = network.live().is_used();
        NetworkView {
            id: record.id.clone(),
            name: record.name.clone(),
            created: record.created,
            scope: record.scope.clone(),
            driver: record.driver.name().to_owned(),
            ipv4: record.ipv4,
            ipv6: record.ipv6,
            subnets,
            ipam_options: record.ipam_options.clone(),
            internal: record.internal,
            attachable: record.attachable,
            config_from: record.config_from.clone(),
            config_only: record.config_only,
            options: bridge.as_ref().map_or_else(|| record.options.clone(), options_of),
            labels: record.labels.clone(),
            builtin: network.builtin,
            used,
            containers: if with_members { self.members_on(network) } else { Vec::new() },
        }
    }

    /// The default bridge. It is made at the latest when somebody looks at its addresses, so that a client which asks
    /// for the gateway gets one that answers.
    fn default_bridge(&self, network: &Network) -> Option<Bridge> {
        let made = self.state.networks.ensure(&self.state, &self.engine.settings(), network);
        if let Err(error) = made {
            tracing::debug!(%error, "the default bridge can not be made");
        }
        network.live().way.as_ref().and_then(|way| way.bridge().map(|way| way.bridge.clone()))
    }

    fn members_on(&self, network: &Network) -> Vec<NetworkMember> {
        match network.record.driver {
            Driver::Host | Driver::Null => self.members_without_endpoint(network),
            _ => self.members_with_endpoint(network),
        }
    }

    fn members_with_endpoint(&self, network: &Network) -> Vec<NetworkMember> {
        let mut members = Vec::new();
        for (id, member) in network.members() {
            let container = self.state.table().find(id.as_str());
            let mac = container.ok().and_then(|container| {
                let record = container.record();
                let endpoints = record.networks.values().filter_map(|membership| membership.endpoint.as_ref());
                endpoints
                    .into_iter()
                    .find(|endpoint| endpoint.id == member.endpoint)
                    .map(|endpoint| (endpoint.mac.clone(), endpoint.v4, endpoint.v6))
            });
            let (mac, v4, v6) = mac.unwrap_or_default();
            members.push(NetworkMember {
                id,
                name: member.name,
                endpoint_id: member.endpoint.to_string(),
                mac,
                v4,
                v6,
            });
        }
        members.extend(self.myself_on(network));
        members
    }

    /// Containers in the host's own namespace, or in one without networks.
    fn members_without_endpoint(&self, network: &Network) -> Vec<NetworkMember> {
        let mut members = Vec::new();
        for container in self.state.members() {
            let record = container.record();
            if record.state.running().is_none() || !record.networks.contains_key(&network.record.name) {
                continue;
            }
            members.push(NetworkMember {
                id: record.id.clone(),
                name: record.name.to_string(),
                endpoint_id: record.id.to_string(),
                mac: String::new(),
                v4: None,
                v6: None,
            });
        }
        members
    }

    /// The host itself, if it has joined: it is where the gateway is.
    fn myself_on(&self, network: &Network) -> Option<NetworkMember> {
        network.live().myself.as_ref()?;
        let myself = self.state.myself()?;
        let (v4, v6) = own_addresses(network);
        let record = myself.record();
        Some(NetworkMember {
            id: record.id.clone(),
            name: record.name.to_string(),
            endpoint_id: record.id.to_string(),
            mac: String::new(),
            v4,
            v6,
        })
    }
}

/// An IPv4 and an IPv6 address with their prefix lengths.
pub(super) type Pair = (Option<(Ipv4Addr, u8)>, Option<(Ipv6Addr, u8)>);

/// The addresses that the host itself has on a network: its bridge's.
pub(super) fn own_addresses(network: &Network) -> Pair {
    let live = network.live();
    let mut pair = (None, None);
    let Some(way) = live.way.as_ref().and_then(|way| way.bridge()) else { return pair };
    for subnet in &way.bridge.subnets {
        match subnet.address {
            Some(std::net::IpAddr::V4(ip)) => pair.0 = Some((ip, subnet.net.prefix_len())),
            Some(std::net::IpAddr::V6(ip)) => pair.1 = Some((ip, subnet.net.prefix_len())),
            None => {}
        }
    }
    pair
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
