//! Making, removing and pruning the networks of a host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use droste_confine::Capability;
use droste_model::event::EventType;
use droste_model::id::NetworkId;
use droste_model::limit::Resource;
use droste_model::network::{CreateNetwork, SubnetRequest};
use droste_model::time::Timestamp;
use droste_network::{Family, HostNetwork, IpNet, Ipam, IpamError};

use super::driver::Way;
use super::one::Network;
use super::{Networks, driver, lock};
use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::lifecycle::to_the_end;
use crate::random;
use crate::record::{Driver, NetworkRecord, SubnetRecord};
use crate::settings::Settings;
use crate::store::{Change, Key};
use crate::view::NetworkView;

/// Networks with these names are every host's.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";

impl Host {
    /// Makes a network.
    pub async fn create_network(&self, request: CreateNetwork) -> Result<NetworkId> {
        self.require_write()?;
        let host = self.clone();
        to_the_end(async move {
            let (state, settings) = (Arc::clone(&host.state), host.engine.settings());
            let made = tokio::task::spawn_blocking(move || state.networks.make(&state, &settings, request));
            let made = made.await.map_err(|error| Error::hidden("the network's creation was broken off", error))?;
            let network = made?;
            if let Err(error) = host.keep_network(&network).await {
                host.state.networks.forget(&network);
                return Err(error);
            }
            network.live().being_made = false;
            host.emit_network(&network, "create");
            Ok(network.record.id.clone())
        })
        .await
    }

    /// Stores the record of a network that was made.
    async fn keep_network(&self, network: &Network) -> Result<()> {
        let _stays = self.state.stay().await?;
        let key = Key::Network(self.state.id.clone(), network.record.id.clone());
        Ok(self.engine.store.commit(vec![Change::put(key, &network.record)?]).await?)
    }

    /// Stores a network's record anew.
    pub(super) async fn remember_network(&self, network: &Network) -> Result<()> {
        let mut record = network.record.clone();
        record.myself.clone_from(&network.live().myself);
        let key = Key::Network(self.state.id.clone(), record.id.clone());
        Ok(self.engine.store.commit(vec![Change::update(key, &record)?]).await?)
    }

    fn emit_network(&self, network: &Network, action: &str) {
        let record = &network.record;
        let attributes = [("name", record.name.clone()), ("type", record.driver.name().to_owned())];
        self.state.emit(EventType::Network, action, record.id.as_str(), &attributes);
    }

    /// Removes a network that nobody is on.
    pub async fn remove_network(&self, at: &str) -> Result<()> {
        self.require_write()?;
        let network = self.state.networks.find(at)?;
        if network.builtin {
            let text = format!("{} is a pre-defined network and cannot be removed", network.record.name);
            return Err(Error::forbidden(text));
        }
        let host = self.clone();
        to_the_end(async move { host.take_away(network).await }).await
    }

    async fn take_away(&self, network: Arc<Network>) -> Result<()> {
        self.state.networks.claim_removal(&network)?;
        let key = Key::Network(self.state.id.clone(), network.record.id.clone());
        if let Err(error) = self.engine.store.commit(vec![Change::remove(key)]).await {
            network.live().removed = false;
            return Err(error.into());
        }
        let (state, gone) = (Arc::clone(&self.state), Arc::clone(&network));
        let removed = tokio::task::spawn_blocking(move || state.networks.forget(&gone)).await;
        if let Err(error) = removed {
            tracing::error!(network = %network.record.name, %error, "its bridge was not removed");
        }
        self.emit_network(&network, "destroy");
        Ok(())
    }

    /// Removes every network that nobody is on and for which `keep` says no; gives their names.
    pub async fn prune_networks(&self, keep: &(dyn Fn(&NetworkView) -> bool + Send + Sync)) -> Result<Vec<String>> {
        self.require_write()?;
        let mut gone = Vec::new();
        for network in self.state.networks.all() {
            if network.builtin || network.live().is_used() || keep(&self.network_view(&network, false)) {
                continue;
            }
            if self.take_away(Arc::clone(&network)).await.is_ok() {
                gone.push(network.record.name.clone());
            }
        }
        Ok(gone)
    }
}

