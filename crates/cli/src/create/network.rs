//! `--network` in both of its forms, and the options that describe the first network's endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::values::{csv, parse_int};

/// The container's networks.
#[derive(Debug)]
pub(crate) struct Networking {
    /// `HostConfig.NetworkMode`.
    pub(crate) mode: String,
    pub(crate) endpoints: Map<String, Value>,
}

/// One network with what was said about the container's place on it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) target: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) driver_options: Map<String, Value>,
    pub(crate) links: Vec<String>,
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
    pub(crate) link_local: Vec<String>,
    pub(crate) mac: String,
    pub(crate) gateway_priority: i64,
}

/// Reads one `--network`: a name, or `name=…,alias=…,ip=…`.
pub(crate) fn parse(given: &str) -> std::result::Result<Attachment, String> {
    if !given.contains('=') {
        return Ok(Attachment { target: given.to_owned(), ..Attachment::default() });
    }
    let mut net = Attachment::default();
    for field in csv(given) {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut net.target),
            "alias" => net.aliases.push(value.to_owned()),
            "driver-opt" => {
                let (name, value) = value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                net.driver_options.insert(name.trim().to_lowercase(), value.trim().into());
            }
            "ip" => {
                value.parse::<Ipv4Addr>().map_err(|_| format!("invalid ipv4 address: {value}"))?;
                value.clone_into(&mut net.ipv4);
            }
            "ip6" => {
                value.parse::<Ipv6Addr>().map_err(|_| format!("invalid ipv6 address: {value}"))?;
                value.clone_into(&mut net.ipv6);
            }
            "link-local-ip" => net.link_local.push(value.to_owned()),
            "mac-address" => {
                check_mac(value)?;
                value.clone_into(&mut net.mac);
            }
            "gw-priority" => net.gateway_priority = parse_int(value)?,
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if net.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(net)
}

fn check_mac(text: &str) -> std::result::Result<(), String> {
    let bytes: Vec<&str> = text.split([':', '-']).collect();
    let valid = bytes.len() == 6 && bytes.iter().all(|b| b.len() == 2 && b.bytes().all(|c| c.is_ascii_hexdigit()));
    if valid { Ok(()) } else { Err(format!("{text} is not a valid mac address")) }
}

/// Reads every option about networks.
pub(crate) fn read(flags: &Parsed) -> Result<Networking> {
    if let Some(mac) = flags.get("mac-address").filter(|m| !m.is_empty()) {
        check_mac(mac).map_err(CliError::Message)?;
    }
    let mut networks = Vec::new();
    for given in flags.all("network") {
        networks.push(parse(given).map_err(CliError::Message)?);
    }
    if networks.is_empty() {
        networks.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let single = networks.len() == 1;
    apply(&mut networks[0], flags)?;
    let mode = networks[0].target.clone();
    let mut endpoints = Map::new();
    for net in networks {
        let target = net.target.clone();
        let shared = target == "host" || target.starts_with("container:");
        if !single && shared {
            return Err(CliError::new(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if shared {
            continue;
        }
        if endpoints.insert(target.clone(), endpoint(net)).is_some() {
            return Err(CliError::new(format!("network {target:?} is specified multiple times")));
        }
    }
    Ok(Networking { mode, endpoints })
}

/// The older options speak of the first network.
fn apply(net: &mut Attachment, flags: &Parsed) -> Result<()> {
    let user_defined =
        !matches!(net.target.as_str(), "default" | "bridge" | "host" | "none") && !net.target.starts_with("container:");
    let aliases = flags.all("network-alias");
    if !aliases.is_empty() && !user_defined {
        return Err(CliError::new("network-scoped aliases are only supported for user-defined networks"));
    }
    let conflict = |option: &str| {
        Err(CliError::new(format!("conflicting options: cannot specify both --{option} and per-network {option}")))
    };
    if !aliases.is_empty() {
        if !net.aliases.is_empty() {
            return Err(CliError::new(
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ));
        }
        net.aliases = aliases.to_vec();
    }
    if user_defined {
        net.links = flags.all("link").to_vec();
    }
    for (flag, slot) in [("ip", &mut net.ipv4), ("ip6", &mut net.ipv6), ("mac-address", &mut net.mac)] {
        let Some(value) = flags.get(flag).filter(|v| !v.is_empty()) else { continue };
        if !slot.is_empty() {
            return conflict(flag);
        }
        if flag != "mac-address" && value.parse::<IpAddr>().is_err() {
            return Err(CliError::new(format!("invalid {flag} address: {value}")));
        }
        value.clone_into(slot);
    }
    if flags.given("link-local-ip") {
        if !net.link_local.is_empty() {
            return conflict("link-local-ip");
        }
        net.link_local = flags.all("link-local-ip").to_vec();
    }
    Ok(())
}

/// An endpoint's settings, with every field that Docker's client sends.
pub(crate) fn endpoint(net: Attachment) -> Value {
    let list = |l: Vec<String>| if l.is_empty() { Value::Null } else { l.into() };
    let mut ipam = Map::new();
    for (name, value) in [("IPv4Address", net.ipv4), ("IPv6Address", net.ipv6)] {
        if !value.is_empty() {
            ipam.insert(name.to_owned(), value.into());
        }
    }
    if !net.link_local.is_empty() {
        ipam.insert("LinkLocalIPs".to_owned(), net.link_local.into());
    }
    json!({
        "IPAMConfig": if ipam.is_empty() { Value::Null } else { ipam.into() },
        "Links": list(net.links),
        "Aliases": list(net.aliases),
        "MacAddress": net.mac,
        "DriverOpts": if net.driver_options.is_empty() { Value::Null } else { net.driver_options.into() },
        "GwPriority": net.gateway_priority,
        "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null,
    })
}
