//! Exposed ports and port bindings.

use std::collections::{BTreeMap, BTreeSet};

use droste_model::port::{ContainerPort, PortBinding, PortBindings, Protocol};

use crate::error::{RequestError, Result};
use crate::wire;

/// How many ports one range may name.
const MOST_PORTS: usize = 65_536;

/// Exposed ports; what is no port is left out, as Docker does, and ranges are spread.
pub(super) fn exposed<'a>(keys: impl Iterator<Item = &'a String>) -> BTreeSet<ContainerPort> {
    keys.filter_map(|key| spread(key)).flatten().take(MOST_PORTS).collect()
}

fn spread(key: &str) -> Option<impl Iterator<Item = ContainerPort>> {
    let (ports, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let protocol = format!("1/{protocol}").parse::<ContainerPort>().ok()?.protocol;
    let (first, last) = range(ports)?;
    Some((first..=last).map(move |port| ContainerPort { port, protocol }))
}

/// `FIRST[-LAST]` with `FIRST` not above `LAST`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (digits(first)?, digits(last)?);
    (first <= last).then_some((first, last))
}

/// Go's parser takes no sign, Rust's takes `+`.
fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn invalid(text: &str) -> RequestError {
    RequestError::invalid(format!("invalid port specification: {text:?}"))
}

/// Port bindings by the container's port.
pub(super) fn bindings(wire: BTreeMap<String, Option<Vec<wire::PortBinding>>>) -> Result<PortBindings> {
    let mut all = BTreeMap::new();
    for (key, bindings) in wire {
        let (number, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let port = digits(number).ok_or_else(|| invalid(number))?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid(&key)),
        };
        let bindings = bindings.map(|list| list.into_iter().map(binding).collect::<Result<Vec<_>>>()).transpose()?;
        all.insert(ContainerPort { port, protocol }, bindings);
    }
    Ok(all)
}

fn binding(wire: wire::PortBinding) -> Result<PortBinding> {
    let host_ip = match wire.host_ip.as_str() {
        "" => None,
        text => {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            Some(bare.parse().map_err(|_| RequestError::invalid(format!("invalid IP address: {text}")))?)
        }
    };
    let host_ports = match wire.host_port.as_str() {
        "" => None,
        text => Some(range(text).ok_or_else(|| invalid(text))?),
    };
    Ok(PortBinding { host_ip, host_ports })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports_are_spread_and_nonsense_is_left_out() {
        let keys = ["80/tcp", "53/udp", "90", "100-102/sctp", "x", "/tcp", "9-8", "1/foo", "+1"].map(str::to_owned);
        let ports: Vec<String> = exposed(keys.iter()).iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "90/tcp", "100/sctp", "101/sctp", "102/sctp"]);
    }

    #[test]
    fn bindings_are_checked() {
        let read = |key: &str, port: &str| {
            let binding = wire::PortBinding { host_ip: String::new(), host_port: port.to_owned() };
            bindings(BTreeMap::from([(key.to_owned(), Some(vec![binding]))])).map_err(|error| error.message)
        };
        assert_eq!(read("x/tcp", ""), Err("invalid port specification: \"x\"".to_owned()));
        assert_eq!(read("80-81/tcp", ""), Err("invalid port specification: \"80-81\"".to_owned()));
        assert_eq!(read("80", "70000"), Err("invalid port specification: \"70000\"".to_owned()));
        assert_eq!(read("80", "-1"), Err("invalid port specification: \"-1\"".to_owned()));
        let port = read("80", "8000-8010").unwrap();
        assert_eq!(port.values().next().unwrap().as_ref().unwrap()[0].host_ports, Some((8000, 8010)));
    }
}