impl Networks {
    /// Makes a network: its record, its bridge, its place in the table. Blocking.
    fn make(&self, host: &HostState, settings: &Settings, request: CreateNetwork) -> Result<Arc<Network>> {
        let name = request.name.clone();
        check_name(&name)?;
        // The default bridge has its subnet before others choose theirs.
        let default = self.find("bridge")?;
        let open = self.ensure(host, settings, &default)?;
        self.guard(&open);
        let changing = lock(&self.changing);
        if self.named(&name).is_some() {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        let record = self.plan(host, settings, &open, request)?;
        let places = host.account.take_object(Resource::Networks, crate::record::size(&record))?;
        let network = Arc::new(Network::new(record, false, places)?);
        self.check_bridge_name(&network)?;
        check_privileges(host, &network)?;
        network.live().being_made = true;
        self.insert(Arc::clone(&network));
        drop(changing);
        if !network.record.config_only
            && let Err(error) = self.ensure(host, settings, &network)
        {
            self.forget(&network);
            return Err(error);
        }
        Ok(network)
    }

    /// What will be remembered of a network.
    fn plan(
        &self,
        host: &HostState,
        settings: &Settings,
        open: &HostNetwork,
        request: CreateNetwork,
    ) -> Result<NetworkRecord> {
        let request = self.with_configuration(request)?;
        let driver = driver_of(&request)?;
        let (ipv4, ipv6) = (request.ipv4.unwrap_or(true), request.ipv6.unwrap_or(false));
        if !ipv4 && !ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        match request.ipam.driver.as_str() {
            "" | "default" => {}
            "null" => return Err(Error::invalid("ipv4 pool is empty")),
            other => return Err(Error::not_found(format!("plugin \"{other}\" not found"))),
        }
        let mut record = NetworkRecord {
            id: NetworkId::from_bytes(random::bytes()?),
            name: request.name,
            host: host.id.clone(),
            created: Timestamp::now(),
            driver,
            scope: if request.scope.is_empty() { "local".to_owned() } else { request.scope },
            internal: request.internal,
            attachable: request.attachable,
            config_only: request.config_only,
            config_from: request.config_from,
            ipv4,
            ipv6,
            ipam_options: request.ipam.options,
            subnets: Vec::new(),
            options: request.options,
            labels: request.labels,
            myself: None,
        };
        if record.config_only {
            record.subnets = request.ipam.subnets.iter().map(|asked| subnet_record(asked, None)).collect();
            return Ok(record);
        }
        // Wrong options are told before subnets are taken.
        driver::way(&record)?;
        record.subnets = self.subnets(host, settings, open, &record, &request.ipam.subnets)?;
        driver::way(&record)?;
        Ok(record)
    }

    /// A request completed by the network that holds its configuration.
    fn with_configuration(&self, request: CreateNetwork) -> Result<CreateNetwork> {
        if request.config_only {
            if !request.config_from.is_empty() {
                return Err(Error::forbidden("a configuration network cannot depend on another configuration network"));
            }
            if request.ingress || request.internal || request.attachable || !request.scope.is_empty() {
                return Err(Error::forbidden(
                    "configuration network can only contain network specific fields. Network operator fields like [ \
                     ingress | internal | attachable | scope ] are not supported.",
                ));
            }
        }
        if request.config_from.is_empty() {
            return Ok(request);
        }
        if !request.options.is_empty() {
            return Err(Error::forbidden(
                "network driver options are not supported if the network depends on a configuration network",
            ));
        }
        let asks = !request.ipam.subnets.is_empty()
            || request.ipam.options.as_ref().is_some_and(|options| !options.is_empty())
            || !request.labels.is_empty()
            || request.ipv6 == Some(true);
        if asks {
            return Err(Error::forbidden(
                "user specified configurations are not supported if the network depends on a configuration network",
            ));
        }
        let name = request.config_from.clone();
        let known = self.find(&name).ok().filter(|network| network.record.config_only);
        let known = known.ok_or_else(|| Error::not_found(format!("configuration network {name:?} does not exist")))?;
        let of = &known.record;
        let asked = |subnet: &SubnetRecord| SubnetRequest {
            subnet: subnet.subnet,
            range: subnet.range,
            gateway: subnet.shown_gateway,
            auxiliary: subnet.auxiliary.clone(),
        };
        let mut request = request;
        request.ipam.subnets = of.subnets.iter().map(asked).collect();
        request.ipam.options.clone_from(&of.ipam_options);
        request.options.clone_from(&of.options);
        request.labels.clone_from(&of.labels);
        (request.ipv4, request.ipv6) = (Some(of.ipv4), Some(of.ipv6));
        Ok(request)
    }

    /// The subnets of a new network: those asked for, and one of the pools for a family that has none.
    fn subnets(
        &self,
        host: &HostState,
        settings: &Settings,
        open: &HostNetwork,
        record: &NetworkRecord,
        asked: &[SubnetRequest],
    ) -> Result<Vec<SubnetRecord>> {
        self.check_overlaps(record, asked)?;
        let enabled = |family| if family == Family::V4 { record.ipv4 } else { record.ipv6 };
        let mut subnets: Vec<SubnetRecord> =
            asked.iter().filter(|one| !enabled(family_of(one))).map(|one| subnet_record(one, None)).collect();
        for family in [Family::V4, Family::V6].into_iter().filter(|family| enabled(*family)) {
            let of_family: Vec<&SubnetRequest> = asked.iter().filter(|one| family_of(one) == family).collect();
            if record.driver == Driver::Bridge && of_family.len() > 1 {
                return Err(Error::forbidden("bridge driver doesn't support multiple subnets"));
            }
            for one in &of_family {
                open.check_subnet(one.subnet).map_err(|error| Error::forbidden(error.to_string()))?;
                subnets.push(subnet_record(one, gateway(one)?));
            }
            if of_family.is_empty() {
                let also: Vec<IpNet> = subnets.iter().map(|subnet| subnet.subnet).collect();
                let subnet = self.free_subnet(open, host, settings, family, &also)?;
                subnets.push(chosen_for(subnet)?);
            }
        }
        Ok(subnets)
    }

    /// Subnets that clients ask for may overlap no other network of the host.
    fn check_overlaps(&self, record: &NetworkRecord, asked: &[SubnetRequest]) -> Result<()> {
        let mut taken: Vec<IpNet> = Vec::new();
        for network in self.all().iter().filter(|network| !network.record.config_only) {
            taken.extend(network.subnets());
        }
        for one in asked {
            let in_use = if one.subnet.addr().is_ipv4() { record.ipv4 } else { record.ipv6 };
            if in_use && taken.iter().any(|other| droste_network::overlap(*other, one.subnet)) {
                return Err(Error::forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space",
                ));
            }
            taken.push(one.subnet);
        }
        Ok(())
    }

