//! Containers in lists and by themselves.

use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;

use droste_api::wire::{
    ContainerConfig, ContainerInspect, ContainerState, ContainerSummary, EndpointSettings, GraphDriver, Health,
    HealthProbe, HealthSummary, HostConfigSummary, MountPoint, NetworkSettings, NetworkSettingsSummary, PortBinding,
    PortSummary, ZERO_TIME,
};
use droste_api::{echo, human};
use droste_engine::view::{ContainerView, EndpointView, MountKind, MountView, OverlayView};
use droste_model::state::{Running, State};
use droste_model::time::Timestamp;

use super::signed;

/// An entry of a list; `sizes` are the bytes written and the bytes of the whole root.
pub(crate) fn summary(view: &ContainerView, sizes: Option<(u64, u64)>, now: Timestamp) -> ContainerSummary {
    let (size_rw, size_root_fs) = sizes.unwrap_or_default();
    ContainerSummary {
        id: view.id.to_string(),
        names: iter::once(view.name.as_str()).chain(view.linked_as.iter().map(String::as_str)).map(slashed).collect(),
        image: view.config.image.clone(),
        image_id: view.image_id.clone(),
        image_manifest_descriptor: None,
        command: command(view),
        created: view.created.as_secs(),
        ports: port_summaries(view),
        size_rw: signed(size_rw),
        size_root_fs: signed(size_root_fs),
        labels: view.config.labels.clone(),
        state: view.state.word().to_owned(),
        status: human::status(&view.state, view.health.as_ref(), now),
        host_config: HostConfigSummary {
            network_mode: view.host.network_mode.to_string(),
            annotations: Some(view.host.annotations.clone()).filter(|map| !map.is_empty()),
        },
        health: Some(HealthSummary {
            status: view.health.as_ref().map_or("none", |health| health.status.as_str()).to_owned(),
            failing_streak: view.health.as_ref().map_or(0, |health| health.failing_streak.into()),
        }),
        network_settings: NetworkSettingsSummary { networks: endpoints(view) },
        mounts: view.mounts.iter().map(mount_point).collect(),
        host: None,
    }
}

fn slashed(name: &str) -> String {
    format!("/{name}")
}

/// The program and its arguments in one line, quoted as Docker quotes them.
fn command(view: &ContainerView) -> String {
    let quote = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    iter::once(view.path.clone()).chain(view.args.iter().map(quote)).collect::<Vec<_>>().join(" ")
}

fn is_running(view: &ContainerView) -> bool {
    view.state.running().is_some()
}

fn port_summaries(view: &ContainerView) -> Vec<PortSummary> {
    let published = view.ports.iter().map(|port| PortSummary {
        ip: port.host_ip.to_string(),
        private_port: port.container.port,
        public_port: port.host_port,
        kind: port.container.protocol.as_str().to_owned(),
    });
    let is_published = |exposed| view.ports.iter().any(|port| port.container == exposed);
    let exposed = view.config.exposed_ports.iter().filter(|port| is_running(view) && !is_published(**port));
    let exposed = exposed.map(|port| PortSummary {
        ip: String::new(),
        private_port: port.port,
        public_port: 0,
        kind: port.protocol.as_str().to_owned(),
    });
    let mut ports: Vec<_> = published.chain(exposed).collect();
    ports.sort_by(|a, b| (a.private_port, &a.kind, &a.ip).cmp(&(b.private_port, &b.kind, &b.ip)));
    ports
}

fn mount_point(mount: &MountView) -> MountPoint {
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
    };
    MountPoint {
        kind: kind.to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.writable,
        propagation: mount.propagation.clone(),
    }
}

fn endpoints(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    view.networks.iter().map(|(name, endpoint)| (name.clone(), self::endpoint(endpoint))).collect()
}

fn endpoint(view: &EndpointView) -> EndpointSettings {
    let asked = echo::endpoint(&view.request);
    EndpointSettings {
        mac_address: if view.mac.is_empty() { asked.mac_address.clone() } else { view.mac.clone() },
        network_id: view.network_id.clone(),
        endpoint_id: view.endpoint_id.clone(),
        gateway: view.gateway4.map(|ip| ip.to_string()).unwrap_or_default(),
        ip_address: view.v4.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
        ip_prefix_len: view.v4.map_or(0, |(_, prefix)| prefix.into()),
        ipv6_gateway: view.gateway6.map(|ip| ip.to_string()).unwrap_or_default(),
        global_ipv6_address: view.v6.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
        global_ipv6_prefix_len: view.v6.map_or(0, |(_, prefix)| prefix.into()),
        dns_names: Some(view.dns_names.clone()).filter(|names| !names.is_empty()),
        ..asked
    }
}

