//! Networks: what their creation asks for, and what a container asks of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use droste_model::network::{CreateNetwork, EndpointRequest, IpamRequest, SubnetRequest, Unreadable};
use ipnet::IpNet;

use crate::ApiVersion;
use crate::decode::decode_or_default;
use crate::error::{RequestError, Result};
use crate::wire::{EndpointSettings, Ipam, IpamConfig, NetworkConnect, NetworkCreate};

/// The option with kernel parameters of an endpoint's interface.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Reads `POST /networks/create`.
pub fn network(body: &[u8], version: ApiVersion) -> Result<CreateNetwork> {
    let mut wire: NetworkCreate = decode_or_default(body)?;
    if version.below(48) {
        // 1.48: "POST /networks/create now accepts EnableIPv4".
        wire.enable_ipv4 = None;
    }
    let options = wire.options.unwrap_or_default();
    Ok(CreateNetwork {
        name: wire.name,
        driver: wire.driver,
        scope: wire.scope,
        internal: wire.internal,
        attachable: wire.attachable,
        ingress: wire.ingress,
        config_only: wire.config_only,
        config_from: wire.config_from.unwrap_or_default().network,
        ipv4: wire.enable_ipv4.or(switch(&options, "com.docker.network.enable_ipv4")?),
        ipv6: wire.enable_ipv6.or(switch(&options, "com.docker.network.enable_ipv6")?),
        ipam: ipam(wire.ipam.unwrap_or_default())?,
        options,
        labels: wire.labels.unwrap_or_default(),
    })
}

/// A switch that the client's options or the daemon's defaults may set.
fn switch(options: &BTreeMap<String, String>, name: &str) -> Result<Option<bool>> {
    let wrong = |text: &str| {
        RequestError::invalid(format!(
            "driver-opt {name:?} is not a valid bool: strconv.ParseBool: parsing {text:?}: invalid syntax"
        ))
    };
    options.get(name).map(|text| go_bool(text).ok_or_else(|| wrong(text))).transpose()
}

/// What Go's `ParseBool` takes.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn ipam(wire: Ipam) -> Result<IpamRequest> {
    let mut wrong = Vec::new();
    let configs = wire.config.unwrap_or_default();
    let subnets: Vec<SubnetRequest> = configs.iter().filter_map(|config| subnet(config, &mut wrong)).collect();
    if !wrong.is_empty() {
        return Err(RequestError::invalid(format!("invalid network config:\n{}", joined(&wrong))));
    }
    Ok(IpamRequest { driver: wire.driver, options: wire.options, subnets })
}

/// Several complaints as Go's `errors.Join` of Docker's writes them: one alone, more as a list.
pub(super) fn joined(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        more => more.iter().map(|error| format!("* {error}")).collect::<Vec<_>>().join("\n"),
    }
}

/// One subnet; what is wrong with it goes to `wrong`.
fn subnet(config: &IpamConfig, wrong: &mut Vec<String>) -> Option<SubnetRequest> {
    let Ok(subnet) = config.subnet.parse::<IpNet>() else {
        wrong.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
        return None;
    };
    if subnet.trunc() != subnet {
        wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    let range = range(&config.ip_range, subnet, wrong);
    let mut address = |what: String, text: &str| match address(text, subnet) {
        Ok(address) => Some(address),
        Err(reason) => {
            wrong.push(format!("{what}: {reason}"));
            None
        }
    };
    let gateway = match config.gateway.as_str() {
        "" => None,
        text => address(format!("invalid gateway {text}"), text),
    };
    let auxiliary = config.auxiliary_addresses.iter();
    let auxiliary = auxiliary
        .filter_map(|(name, text)| Some((name.clone(), address(format!("invalid auxiliary address {name}"), text)?)));
    Some(SubnetRequest { auxiliary: auxiliary.collect(), subnet, range, gateway })
}

fn range(text: &str, subnet: IpNet, wrong: &mut Vec<String>) -> Option<IpNet> {
    if text.is_empty() {
        return None;
    }
    let Ok(range) = text.parse::<IpNet>() else {
        wrong.push(format!("invalid ip-range {text}: invalid CIDR block notation"));
        return None;
    };
    if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
        wrong.push(format!("invalid ip-range {range}: parent subnet is an {} block", family(subnet)));
        return None;
    }
    if range.prefix_len() < subnet.prefix_len() {
        wrong.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range.trunc() != range {
        wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.addr()) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
    Some(range)
}

fn address(text: &str, subnet: IpNet) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if address.is_ipv4() != subnet.addr().is_ipv4() {
        return Err(format!("parent subnet is an {} block", family(subnet)));
    }
    if !subnet.contains(&address) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(address)
}

