//! Containers join and leave networks, before they run, while they run and afterwards.

use std::net::IpAddr;
use std::sync::Arc;

use droste_model::network::{EndpointRequest, NetworkMode};

use super::attachment::Attachment;
use super::one::Network;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::host::{Host, Target};
use crate::lifecycle::to_the_end;
use crate::record::{ContainerRecord, Driver, Membership};
use crate::sockets;

const NOT_IN_HOST_MODE: &str =
    "cannot connect container to host network - container must be created in host network mode";
const PRIVATE_AND_OTHERS: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

impl Host {
    /// Connects a container to a network: at once if it runs, else at its next start.
    pub async fn connect(&self, network: &str, container: &str, request: EndpointRequest) -> Result<()> {
        self.require_write()?;
        let target = self.target(container)?;
        let network = self.state.networks.find(network)?;
        let host = self.clone();
        to_the_end(async move {
            match target {
                Target::Member(container) => host.connect_member(&container, network, request).await,
                Target::Myself(_) => host.connect_self(network, request).await,
            }
        })
        .await
    }

    async fn connect_member(
        &self,
        container: &Arc<Container>,
        network: Arc<Network>,
        request: EndpointRequest,
    ) -> Result<()> {
        let _turn = container.transition.lock().await;
        may_join(&container.record(), &network)?;
        check_request(&network, &request)?;
        network.check_open()?;
        if network.record.config_only {
            return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
        }
        let record = container.record().clone();
        let (key, known) = match self.membership(&record, &network) {
            Some((key, known)) => (key, Some(known)),
            None => (network.record.name.clone(), None),
        };
        let attachment = container.live().network.clone();
        let Some(attachment) = attachment.filter(|_| record.state.running().is_some()) else {
            let kept = known.filter(|_| request == EndpointRequest::default()).map(|known| known.request);
            let membership =
                Membership { request: kept.unwrap_or(request), named: network.has_names(), ..Membership::default() };
            container.record().networks.insert(key, membership);
            return self.engine.remember_now(container).await;
        };
        if known.is_some() {
            let (name, network) = (&record.name, &network.record.name);
            return Err(Error::forbidden(format!("endpoint with name {name} already exists in network {network}")));
        }
        self.join_running(container, attachment, record, key, network, request).await
    }

    async fn join_running(
        &self,
        container: &Arc<Container>,
        attachment: Arc<Attachment>,
        record: ContainerRecord,
        key: String,
        network: Arc<Network>,
        request: EndpointRequest,
    ) -> Result<()> {
        let mut membership = Membership {
            request,
            network: Some(network.record.id.clone()),
            named: network.has_names(),
            endpoint: None,
        };
        let (host, joined, asked, name) = (self.clone(), Arc::clone(&network), membership.clone(), key.clone());
        let wired = Arc::clone(&attachment);
        let work = tokio::task::spawn_blocking(move || {
            let settings = host.engine.settings();
            let endpoint = wired.join(&host.state, &settings, &record, &name, &asked, &joined)?;
            if let Err(error) = host.engine.tell_of_joining(&record, &host, &wired, &endpoint) {
                tracing::warn!(container = %record.id, %error, "its names were not put right");
            }
            Ok::<_, Error>(endpoint)
        });
        let endpoint = work.await.map_err(|error| Error::hidden("the connection was broken off", error))?;
        membership.endpoint = Some(endpoint?);
        {
            let mut record = container.record();
            record.networks.insert(key, membership);
            record.ports = attachment.published();
        }
        self.engine.remember_now(container).await?;
        sockets::emit_network(container, &network, "connect");
        Ok(())
    }

