//! The host itself on one of its own networks: `network connect NET SELF`.
//!
//! A network of a host is in the host's own namespace, and the bridge's address is the host's. So nothing is wired when
//! a host joins: the others on the network find it by its names, at that address, it is listed among them, and finds
//! them by theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::id::EndpointId;
use droste_model::network::EndpointRequest;

use super::connect::check_request;
use super::names::shown_names;
use super::one::Network;
use super::views::own_addresses;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::record::{Driver, EndpointRecord, Membership};
use crate::view::EndpointView;

impl Host {
    /// The host joins one of its networks.
    pub(super) async fn connect_self(&self, network: Arc<Network>, request: EndpointRequest) -> Result<()> {
        check_request(&network, &request)?;
        if network.record.driver != Driver::Bridge {
            return Err(Error::invalid(format!(
                "this host can be on bridge networks of its own only: {} is of the driver {}",
                network.record.name,
                network.record.driver.name()
            )));
        }
        if network.live().myself.is_some() {
            let name = &network.record.name;
            return Err(Error::forbidden(format!(
                "endpoint with name {} already exists in network {name}",
                self.name()
            )));
        }
        let (host, joined) = (self.clone(), Arc::clone(&network));
        let work = tokio::task::spawn_blocking(move || host.join_own(&joined, request));
        work.await.map_err(|error| Error::hidden("the connection was broken off", error))??;
        if let Err(error) = self.remember_network(&network).await {
            self.state.leave_own(&network);
            return Err(error);
        }
        Ok(())
    }

    /// The networks of its own that the host has joined, as it sees them. What it has of the host above's networks is
    /// the host above's.
    pub(crate) fn own_endpoints(&self) -> BTreeMap<String, EndpointView> {
        let mut joined = BTreeMap::new();
        let Some(myself) = self.state.myself() else { return joined };
        for network in self.state.networks.all() {
            let Some(request) = network.live().myself.clone() else { continue };
            let (v4, v6) = own_addresses(&network);
            let record = myself.record();
            let membership = Membership { request, ..Membership::default() };
            let view = EndpointView {
                dns_names: shown_names(&record, &membership),
                request: membership.request,
                network_id: network.record.id.to_string(),
                endpoint_id: record.id.to_string(),
                v4,
                v6,
                ..EndpointView::default()
            };
            joined.insert(network.record.name.clone(), view);
        }
        joined
    }

    /// The host leaves one of its networks.
    pub(super) async fn disconnect_self(&self, network: Arc<Network>) -> Result<()> {
        if network.live().myself.is_none() {
            return Err(Error::internal(format!(
                "container {} is not connected to network {}",
                self.name(),
                network.record.name
            )));
        }
        self.state.leave_own(&network);
        self.remember_network(&network).await
    }
}

impl Host {
    fn join_own(&self, network: &Arc<Network>, request: EndpointRequest) -> Result<()> {
        self.state.networks.ensure(&self.state, &self.engine.settings(), network)?;
        let (v4, v6) = own_addresses(network);
        let differs = request.ipv4.is_some_and(|asked| v4.is_none_or(|(ip, _)| asked != ip))
            || request.ipv6.is_some_and(|asked| v6.is_none_or(|(ip, _)| asked != ip));
        if (v4.is_none() && v6.is_none()) || differs {
            return Err(Error::invalid(
                "a host has the gateway's address on its own networks and no other: leave the address out",
            ));
        }
        network.live().myself = Some(request);
        self.announce_self(network);
        Ok(())
    }

    /// The host is on the networks again that it has joined, after a start of its own or of the daemon. Blocking.
    pub(crate) fn announce_self_everywhere(&self) {
        let settings = self.engine.settings();
        for network in self.state.networks.all() {
            if network.live().myself.is_none() {
                continue;
            }
            match self.state.networks.ensure(&self.state, &settings, &network) {
                Ok(_) => self.announce_self(&network),
                Err(error) => tracing::warn!(network = %network.record.name, %error, "its host did not join it again"),
            }
        }
    }

    /// Gives the host's names on a network that it has joined, and the host the names there.
    fn announce_self(&self, network: &Arc<Network>) {
        let Some(request) = network.live().myself.clone() else { return };
        let Some(myself) = self.state.myself() else { return };
        let (v4, v6) = own_addresses(network);
        let record = myself.record().clone();
        let membership = Membership { request, ..Membership::default() };
        let (names, name) = (shown_names(&record, &membership), record.name.to_string());
        let Ok(id) = record.id.as_str().parse::<EndpointId>() else { return };
        let endpoint = EndpointRecord {
            id,
            ifname: String::new(),
            v4,
            v6,
            link_local: Vec::new(),
            gateway4: None,
            gateway6: None,
            mac: String::new(),
        };
        network.call(&record.id, &name, &names, &endpoint);
        let links = membership.request.links.as_deref().unwrap_or_default();
        if let Err(error) = self.hear_names(&myself, network, links) {
            tracing::warn!(container = %record.id, %error, "it does not find the others on its network by name");
        }
    }

    /// Whoever has no network of its own has no name server of its own either, and hears nothing.
    fn hear_names(&self, myself: &Container, network: &Arc<Network>, links: &[String]) -> Result<()> {
        let attachment = myself.live().network.clone().filter(|attachment| !attachment.is_isolated());
        let Some(attachment) = attachment.filter(|_| network.has_names()) else { return Ok(()) };
        attachment.names.join(network, links);
        let above = Host::new(Arc::clone(&self.engine), Arc::clone(&myself.host), false);
        let record = myself.record().clone();
        self.engine.tell_of_names(&record, &above, &attachment)
    }
}

impl HostState {
    fn leave_own(&self, network: &Network) {
        network.live().myself = None;
        let Some(myself) = self.myself() else { return };
        network.leave(&myself.id);
        if let Some(attachment) = &myself.live().network {
            attachment.names.leave(network);
        }
    }
}
