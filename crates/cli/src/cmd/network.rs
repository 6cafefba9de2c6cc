//! Commands on networks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::container::each;
use super::prune;
use crate::app::{App, Arity, Command};
use crate::create::environment::pairs;
use crate::create::network::{Attachment, endpoint};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape};
use crate::output::human::short_id;
use crate::output::list::{self, Format, Row, labels};

const LS: &str = "
    f filter filter Show what meets a condition (\"driver=bridge\")
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-trunc bool Show everything in full
    q quiet bool Show ids only";
const CREATE: &str = "
    - attachable bool Let containers attach by hand
    - aux-address map Addresses that the driver keeps for itself
    - config-from string Network to copy the configuration from
    - config-only bool Create a configuration, not a network
    d driver string=bridge Driver of the network
    - gateway strings Gateway of the subnet
    - ingress bool Create the swarm's routing mesh
    - internal bool Keep the network apart from the outside
    - ip-range strings Part of the subnet to take addresses from
    - ipam-driver string=default Driver of the addresses
    - ipam-opt map Options of that driver
    - ipv4 bool=true Use IPv4
    - ipv6 bool Use IPv6
    - label list Set a label
    o opt map Set an option of the driver
    - scope string Scope of the network
    - subnet strings Subnet, in CIDR form";
const CONNECT: &str = "
    - alias strings Name of the container on this network
    - driver-opt strings Options of the driver
    - gw-priority int The network with the highest is the default gateway
    - ip string IPv4 address
    - ip6 string IPv6 address
    - link list/link Add a link to another container
    - link-local-ip strings Link-local addresses";
const DISCONNECT: &str = "
    f force bool Disconnect by force";
const RM: &str = "
    f force bool A network that does not exist is no error";

const fn command(
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: "", group: "network", names, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(
        &["connect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        CONNECT,
        Arity::Exactly(2),
        connect,
    ),
    command(&["create"], "[OPTIONS] NETWORK", "Create a network", CREATE, Arity::Exactly(1), create),
    command(
        &["disconnect"],
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        DISCONNECT,
        Arity::Exactly(2),
        disconnect,
    ),
    command(&["ls", "list"], "[OPTIONS]", "List networks", LS, Arity::None, ls),
    command(&["prune"], "[OPTIONS]", "Remove all unused networks", prune::FLAGS, Arity::None, prune::networks),
    command(&["rm", "remove"], "NETWORK [NETWORK...]", "Remove one or more networks", RM, Arity::AtLeast(1), rm),
];

/// One network of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Created")]
    created: String,
    #[serde(rename = "Driver")]
    driver: String,
    #[serde(rename = "Scope")]
    scope: String,
    #[serde(rename = "EnableIPv4")]
    ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    ipv6: bool,
    #[serde(rename = "Internal")]
    internal: bool,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    truncate: bool,
}

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";

fn ls(app: &App, flags: &Parsed) -> Result<u8> {
    let mut all: Vec<Summary> = app.client()?.get(Query::new().filters(flags.all("filter")).on("/networks"))?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.iter_mut().for_each(|n| n.truncate = !flags.on("no-trunc"));
    let format = match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.ID}}".to_owned()),
        given => Format::read(given, app.config.str("networksFormat"), TABLE).with_raw(RAW, flags.on("quiet")),
    };
    list::write(all, &format)?;
    Ok(0)
}

impl Row for Summary {
    const TYPE: &'static str = "*network.networkContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ];

    fn field(&self, name: &str) -> String {
        match name {
            "ID" if self.truncate => short_id(&self.id).to_owned(),
            "ID" => self.id.clone(),
            "Name" => self.name.clone(),
            "Driver" => self.driver.clone(),
            "Scope" => self.scope.clone(),
            "IPv4" => self.ipv4.to_string(),
            "IPv6" => self.ipv6.to_string(),
            "Internal" => self.internal.to_string(),
            "Labels" => labels(self.labels.as_ref()),
            "CreatedAt" => self.created.replace('T', " ").replace('Z', " +0000 UTC"),
            _ => String::new(),
        }
    }

    fn label(&self, name: &str) -> Option<String> {
        Some(self.labels.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default())
    }
}

fn create(app: &App, flags: &Parsed) -> Result<u8> {
    let mut body = json!({
        "Name": flags.args[0], "Driver": flags.get("driver").unwrap_or("bridge"), "Scope": flags.str("scope"),
        "IPAM": {
            "Driver": flags.get("ipam-driver").unwrap_or("default"),
            "Options": pairs(flags.all("ipam-opt")), "Config": pools(flags)?,
        },
        "Internal": flags.on("internal"), "Attachable": flags.on("attachable"), "Ingress": flags.on("ingress"),
        "ConfigOnly": flags.on("config-only"), "ConfigFrom": null, "Options": pairs(flags.all("opt")),
        "Labels": pairs(flags.all("label")),
    });
    for (flag, field) in [("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")] {
        if let Some(on) = flags.switch(flag) {
            body[field] = on.into();
        }
    }
    if let Some(from) = flags.get("config-from").filter(|f| !f.is_empty()) {
        body["ConfigFrom"] = json!({"Network": from});
    }
    let made: Value = app.client()?.call(Request::new("POST", "/networks/create").json(&body))?;
    if let Some(warning) = made["Warning"].as_str().filter(|w| !w.is_empty()) {
        eprintln!("WARNING: {warning}");
    }
    println!("{}", made["Id"].as_str().unwrap_or_default());
    Ok(0)
}

