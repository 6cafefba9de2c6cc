//! Networks.

use droste_api::wire::{EndpointResource, Ipam, IpamConfig, NetworkInspect};
use droste_engine::NetworkView;
use droste_engine::view::NetworkMember;

/// A network, in lists without its containers.
pub(crate) fn network(view: &NetworkView, with_containers: bool) -> NetworkInspect {
    let config: Vec<IpamConfig> = view
        .subnets
        .iter()
        .map(|(subnet, gateway)| IpamConfig {
            subnet: subnet.clone(),
            ip_range: String::new(),
            gateway: gateway.map(|ip| ip.to_string()).unwrap_or_default(),
        })
        .collect();
    let members = view.containers.iter().filter(|_| with_containers);
    NetworkInspect {
        name: view.name.clone(),
        id: view.id.to_string(),
        created: view.created.to_string(),
        scope: "local".to_owned(),
        driver: view.driver.clone(),
        enable_ipv4: true,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: Some(config).filter(|config| !config.is_empty()),
        },
        containers: members.map(|member| (member.id.to_string(), endpoint(member))).collect(),
        options: view.options.clone(),
        ..NetworkInspect::default()
    }
}

fn endpoint(member: &NetworkMember) -> EndpointResource {
    EndpointResource {
        name: member.name.to_string(),
        endpoint_id: member.endpoint_id.clone(),
        mac_address: member.mac.clone(),
        ipv4_address: member.address.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default(),
        ipv6_address: String::new(),
    }
}