fn family(subnet: IpNet) -> &'static str {
    if subnet.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Reads `POST /networks/{id}/connect`: the container, and what it asks.
pub fn connect(body: &[u8], version: ApiVersion) -> Result<(String, EndpointRequest)> {
    let wire: NetworkConnect = decode_or_default(body)?;
    named(&wire.container)?;
    let Some(mut settings) = wire.endpoint_config else { return Ok((wire.container, EndpointRequest::default())) };
    if version.below(48) {
        // 1.48: "GwPriority".
        settings.gw_priority = 0;
    }
    let request = endpoint(settings).map_err(RequestError::invalid)?;
    Ok((wire.container, request))
}

/// Reads `POST /networks/{id}/disconnect`: the container, and whether it is forced.
pub fn disconnect(body: &[u8]) -> Result<(String, bool)> {
    let wire: NetworkConnect = decode_or_default(body)?;
    named(&wire.container)?;
    Ok((wire.container, wire.force))
}

fn named(container: &str) -> Result<()> {
    if container.is_empty() {
        return Err(RequestError::invalid("invalid name or ID supplied: \"\""));
    }
    Ok(())
}

/// Endpoint requests by network.
pub(super) fn endpoints(wire: BTreeMap<String, Option<EndpointSettings>>) -> Result<BTreeMap<String, EndpointRequest>> {
    let read = |(network, settings): (String, Option<EndpointSettings>)| {
        let request = settings.ok_or_else(|| "EndpointsConfig is nil".to_owned()).and_then(endpoint);
        match request {
            Ok(request) => Ok((network, request)),
            Err(reason) => Err(RequestError::invalid(format!("invalid config for network {network}: {reason}"))),
        }
    };
    wire.into_iter().map(read).collect()
}

fn endpoint(settings: EndpointSettings) -> Result<EndpointRequest, String> {
    if !settings.mac_address.is_empty() && !is_mac(&settings.mac_address) {
        return Err(format!("invalid MAC address {}", settings.mac_address));
    }
    let has_ipam = settings.ipam_config.is_some();
    let ipam = settings.ipam_config.unwrap_or_default();
    let (ipv4, no_ipv4) = address_of(&ipam.ipv4_address, IpAddr::is_ipv4);
    let (ipv6, no_ipv6) = address_of(&ipam.ipv6_address, IpAddr::is_ipv6);
    let texts = ipam.link_local_ips.iter().map(|text| address_of(text, |_| true));
    let (link_local, no_link_local): (Vec<_>, Vec<_>) = texts.unzip();
    let sysctls = settings.driver_opts.iter().flatten().filter(|(name, _)| *name == SYSCTLS);
    let wrong: Vec<String> = sysctls.flat_map(|(_, value)| value.split(',')).filter_map(wrong_sysctl).collect();
    if !wrong.is_empty() {
        return Err(format!("invalid endpoint settings:\n{}", joined(&wrong)));
    }
    Ok(EndpointRequest {
        aliases: settings.aliases,
        links: settings.links,
        has_ipam,
        ipv4,
        ipv6,
        link_local: link_local.into_iter().flatten().collect(),
        mac: settings.mac_address,
        driver_opts: settings.driver_opts,
        gateway_priority: settings.gw_priority,
        unreadable: Unreadable {
            ipv4: no_ipv4,
            ipv6: no_ipv6,
            link_local: no_link_local.into_iter().flatten().collect(),
        },
    })
}

/// An address, or the text that is none.
fn address_of(text: &str, fits: fn(&IpAddr) -> bool) -> (Option<IpAddr>, Option<String>) {
    match text.parse().ok().filter(fits) {
        _ if text.is_empty() => (None, None),
        Some(address) => (Some(address), None),
        None => (None, Some(text.to_owned())),
    }
}