/// Subnets with the ranges, gateways and reserved addresses that lie in them.
fn pools(flags: &Parsed) -> Result<Vec<Value>> {
    let subnets = flags.split("subnet");
    let many = |flag: &str| flags.split(flag).len() > subnets.len();
    if many("gateway") || many("ip-range") {
        return Err(CliError::new("every ip-range or gateway must have a corresponding subnet"));
    }
    for (at, subnet) in subnets.iter().enumerate() {
        let others = subnets.iter().enumerate().filter(|(other, _)| *other != at);
        for (_, other) in others {
            if pool_of(std::slice::from_ref(other), subnet).is_some() {
                return Err(CliError::new("multiple overlapping subnet configuration is not supported"));
            }
        }
    }
    let mut pools: Vec<Map<String, Value>> = Vec::new();
    for subnet in &subnets {
        pools.push(Map::from_iter([("Subnet".to_owned(), subnet.clone().into())]));
    }
    for (flag, field) in [("ip-range", "IPRange"), ("gateway", "Gateway")] {
        for value in flags.split(flag) {
            let at = pool_of(&subnets, &value).ok_or_else(|| {
                CliError::new(if flag == "gateway" {
                    format!("no matching subnet for gateway {value}")
                } else {
                    format!("no matching subnet for range {value}")
                })
            })?;
            if pools[at].insert(field.to_owned(), value.into()).is_some() {
                return Err(CliError::new(format!("cannot configure multiple {flag}s on the same subnet")));
            }
        }
    }
    for pair in flags.all("aux-address") {
        let (name, address) = pair.split_once('=').unwrap_or((pair, ""));
        let at = pool_of(&subnets, address)
            .ok_or_else(|| CliError::new(format!("no matching subnet for aux-address {address}")))?;
        if let Value::Object(map) = pools[at].entry("AuxiliaryAddresses").or_insert_with(|| json!({})) {
            map.insert(name.to_owned(), address.into());
        }
    }
    Ok(pools.into_iter().map(Value::Object).collect())
}

fn pool_of(subnets: &[String], address: &str) -> Option<usize> {
    let address: std::net::IpAddr = address.split('/').next()?.parse().ok()?;
    subnets.iter().position(|subnet| contains(subnet, address).unwrap_or(false))
}

fn contains(subnet: &str, address: std::net::IpAddr) -> Option<bool> {
    use std::net::IpAddr::{V4, V6};
    let (network, bits) = subnet.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    Some(match (network.parse().ok()?, address) {
        (V4(a), V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(32),
        (V6(a), V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(128),
        _ => false,
    })
}

fn connect(app: &App, flags: &Parsed) -> Result<u8> {
    let attachment = Attachment {
        aliases: flags.split("alias"),
        links: flags.all("link").to_vec(),
        ipv4: flags.str("ip").to_owned(),
        ipv6: flags.str("ip6").to_owned(),
        link_local: flags.split("link-local-ip"),
        driver_options: pairs(&flags.split("driver-opt")),
        gateway_priority: flags.int("gw-priority").unwrap_or(0),
        ..Attachment::default()
    };
    let body = json!({"Container": flags.args[1], "EndpointConfig": endpoint(attachment)});
    let path = format!("/networks/{}/connect", escape(&flags.args[0]));
    app.client()?.done(Request::new("POST", path).json(&body))?;
    Ok(0)
}

fn disconnect(app: &App, flags: &Parsed) -> Result<u8> {
    let body = json!({"Container": flags.args[1], "Force": flags.on("force")});
    let path = format!("/networks/{}/disconnect", escape(&flags.args[0]));
    app.client()?.done(Request::new("POST", path).json(&body))?;
    Ok(0)
}

fn rm(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let outcome = each(&flags.args, |name| match client.delete(format!("/networks/{}", escape(name))) {
        Err(error) if flags.on("force") && error.is_not_found() => Ok(Some(String::new())),
        other => other.map(|_| None),
    });
    // Docker's client ends this one with a line of its own.
    outcome.map_err(|error| match error {
        CliError::Message(text) => CliError::new(format!("{text}\nexit status 1")),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_subnet() {
        let subnets = ["10.0.0.0/8".to_owned(), "fd00::/64".to_owned()];
        assert_eq!(pool_of(&subnets, "10.1.2.3"), Some(0));
        assert_eq!(pool_of(&subnets, "10.1.0.0/16"), Some(0));
        assert_eq!(pool_of(&subnets, "fd00::1"), Some(1));
        assert_eq!(pool_of(&subnets, "11.0.0.1"), None);
        assert_eq!(pool_of(&subnets, "x"), None);
    }
}