    /// Two networks can't have the same bridge, and not all can share a parent.
    fn check_bridge_name(&self, new: &Network) -> Result<()> {
        let way = new.live().way.clone();
        for other in self.all().iter().filter(|other| other.record.id != new.record.id) {
            let theirs = other.live().way.clone();
            if let (Some(Way::Bridge(one)), Some(Way::Bridge(two))) = (&way, &theirs)
                && one.bridge.name == two.bridge.name
            {
                let name = &one.bridge.name;
                return Err(Error::forbidden(format!(
                    "cannot create network {} ({name}): conflicts with network {} ({name}): networks have same bridge \
                     name",
                    new.record.id, other.record.id
                )));
            }
            if let Some(refusal) =
                way.as_ref().zip(theirs.as_ref()).and_then(|(way, theirs)| way.clash(theirs, &other.record))
            {
                return Err(Error::internal(refusal));
            }
        }
        Ok(())
    }

    /// From now on nobody may join; refused if somebody is there.
    fn claim_removal(&self, network: &Network) -> Result<()> {
        let _changing = lock(&self.changing);
        let refused = |why: String| Error::forbidden(format!("error while removing network: {why}"));
        let name = &network.record.name;
        if network.record.config_only && self.all().iter().any(|other| other.record.config_from == *name) {
            return Err(refused(format!("configuration network {name:?} is in use")));
        }
        let members = network.members();
        let mut live = network.live();
        if live.removed || live.being_made {
            return Err(Error::not_found(format!("network {name} not found")));
        }
        let mut there: Vec<String> =
            members.values().map(|member| format!("name:{:?} id:{:?}", member.name, member.endpoint.short())).collect();
        if live.myself.is_some() {
            there.push("the host itself: disconnect it first".to_owned());
        }
        there.sort();
        if !there.is_empty() {
            return Err(refused(format!("network {name} has active endpoints ({})", there.join(", "))));
        }
        live.removed = true;
        Ok(())
    }