/// A container by itself; `sizes` are the bytes written and the bytes of the whole root.
pub(crate) fn inspect(view: &ContainerView, sizes: Option<(u64, u64)>) -> ContainerInspect {
    let exec_ids: Vec<String> = view.exec_ids.iter().map(ToString::to_string).collect();
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created.to_string(),
        path: view.path.clone(),
        args: view.args.clone(),
        state: state(view),
        image: view.image_id.clone(),
        resolv_conf_path: view.files.resolv_conf.clone(),
        hostname_path: view.files.hostname.clone(),
        hosts_path: view.files.hosts.clone(),
        log_path: view.files.log.clone(),
        name: format!("/{}", view.name),
        restart_count: view.restart_count.into(),
        driver: "overlay2".to_owned(),
        platform: view.os.clone(),
        image_manifest_descriptor: None,
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: view.apparmor_profile.clone(),
        exec_ids: Some(exec_ids).filter(|ids| !ids.is_empty()),
        host_config: echo::host_config(&view.host),
        graph_driver: graph_driver(view.id.as_str(), view.overlay.as_ref()),
        size_rw: sizes.map(|(written, _)| signed(written)),
        size_root_fs: sizes.map(|(_, whole)| signed(whole)),
        mounts: view.mounts.iter().map(mount_point).collect(),
        config: ContainerConfig { mac_address: asked_mac(view), ..echo::config(&view.config) },
        network_settings: network_settings(view),
    }
}

/// The MAC address that was asked for on the container's first network.
fn asked_mac(view: &ContainerView) -> String {
    let first = view.host.network_mode.network().and_then(|name| view.networks.get(name));
    first.map(|endpoint| echo::endpoint(&endpoint.request).mac_address).unwrap_or_default()
}

fn state(view: &ContainerView) -> ContainerState {
    let exit = view.state.exit();
    let restarting = matches!(view.state, State::Restarting { .. });
    let time = |at: Option<Timestamp>| at.map_or_else(|| ZERO_TIME.to_owned(), |at| at.to_string());
    let started_at = match &view.state {
        State::Running(Running { started_at, .. })
        | State::Restarting { started_at, .. }
        | State::Exited { started_at, .. } => Some(*started_at),
        State::Created { .. } | State::Removing | State::Dead => None,
    };
    ContainerState {
        status: view.state.word().to_owned(),
        running: view.state.running().is_some() || restarting,
        paused: view.state.running().is_some_and(|running| running.paused),
        restarting,
        oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        dead: view.state == State::Dead,
        pid: if restarting { 0 } else { view.pid },
        exit_code: exit.map_or(0, |exit| exit.code.into()),
        error: exit.map(|exit| exit.error.clone()).unwrap_or_default(),
        started_at: time(started_at),
        finished_at: time(view.last_finished.filter(|_| started_at.is_some())),
        health: view.health.as_ref().map(health),
    }
}

fn health(health: &droste_model::state::Health) -> Health {
    let probe = |probe: &droste_model::state::HealthProbe| HealthProbe {
        start: probe.start.to_string(),
        end: probe.end.to_string(),
        exit_code: probe.exit_code.into(),
        output: probe.output.clone(),
    };
    let log: Vec<_> = health.log.iter().map(probe).collect();
    Health {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak.into(),
        log: Some(log).filter(|log| !log.is_empty()),
    }
}

fn graph_driver(id: &str, overlay: Option<&OverlayView>) -> GraphDriver {
    let data = overlay.map(|overlay| {
        let lower: Vec<String> = overlay.lower.iter().map(|path| path.display().to_string()).collect();
        BTreeMap::from([
            ("ID".to_owned(), id.to_owned()),
            ("LowerDir".to_owned(), lower.join(":")),
            ("MergedDir".to_owned(), overlay.merged.display().to_string()),
            ("UpperDir".to_owned(), overlay.upper.display().to_string()),
            ("WorkDir".to_owned(), overlay.work.display().to_string()),
        ])
    });
    GraphDriver { data, name: "overlay2".to_owned() }
}

/// What the container has on its networks. The fields beside `Networks` repeat those of the default bridge.
fn network_settings(view: &ContainerView) -> NetworkSettings {
    let networks = endpoints(view);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: view.sandbox_id.clone(),
        sandbox_key: view.sandbox_key.clone(),
        ports: ports(view),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        mac_address: if is_running(view) { bridge.mac_address } else { String::new() },
        ipv6_gateway: bridge.ipv6_gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        networks,
        ..NetworkSettings::default()
    }
}

/// Published ports, and those that could be: a container without a way out has neither.
fn ports(view: &ContainerView) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let has_way_out = view.networks.values().any(|on| on.gateway4.is_some() || on.gateway6.is_some());
    if !is_running(view) || !has_way_out {
        return BTreeMap::new();
    }
    let mut ports: BTreeMap<String, Option<Vec<PortBinding>>> =
        view.config.exposed_ports.iter().map(|port| (port.to_string(), None)).collect();
    for port in &view.ports {
        let binding = PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() };
        ports.entry(port.container.to_string()).or_default().get_or_insert_default().push(binding);
    }
    for bindings in ports.values_mut().flatten() {
        bindings.sort_by_key(|binding| (binding.host_ip.parse::<IpAddr>().ok(), binding.host_port.clone()));
    }
    ports
}
