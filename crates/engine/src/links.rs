//! Old-style links of the default bridge: lines in /etc/hosts, and variables in the environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use droste_model::id::ContainerId;
use droste_model::network::NetworkMode;
use droste_model::port::ContainerPort;
use droste_network::ExtraHost;

use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::record::ContainerRecord;

/// Variables that every image has and no linked container is told of.
const NOT_TOLD: [&str; 2] = ["HOME", "PATH"];

/// A linked container as it is now.
struct Linked {
    alias: String,
    name: String,
    hostname: String,
    address: Ipv4Addr,
    env: Vec<String>,
    ports: Vec<ContainerPort>,
}

/// Container and alias of `CONTAINER[:ALIAS]`.
pub(crate) fn parts(link: &str) -> (&str, &str) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    (name, alias.rsplit('/').next().unwrap_or(alias))
}

/// Links of the default bridge as `inspect` shows them: by the names that both containers have now. One to a container
/// that is gone is not shown.
pub(crate) fn shown(record: &ContainerRecord, host: &Host) -> Option<Vec<String>> {
    if record.host_config.network_mode.network() != Some("bridge") {
        return None;
    }
    let one = |link: &String| {
        let (id, alias) = parts(link);
        let other = host.member(id).ok()?;
        let name = other.record().name.clone();
        Some(format!("/{name}:/{}/{alias}", record.name))
    };
    record.host_config.links.as_ref().map(|links| links.iter().filter_map(one).collect())
}

/// The names that links give, `CONTAINER/ALIAS`, by the containers that they lead to.
pub(crate) fn aliases(host: &HostState) -> BTreeMap<ContainerId, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<String>>::new();
    for container in host.members() {
        let record = container.record();
        if record.host_config.network_mode.network() != Some("bridge") {
            continue;
        }
        for (id, alias) in record.host_config.links.iter().flatten().map(|link| parts(link)) {
            // Since the creation they name containers by their ids.
            if let Ok(id) = id.parse() {
                all.entry(id).or_default().push(format!("{}/{alias}", record.name));
            }
        }
    }
    all.values_mut().for_each(|names| names.sort());
    all
}

/// The containers that `--link` names. Only the default bridge has them: other networks have names.
fn linked(record: &ContainerRecord, host: &Host) -> Result<Vec<Linked>> {
    let on_bridge = record.networks.contains_key("bridge")
        && !matches!(record.host_config.network_mode, NetworkMode::Container(_) | NetworkMode::Host);
    let links = record.host_config.links.iter().flatten().filter(|_| on_bridge);
    links.map(|link| one(link, record, host)).collect()
}

fn one(link: &str, record: &ContainerRecord, host: &Host) -> Result<Linked> {
    let (name, alias) = parts(link);
    let other = host.member(name)?;
    let other = other.record();
    if other.state.running().is_none() {
        return Err(Error::conflict(format!(
            "Cannot link to a non running container: /{} AS /{}/{alias}",
            other.name, record.name
        )));
    }
    let endpoint = other.networks.get("bridge").and_then(|membership| membership.endpoint.as_ref());
    let address = endpoint.and_then(|endpoint| endpoint.v4).map(|(ip, _)| ip);
    let address = address
        .ok_or_else(|| Error::internal(format!("container {} not attached to default bridge network", other.id)))?;
    let mut ports: Vec<ContainerPort> = other.config.exposed_ports.iter().copied().collect();
    ports.sort();
    Ok(Linked {
        alias: alias.to_owned(),
        name: other.name.to_string(),
        hostname: other.config.hostname.clone(),
        address,
        env: other.config.env.clone(),
        ports,
    })
}

/// Linked containers' lines, each with an alias, a host name and a name.
pub(crate) fn lines(record: &ContainerRecord, host: &Host) -> Result<Vec<ExtraHost>> {
    Ok(linked(record, host)?.iter().map(Linked::line).collect())
}

/// What a container's environment says of the containers that it is linked to.
pub(crate) fn variables(record: &ContainerRecord, host: &Host) -> Result<Vec<String>> {
    Ok(linked(record, host)?.iter().flat_map(|linked| linked.variables(record.name.as_str())).collect())
}

impl Linked {
    fn line(&self) -> ExtraHost {
        let mut name = format!("{} {}", self.alias, self.hostname);
        if self.name != self.alias {
            name.extend([" ", &self.name]);
        }
        ExtraHost { name, address: IpAddr::V4(self.address) }
    }

    fn variables(&self, parent: &str) -> Vec<String> {
        let alias = self.alias.to_uppercase().replace('-', "_");
        let url = |port: &ContainerPort| format!("{}://{}:{}", port.protocol.as_str(), self.address, port.port);
        let mut all = Vec::new();
        if let Some(first) = self.ports.first() {
            all.push(format!("{alias}_PORT={}", url(first)));
        }
        for port in &self.ports {
            let protocol = port.protocol.as_str();
            let key = format!("{alias}_PORT_{}_{}", port.port, protocol.to_uppercase());
            all.push(format!("{key}={}", url(port)));
            all.push(format!("{key}_ADDR={}", self.address));
            all.push(format!("{key}_PORT={}", port.port));
            all.push(format!("{key}_PROTO={protocol}"));
        }
        all.push(format!("{alias}_NAME=/{parent}/{}", self.alias));
        for (name, value) in self.env.iter().filter_map(|entry| entry.split_once('=')) {
            if !NOT_TOLD.contains(&name) {
                all.push(format!("{alias}_ENV_{name}={value}"));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_dockers() {
        let linked = Linked {
            alias: "my-db".to_owned(),
            name: "postgres".to_owned(),
            hostname: "h".to_owned(),
            address: Ipv4Addr::new(172, 17, 0, 2),
            env: vec!["PATH=/bin".to_owned(), "A=b=c".to_owned(), "BARE".to_owned()],
            ports: vec!["80/tcp".parse().unwrap(), "90/udp".parse().unwrap()],
        };
        assert_eq!(
            linked.variables("web"),
            [
                "MY_DB_PORT=tcp://172.17.0.2:80",
                "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
                "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_PROTO=tcp",
                "MY_DB_PORT_90_UDP=udp://172.17.0.2:90",
                "MY_DB_PORT_90_UDP_ADDR=172.17.0.2",
                "MY_DB_PORT_90_UDP_PORT=90",
                "MY_DB_PORT_90_UDP_PROTO=udp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_A=b=c",
            ]
        );
    }
}