    /// Takes a container off a network.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.require_write()?;
        let target = match self.target(container) {
            Err(Error::NotFound(_)) if force => {
                self.state.networks.find(network)?;
                return Err(Error::not_found(format!("endpoint {container} not found")));
            }
            other => other?,
        };
        let network = self.state.networks.find(network)?;
        let host = self.clone();
        to_the_end(async move {
            match target {
                Target::Member(container) => host.disconnect_member(&container, network).await,
                Target::Myself(_) => host.disconnect_self(network).await,
            }
        })
        .await
    }

    async fn disconnect_member(&self, container: &Arc<Container>, network: Arc<Network>) -> Result<()> {
        let _turn = container.transition.lock().await;
        let record = container.record().clone();
        if network.record.driver == Driver::Host && record.host_config.network_mode == NetworkMode::Host {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        let Some((key, membership)) = self.membership(&record, &network) else {
            return Err(Error::internal(format!(
                "container {} is not connected to network {}",
                container.id, network.record.name
            )));
        };
        let attachment = container.live().network.clone();
        let running = attachment.filter(|_| record.state.running().is_some());
        if let Some(attachment) = &running {
            let (left, wired, engine) = (Arc::clone(&network), Arc::clone(attachment), Arc::clone(&self.engine));
            let work = tokio::task::spawn_blocking(move || {
                let done = wired.leave(&left, record.name.as_str());
                if let Some(endpoint) = &membership.endpoint {
                    engine.tell_of_leaving(&record, endpoint);
                }
                done
            });
            work.await.map_err(|error| Error::hidden("the disconnection was broken off", error))??;
        }
        {
            let mut record = container.record();
            record.networks.remove(&key);
            if let Some(attachment) = &running {
                record.ports = attachment.published();
            }
        }
        self.engine.remember_now(container).await?;
        if running.is_some() {
            sockets::emit_network(container, &network, "disconnect");
        }
        Ok(())
    }

    /// What a container has of a network, and the name under which it has it.
    fn membership(&self, record: &ContainerRecord, network: &Network) -> Option<(String, Membership)> {
        let is_it = |(key, membership): &(&String, &Membership)| match &membership.network {
            Some(id) => *id == network.record.id,
            None => self.state.networks.find(key).is_ok_and(|found| found.record.id == network.record.id),
        };
        record.networks.iter().find(is_it).map(|(key, membership)| (key.clone(), membership.clone()))
    }
}

/// Whether a container may be on a network beside those that it has.
fn may_join(record: &ContainerRecord, network: &Network) -> Result<()> {
    if matches!(record.host_config.network_mode, NetworkMode::Container(_) | NetworkMode::Host) {
        return Err(Error::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if network.record.driver == Driver::Host {
        return Err(Error::invalid(NOT_IN_HOST_MODE));
    }
    let private = record.networks.contains_key("none") || network.record.driver == Driver::Null;
    if private && !record.networks.is_empty() && !network.record.config_only {
        return Err(Error::invalid(PRIVATE_AND_OTHERS));
    }
    Ok(())
}

/// Whether a container with a network namespace of its own may start on all of these networks.
pub(crate) fn may_be_together<'a>(networks: impl Iterator<Item = &'a Network>) -> Result<()> {
    let drivers: Vec<Driver> = networks.map(|network| network.record.driver).collect();
    if drivers.contains(&Driver::Host) {
        return Err(Error::invalid(NOT_IN_HOST_MODE));
    }
    if drivers.len() > 1 && drivers.contains(&Driver::Null) {
        return Err(Error::invalid(PRIVATE_AND_OTHERS));
    }
    Ok(())
}

/// What is wrong with a wish for a network, in Docker's words.
pub(crate) fn check_request(network: &Network, request: &EndpointRequest) -> Result<()> {
    let mut wrong = Vec::new();
    let texts = &request.unreadable;
    let complaint = |family: &str, text: &String| format!("invalid {family} address: {text}");
    wrong.extend(texts.ipv4.iter().map(|text| complaint("IPv4", text)));
    wrong.extend(texts.ipv6.iter().map(|text| complaint("IPv6", text)));
    wrong.extend(texts.link_local.iter().map(|text| complaint("link-local IP", text)));
    let typed = |address: Option<IpAddr>, text: &Option<String>| match address {
        Some(address) => Some((Some(address), address.to_string())),
        None => text.clone().map(|text| (None, text)),
    };
    let asked = [(true, typed(request.ipv4, &texts.ipv4)), (false, typed(request.ipv6, &texts.ipv6))];
    let asked: Vec<_> = asked.into_iter().filter_map(|(v4, asked)| asked.map(|asked| (v4, asked))).collect();
    if network.builtin {
        if !asked.is_empty() {
            wrong.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if request.aliases.iter().flatten().next().is_some() {
            wrong.push("network-scoped alias is supported only for containers in user defined networks".to_owned());
        }
    } else {
        for (v4, (address, text)) in asked {
            wrong.extend(refused_address(network, v4, address, &text));
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("invalid endpoint settings:\n{one}"))),
        more => Err(Error::invalid(format!("invalid endpoint settings:\n* {}", more.join("\n* ")))),
    }
}

/// Why an address can't be had on a network, if its subnets say so.
fn refused_address(network: &Network, v4: bool, address: Option<IpAddr>, text: &str) -> Option<String> {
    let subnets: Vec<_> =
        network.record.subnets_in_use().filter(|subnet| subnet.subnet.addr().is_ipv4() == v4).collect();
    if !subnets.iter().any(|subnet| subnet.chosen) {
        return Some(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        );
    }
    let contained = address.is_some_and(|address| subnets.iter().any(|subnet| subnet.subnet.contains(&address)));
    (!contained).then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}
