//! `--publish` and `--expose`: single ports and ranges, with and without an address and a protocol.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::values::csv;

/// The ports of a container.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// `80/tcp`, sorted.
    pub(crate) exposed: Vec<String>,
    pub(crate) bindings: Map<String, Value>,
}

/// Reads both options.
pub(crate) fn read(flags: &Parsed) -> Result<Ports> {
    let mut ports = Ports::default();
    for given in flags.all("publish") {
        let short = if given.contains('=') { long_syntax(given)? } else { given.clone() };
        publish(&short, &mut ports)?;
    }
    for given in flags.all("expose") {
        expose(given, &mut ports)?;
    }
    ports.exposed.sort();
    ports.exposed.dedup();
    Ok(ports)
}

/// `published=8080,target=80,protocol=udp` in the short form.
fn long_syntax(given: &str) -> Result<String> {
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv(given) {
        let (name, value) = field.split_once('=').unwrap_or((&field, ""));
        match name.to_lowercase().as_str() {
            "target" => value.clone_into(&mut target),
            "published" => value.clone_into(&mut published),
            "protocol" => value.clone_into(&mut protocol),
            "mode" => {}
            _ => return Err(CliError::new(format!("invalid field key {name}"))),
        }
    }
    if target.is_empty() {
        return Err(CliError::new(format!("missing mandatory field \"target\" in {given}")));
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn publish(given: &str, ports: &mut Ports) -> Result<()> {
    let (rest, protocol) = given.split_once('/').unwrap_or((given, "tcp"));
    let (address, host, container) = parts(rest);
    if container.is_empty() {
        return Err(CliError::new(format!("no port specified: {given}<empty>")));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(CliError::new(format!("Invalid ip address: {address}")));
    }
    let (start, end) = range(container).ok_or_else(|| CliError::new(format!("invalid containerPort: {container}")))?;
    let host_range = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| CliError::new(format!("invalid hostPort: {host}")))?),
    };
    if let Some((from, to)) = host_range
        && to - from != end - start
        && start != end
    {
        return Err(CliError::new(format!(
            "Invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(CliError::new(format!("Invalid proto: {protocol}")));
    }
    for port in start..=end {
        let host_port = match host_range {
            None => String::new(),
            Some((from, to)) if start == end && from != to => format!("{from}-{to}"),
            Some((from, _)) => (from + (port - start)).to_string(),
        };
        let name = format!("{port}/{protocol}");
        let binding = json!({"HostIp": address, "HostPort": host_port});
        match ports.bindings.entry(name.clone()).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
        ports.exposed.push(name);
    }
    Ok(())
}

/// Address, host port and container port; the address may hold colons.
fn parts(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
    (from <= to).then_some((u32::from(from), u32::from(to)))
}

fn expose(given: &str, ports: &mut Ports) -> Result<()> {
    if given.contains(':') {
        return Err(CliError::new(format!("invalid port format for --expose: {given}")));
    }
    let (numbers, protocol) = given.split_once('/').unwrap_or((given, "tcp"));
    let (from, to) = range(numbers).ok_or_else(|| {
        CliError::new(format!(
            "invalid range format for --expose: {given}, error: strconv.ParseUint: parsing {numbers:?}: invalid syntax"
        ))
    })?;
    ports.exposed.extend((from..=to).map(|port| format!("{port}/{protocol}")));
    Ok(())
}
