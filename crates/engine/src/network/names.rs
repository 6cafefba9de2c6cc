//! What names mean in one container: the source of its embedded name server.
//!
//! A container hears of the networks that it is on and of no others. What is running now is all that there is: each
//! network forgets a container when that ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_network::{Addresses, Names};

use super::one::Network;
use crate::container::Container;
use crate::record::{ContainerRecord, Membership};

/// The networks of a container in the order in which they are asked.
#[derive(Default)]
pub(crate) struct SandboxNames {
    views: Mutex<Vec<View>>,
}

/// One network as a container sees it.
struct View {
    network: Arc<Network>,
    /// Names that this container alone has for others.
    links: BTreeMap<String, String>,
}

impl SandboxNames {
    fn views(&self) -> MutexGuard<'_, Vec<View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a network, with the container's own links `NAME[:ALIAS]` on it.
    pub(crate) fn join(&self, network: &Arc<Network>, links: &[String]) {
        let pair = |link: &String| {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            (alias.to_ascii_lowercase(), name.to_ascii_lowercase())
        };
        self.leave(network);
        self.views().push(View { network: Arc::clone(network), links: links.iter().map(pair).collect() });
    }

    /// Whether one of the networks has names.
    pub(crate) fn are_there(&self) -> bool {
        self.views().iter().any(|view| view.network.has_names())
    }

    /// Takes a network away.
    pub(crate) fn leave(&self, network: &Network) {
        self.views().retain(|view| view.network.record.id != network.record.id);
    }
}

impl View {
    fn look_up(&self, name: &str) -> Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)> {
        let linked = self.links.get(name).and_then(|name| self.network.look_up(name));
        linked.or_else(|| self.network.look_up(name))
    }

    /// A name with the network's own name behind it.
    fn look_up_qualified(&self, name: &str) -> Option<(Vec<Ipv4Addr>, Vec<Ipv6Addr>)> {
        let network = self.network.record.name.to_ascii_lowercase();
        let bare = name.strip_suffix(network.as_str())?.strip_suffix('.')?;
        self.look_up(bare)
    }
}

impl Names for SandboxNames {
    fn addresses(&self, name: &str) -> Option<Addresses> {
        let views = self.views();
        let named = views.iter().filter(|view| view.network.has_names());
        let found = named.clone().find_map(|view| view.look_up(name));
        let found = found.or_else(|| named.clone().find_map(|view| view.look_up_qualified(name)));
        found.map(|(v4, v6)| Addresses { v4, v6 })
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        let views = self.views();
        views.iter().filter(|view| view.network.has_names()).find_map(|view| view.network.name_of(address))
    }
}

impl Container {
    /// Tells its networks how a running container is called now.
    pub(crate) fn rename_on_networks(&self) {
        let attachment = self.live().network.clone();
        let record = self.record().clone();
        for (key, network, _) in attachment.map(|attachment| attachment.places()).unwrap_or_default() {
            if let Some(membership) = record.networks.get(&key) {
                network.rename(&self.id, record.name.as_str(), &dns_names(&record, membership, &network));
            }
        }
    }
}

/// The names of a container on a network, as `inspect` shows them: its own, its aliases, its short id, its host name.
/// On the default bridge it has none.
pub(crate) fn dns_names(record: &ContainerRecord, membership: &Membership, network: &Network) -> Vec<String> {
    if network.has_names() { shown_names(record, membership) } else { Vec::new() }
}

/// The same, for a network that has names.
pub(crate) fn shown_names(record: &ContainerRecord, membership: &Membership) -> Vec<String> {
    let mut names = vec![record.name.to_string()];
    let aliases = membership.request.aliases.iter().flatten().cloned();
    let hostname = Some(record.config.hostname.clone()).filter(|name| !name.is_empty());
    for name in aliases.chain([record.id.short().to_owned()]).chain(hostname) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
