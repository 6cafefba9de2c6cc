//! What a container asks of networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use droste_model::network::EndpointRequest;

use crate::error::{RequestError, Result};
use crate::wire::EndpointSettings;

/// Endpoint requests by network.
pub(super) fn endpoints(wire: BTreeMap<String, Option<EndpointSettings>>) -> Result<BTreeMap<String, EndpointRequest>> {
    wire.into_iter().map(|(network, settings)| endpoint(&network, settings).map(|request| (network, request))).collect()
}

fn network_error(network: &str, reason: impl std::fmt::Display) -> RequestError {
    RequestError::invalid(format!("invalid config for network {network}: {reason}"))
}

fn endpoint(network: &str, settings: Option<EndpointSettings>) -> Result<EndpointRequest> {
    let settings = settings.ok_or_else(|| network_error(network, "EndpointsConfig is nil"))?;
    if !settings.mac_address.is_empty() && !is_mac(&settings.mac_address) {
        return Err(network_error(network, format!("invalid MAC address {}", settings.mac_address)));
    }
    let ipam = settings.ipam_config.unwrap_or_default();
    let address = |text: &str, family: &str, fits: fn(&IpAddr) -> bool| {
        let wrong = || network_error(network, format!("invalid endpoint settings:\ninvalid {family} address: {text}"));
        match text {
            "" => Ok(None),
            text => text.parse().ok().filter(fits).map(Some).ok_or_else(wrong),
        }
    };
    let link_local = ipam.link_local_ips.iter().map(|text| {
        let wrong =
            || network_error(network, format!("invalid endpoint settings:\ninvalid link-local IP address: {text}"));
        text.parse().map_err(|_| wrong())
    });
    Ok(EndpointRequest {
        aliases: settings.aliases.unwrap_or_default(),
        links: settings.links.unwrap_or_default(),
        ipv4: address(&ipam.ipv4_address, "IPv4", IpAddr::is_ipv4)?,
        ipv6: address(&ipam.ipv6_address, "IPv6", IpAddr::is_ipv6)?,
        link_local: link_local.collect::<Result<_>>()?,
        mac: settings.mac_address,
        driver_opts: settings.driver_opts.unwrap_or_default(),
        gateway_priority: settings.gw_priority,
    })
}

/// Whether a text is six bytes in hexadecimal with `:` or `-` between them.
fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(if text.contains('-') { '-' } else { ':' }).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_network() {
        let read = |json: &str| {
            let wire = crate::decode::decode(json.as_bytes()).unwrap();
            endpoints(BTreeMap::from([("bridge".to_owned(), wire)])).unwrap_err().message
        };
        assert_eq!(read(r#"{"MacAddress":"zz"}"#), "invalid config for network bridge: invalid MAC address zz");
        assert!(read(r#"{"IPAMConfig":{"IPv4Address":"x"}}"#).ends_with("invalid IPv4 address: x"));
        assert!(read(r#"{"IPAMConfig":{"IPv4Address":"::1"}}"#).ends_with("invalid IPv4 address: ::1"));
        assert_eq!(read("null"), "invalid config for network bridge: EndpointsConfig is nil");
    }
}