/// What is wrong with a kernel parameter of an interface, if anything is.
fn wrong_sysctl(text: &str) -> Option<String> {
    let (key, _) = text.split_once('=').unwrap_or((text, ""));
    let parts: Vec<&str> = key.split('.').collect();
    let sound = text.contains('=')
        && matches!(parts.as_slice(), ["net", "ipv4" | "ipv6" | "mpls", kind, "IFNAME", name]
            if [kind, name].iter().all(|part| is_word(part)));
    (!sound).then(|| {
        format!(
            "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must \
             be 'ipv4', 'ipv6' or 'mpls'"
        )
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a text is six bytes in hexadecimal with `:` or `-` between them.
fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(if text.contains('-') { '-' } else { ':' }).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::CURRENT;

    #[test]
    fn errors_name_the_network() {
        let read = |json: &str| {
            let wire = decode_or_default(json.as_bytes()).unwrap();
            endpoints(BTreeMap::from([("bridge".to_owned(), wire)])).unwrap_err().message
        };
        assert_eq!(read(r#"{"MacAddress":"zz"}"#), "invalid config for network bridge: invalid MAC address zz");
        assert_eq!(read("null"), "invalid config for network bridge: EndpointsConfig is nil");
        let sysctl = r#"{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.ip_forward=1"}}"#;
        assert!(read(sysctl).contains("unrecognised network interface sysctl 'net.ipv4.ip_forward=1'"));
    }

    #[test]
    fn what_is_no_address_is_kept_for_the_networks_word() {
        let body = br#"{"Container":"c","EndpointConfig":{"IPAMConfig":{"IPv4Address":"::1","IPv6Address":"fd00::2","LinkLocalIPs":["z"]}}}"#;
        let (container, request) = connect(body, CURRENT).unwrap();
        assert_eq!((container.as_str(), request.ipv4), ("c", None));
        assert_eq!(request.unreadable.ipv4.as_deref(), Some("::1"));
        assert_eq!((request.ipv6, request.unreadable.ipv6), ("fd00::2".parse().ok(), None));
        assert_eq!(request.unreadable.link_local, ["z"]);
        assert_eq!(connect(b"{}", CURRENT).unwrap_err().message, "invalid name or ID supplied: \"\"");
    }

    #[test]
    fn wrong_subnets_are_told_as_docker_does() {
        let read = |config: &str| {
            let body = format!(r#"{{"Name":"n","IPAM":{{"Config":[{config}]}}}}"#);
            network(body.as_bytes(), CURRENT).unwrap_err().message
        };
        for (config, text) in [
            (r#"{"Subnet":"x"}"#, "invalid subnet x: invalid CIDR block notation"),
            (r#"{"Gateway":"10.92.0.1"}"#, "invalid subnet : invalid CIDR block notation"),
            (r#"{"Subnet":"10.91.0.5/16"}"#, "invalid subnet 10.91.0.5/16: it should be 10.91.0.0/16"),
            (
                r#"{"Subnet":"10.92.0.0/16","Gateway":"10.93.0.1"}"#,
                "invalid gateway 10.93.0.1: parent subnet 10.92.0.0/16 doesn't contain this address",
            ),
            (
                r#"{"Subnet":"10.92.0.0/16","Gateway":"fd00::1"}"#,
                "invalid gateway fd00::1: parent subnet is an IPv4 block",
            ),
            (
                r#"{"Subnet":"10.92.0.0/16","IPRange":"10.92.0.0/8"}"#,
                "* invalid ip-range 10.92.0.0/8: CIDR block is bigger than its parent subnet 10.92.0.0/16\n* invalid \
                 ip-range 10.92.0.0/8: it should be 10.0.0.0/8",
            ),
            (
                r#"{"Subnet":"10.92.0.0/16","AuxiliaryAddresses":{"a":"x"}}"#,
                "invalid auxiliary address a: invalid address",
            ),
            (
                r#"{"Subnet":"x","Gateway":"y"},{"Subnet":"q"}"#,
                "* invalid subnet x: invalid CIDR block notation\n* invalid subnet q: invalid CIDR block notation",
            ),
        ] {
            assert_eq!(read(config), format!("invalid network config:\n{text}"), "{config}");
        }
    }
}
