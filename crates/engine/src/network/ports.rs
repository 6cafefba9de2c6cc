//! The published ports of a running container: they lead to the networks that hold its default routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use droste_model::port::{ContainerPort, PortBinding, PublishedPort};
use droste_network::{GatewayMode, HostNetwork, PortRequest, PortReservation, PortTarget, Publication};

use super::failed;
use crate::error::{Error, Result};

/// Where a container's ports lead, one address of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The IPv4 address and how it is reached.
    pub v4: Option<(Ipv4Addr, GatewayMode)>,
    /// The IPv6 address and how it is reached.
    pub v6: Option<(Ipv6Addr, GatewayMode)>,
    /// The host's address for ports that name none.
    pub host_binding: Option<IpAddr>,
}

/// A container's ports: those wanted, and what is held for them.
#[derive(Default)]
pub(crate) struct Ports {
    wanted: Vec<(ContainerPort, PortBinding)>,
    target: Target,
    reservations: Vec<PortReservation>,
    publications: Vec<Publication>,
    relays: Vec<tokio::task::AbortHandle>,
    shown: Vec<PublishedPort>,
}

impl Ports {
    /// Ports that are wanted, none of them published.
    pub(crate) fn new(wanted: Vec<(ContainerPort, PortBinding)>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Where they lead.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// Where they are, IPv4 first.
    pub(crate) fn shown(&self) -> &[PublishedPort] {
        &self.shown
    }

    /// What leads packets to them.
    pub(crate) fn publications(&self) -> &[Publication] {
        &self.publications
    }

    /// Publishes what is wanted at a target. What was there must be taken back before.
    pub(crate) fn publish(&mut self, open: &HostNetwork, target: Target) -> Result<()> {
        self.target = target;
        let requests: Vec<PortRequest> =
            self.wanted.iter().map(|(port, binding)| request(target, *port, binding)).collect();
        let shown: Vec<ContainerPort> = self.wanted.iter().map(|(port, _)| *port).collect();
        self.hold(open, &requests, &shown)?;
        if self.publications.is_empty() {
            return Ok(());
        }
        open.publish(&self.publications).map_err(|error| failed(&error))?;
        self.relay(open);
        Ok(())
    }

    /// Takes over ports that were published before the daemon was started; the rules are there or put right later.
    pub(crate) fn adopt(&mut self, open: &HostNetwork, target: Target, held: &[PublishedPort]) -> Result<()> {
        self.target = target;
        let requests: Vec<PortRequest> = held
            .iter()
            .map(|port| PortRequest {
                host_ip: Some(port.host_ip),
                host_ports: Some((port.host_port, port.host_port)),
                ..request(target, port.container, &PortBinding { host_ip: None, host_ports: None })
            })
            .collect();
        let shown: Vec<ContainerPort> = held.iter().map(|port| port.container).collect();
        self.hold(open, &requests, &shown)?;
        self.relay(open);
        Ok(())
    }

    fn hold(&mut self, open: &HostNetwork, requests: &[PortRequest], ports: &[ContainerPort]) -> Result<()> {
        if requests.is_empty() || (self.target.v4.is_none() && self.target.v6.is_none()) {
            return Ok(());
        }
        self.reservations = open.reserve(requests).map_err(|error| failed(&error))?;
        self.publications = self.reservations.iter().flat_map(PortReservation::publications).collect();
        self.shown = self.reservations.iter().zip(ports).flat_map(|(held, port)| shown(held, *port)).collect();
        Ok(())
    }

    /// Carries what comes to the ports' IPv6 addresses to a container that has IPv4 only.
    fn relay(&mut self, open: &HostNetwork) {
        for held in &self.reservations {
            match held.relays(open.namespace()) {
                Ok(relays) => {
                    self.relays.extend(relays.into_iter().map(|relay| tokio::spawn(relay.run()).abort_handle()))
                }
                Err(error) => tracing::warn!(%error, "an IPv6 port is not relayed"),
            }
        }
    }

    /// Takes everything back.
    pub(crate) fn withdraw(&mut self, open: &HostNetwork) {
        if !self.publications.is_empty()
            && let Err(error) = open.unpublish(&self.publications)
        {
            tracing::debug!(%error, "ports were not unpublished: their host is off");
        }
        for relay in self.relays.drain(..) {
            relay.abort();
        }
        self.publications.clear();
        self.reservations.clear();
        self.shown.clear();
        self.target = Target::default();
    }
}

fn request(target: Target, port: ContainerPort, binding: &PortBinding) -> PortRequest {
    let routed = |mode: GatewayMode| mode == GatewayMode::Routed;
    PortRequest {
        protocol: port.protocol,
        host_ip: binding.host_ip.or(target.host_binding),
        host_ports: binding.wanted(),
        target: PortTarget {
            v4: target.v4.map(|(ip, _)| ip),
            v6: target.v6.map(|(ip, _)| ip),
            port: port.port,
            routed4: target.v4.is_some_and(|(_, mode)| routed(mode)),
            routed6: target.v6.is_some_and(|(_, mode)| routed(mode)),
        },
    }
}

fn shown(held: &PortReservation, container: ContainerPort) -> Vec<PublishedPort> {
    held.addresses()
        .map(|address| PublishedPort { container, host_ip: address.ip(), host_port: address.port() })
        .collect()
}

/// Docker's words for ports that could not be published.
pub(crate) fn refused(name: &str, endpoint: &str, error: Error) -> Error {
    error.after(&format!("driver failed programming external connectivity on endpoint {name} ({endpoint}): "))
}