    /// Whether a network's containers hang on this interface.
    fn has_parent(&self, name: &str) -> bool {
        let uses =
            |network: &Arc<Network>| network.live().way.as_ref().and_then(Way::parent).is_some_and(|p| p.name == name);
        self.all().iter().any(uses)
    }

    /// Takes a network out of the table and out of the host's namespace. Blocking.
    fn forget(&self, network: &Network) {
        let _only_one = lock(&self.changing);
        self.remove(network);
        let open = lock(&self.open).clone();
        let (Some(open), Some(way)) = (open, network.live().way.clone()) else { return };
        let removed = match way {
            Way::Bridge(way) => open.remove_bridge(&way.bridge.name),
            Way::Macvlan { parent, .. } | Way::Ipvlan { parent, .. } if self.has_parent(&parent.name) => Ok(()),
            Way::Macvlan { parent, .. } | Way::Ipvlan { parent, .. } => open.remove_parent(&parent),
        };
        if let Err(error) = removed {
            tracing::debug!(network = %network.record.name, %error, "nothing of it was there");
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if PREDEFINED.contains(&name) {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    Ok(())
}

/// An interface of a host may carry others only if the host itself could send whatever it likes through it.
fn check_privileges(host: &HostState, network: &Network) -> Result<()> {
    let on_parent = network.live().way.as_ref().and_then(Way::parent).is_some_and(|parent| !parent.dummy);
    let has = host.power()?.bounds.capabilities;
    if on_parent && !has.has(Capability::NET_ADMIN) && !has.has(Capability::NET_RAW) {
        return Err(Error::forbidden(
            "this host may not send packets of its own making (CAP_NET_RAW), so nothing on it may share its interfaces",
        ));
    }
    Ok(())
}

fn driver_of(request: &CreateNetwork) -> Result<Driver> {
    if request.config_only {
        return Ok(Driver::Null);
    }
    let driver = match request.driver.as_str() {
        "" | "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan,
        "host" | "null" => {
            let text = format!("only one instance of {:?} network is allowed", request.driver);
            return Err(Error::forbidden(text));
        }
        "overlay" => return Err(Error::forbidden(NO_SWARM)),
        other => return Err(Error::not_found(format!("plugin \"{other}\" not found"))),
    };
    if request.scope == "swarm" {
        return Err(Error::forbidden("cannot create a swarm scoped network when swarm is not active"));
    }
    if request.ingress {
        return Err(Error::forbidden("Ingress network can only be global scope network"));
    }
    Ok(driver)
}

fn family_of(asked: &SubnetRequest) -> Family {
    Family::of(asked.subnet.addr())
}

fn subnet_record(asked: &SubnetRequest, address: Option<IpAddr>) -> SubnetRecord {
    SubnetRecord {
        subnet: asked.subnet,
        chosen: true,
        range: asked.range,
        shown_gateway: asked.gateway,
        address,
        auxiliary: asked.auxiliary.clone(),
    }
}

/// A subnet of the pools with its gateway.
fn chosen_for(subnet: IpNet) -> Result<SubnetRecord> {
    let address = Ipam::new(subnet).allocate().map_err(|error| Error::internal(error.to_string()))?;
    let auxiliary = BTreeMap::new();
    Ok(SubnetRecord {
        subnet,
        chosen: false,
        range: None,
        shown_gateway: Some(address),
        address: Some(address),
        auxiliary,
    })
}

/// The gateway of a subnet: the address asked for, or the first of the range. Nobody else's may be the same.
fn gateway(asked: &SubnetRequest) -> Result<Option<IpAddr>> {
    let mut pool = Ipam::new(asked.subnet);
    if let Some(range) = asked.range {
        pool = pool.with_range(range);
    }
    let gateway = match asked.gateway {
        Some(gateway) => {
            let refused = |_: IpamError| {
                Error::internal(format!("failed to allocate gateway ({gateway}): Address already in use"))
            };
            pool.reserve(gateway).map_err(refused)?;
            gateway
        }
        None => pool.allocate().map_err(|error| Error::internal(error.to_string()))?,
    };
    for (name, address) in &asked.auxiliary {
        pool.reserve(*address).map_err(|_| {
            let what = format!("failed to allocate secondary ip address ({name}:{address})");
            Error::internal(format!("{what}: Address already in use"))
        })?;
    }
    Ok(Some(gateway))
}
