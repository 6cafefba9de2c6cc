//! Networks.

use droste_api::wire::{ConfigReference, EndpointResource, Ipam, IpamConfig, NetworkInspect};
use droste_engine::NetworkView;
use droste_engine::view::{NetworkMember, SubnetView};

/// A network, in lists without its containers.
pub(crate) fn network(view: &NetworkView, with_containers: bool) -> NetworkInspect {
    let config: Vec<IpamConfig> = view.subnets.iter().map(subnet).collect();
    let members = view.containers.iter().filter(|_| with_containers);
    NetworkInspect {
        name: view.name.clone(),
        id: view.id.to_string(),
        created: view.created.to_string(),
        scope: view.scope.clone(),
        driver: view.driver.clone(),
        enable_ipv4: view.ipv4,
        enable_ipv6: view.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: view.ipam_options.clone(),
            config: Some(config).filter(|config| !config.is_empty()),
        },
        internal: view.internal,
        attachable: view.attachable,
        ingress: false,
        config_from: ConfigReference { network: view.config_from.clone() },
        config_only: view.config_only,
        containers: members.map(|member| (member.id.to_string(), endpoint(member))).collect(),
        options: view.options.clone(),
        labels: view.labels.clone(),
    }
}

fn subnet(view: &SubnetView) -> IpamConfig {
    IpamConfig {
        subnet: view.subnet.clone(),
        ip_range: view.range.clone().unwrap_or_default(),
        gateway: view.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
        auxiliary_addresses: view.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
    }
}

fn endpoint(member: &NetworkMember) -> EndpointResource {
    EndpointResource {
        name: member.name.clone(),
        endpoint_id: member.endpoint_id.clone(),
        mac_address: member.mac.clone(),
        ipv4_address: member.v4.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default(),
        ipv6_address: member.v6.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default(),
    }
}
