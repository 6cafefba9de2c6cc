//! `info`, `version`, `system/df` and the tree of hosts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use droste_api::human;
use droste_api::version::{CURRENT, OLDEST};
use droste_api::wire::{
    DiskUsage, FirewallInfo, IndexInfo, Info, PluginsInfo, RegistryConfig, RuntimeInfo, SwarmInfo, TreeNode, Version,
    VersionComponent, VersionPlatform,
};
use droste_engine::view::ContainerView;
use droste_model::port::PublishedPort;
use droste_model::time::Timestamp;

use super::{container, image, signed, volume};

/// A published port as `ps` shows it: `0.0.0.0:8080->80/tcp`.
fn published(port: &PublishedPort) -> String {
    format!("{}->{}", SocketAddr::new(port.host_ip, port.host_port), port.container)
}

/// The version that clients compare with Docker's: whose behaviour this is, and what it is.
pub(crate) const SERVER_VERSION: &str = concat!("28.5.2+droste.", env!("CARGO_PKG_VERSION"));

/// When this program was built, if those who built it said so.
const BUILD_TIME: &str = match option_env!("DROSTE_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};

/// Go's word for this processor.
fn architecture() -> String {
    droste_model::platform::Platform::host().architecture
}

/// `GET /version`.
pub(crate) fn version(kernel: &str) -> Version {
    let detail = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let details = BTreeMap::from([
        detail("ApiVersion", &CURRENT.to_string()),
        detail("Arch", &architecture()),
        detail("BuildTime", BUILD_TIME),
        detail("Experimental", "false"),
        detail("GitCommit", ""),
        detail("KernelVersion", kernel),
        detail("MinAPIVersion", &OLDEST.to_string()),
        detail("Os", "linux"),
    ]);
    let engine = VersionComponent { name: "Engine".to_owned(), version: SERVER_VERSION.to_owned(), details };
    Version {
        platform: VersionPlatform { name: concat!("Droste ", env!("CARGO_PKG_VERSION")).to_owned() },
        components: vec![engine],
        version: SERVER_VERSION.to_owned(),
        api_version: CURRENT.to_string(),
        min_api_version: OLDEST.to_string(),
        git_commit: String::new(),
        go_version: String::new(),
        os: "linux".to_owned(),
        arch: architecture(),
        kernel_version: kernel.to_owned(),
        build_time: BUILD_TIME.to_owned(),
    }
}

/// `GET /info`.
pub(crate) fn info(view: droste_engine::Info) -> Info {
    let (running, paused, stopped) = view.containers;
    let limits = view.limits;
    let status = [
        ("Backing Filesystem", view.backing_filesystem.as_str()),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ];
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let runtimes = view.runtimes.into_iter().map(|(name, path)| (name, RuntimeInfo { path })).collect();
    Info {
        id: view.id,
        containers: signed(running + paused + stopped),
        containers_running: signed(running),
        containers_paused: signed(paused),
        containers_stopped: signed(stopped),
        images: signed(view.images),
        driver: "overlay2".to_owned(),
        driver_status: status.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        plugins: PluginsInfo {
            volume: words(&["local"]),
            network: words(&["bridge", "host", "ipvlan", "macvlan", "null"]),
            authorization: None,
            log: words(&["json-file", "local", "none"]),
        },
        memory_limit: limits.memory,
        swap_limit: limits.swap,
        kernel_memory_tcp: limits.kernel_memory_tcp,
        cpu_cfs_period: limits.cpu_cfs,
        cpu_cfs_quota: limits.cpu_cfs,
        cpu_shares: limits.cpu_shares,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        ipv4_forwarding: view.ip_forwarding,
        debug: view.debug,
        oom_kill_disable: limits.oom_kill_disable,
        system_time: Timestamp::now().to_string(),
        logging_driver: view.log_driver,
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: view.cgroup_version.to_string(),
        n_events_listener: signed(view.event_listeners),
        kernel_version: view.kernel,
        operating_system: view.operating_system,
        os_version: view.os_version,
        os_type: "linux".to_owned(),
        architecture: view.architecture,
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: registry_config(view.mirrors, &view.insecure_registries),
        ncpu: signed(view.cpus),
        mem_total: signed(view.memory),
        docker_root_dir: view.root_dir,
        http_proxy: view.proxies.http,
        https_proxy: view.proxies.https,
        no_proxy: view.proxies.no,
        name: view.name,
        labels: view.labels,
        server_version: SERVER_VERSION.to_owned(),
        runtimes,
        default_runtime: view.default_runtime,
        swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
        live_restore_enabled: true,
        init_binary: "droste".to_owned(),
        security_options: view.security_options,
        firewall_backend: FirewallInfo { driver: "nftables".to_owned() },
        warnings: Some(view.warnings).filter(|warnings| !warnings.is_empty()),
        ..Info::default()
    }
}

fn registry_config(mirrors: Vec<String>, insecure: &[String]) -> RegistryConfig {
    let index = |name: &str, official, secure, mirrors: &[String]| {
        (name.to_owned(), IndexInfo { mirrors: mirrors.to_vec(), name: name.to_owned(), official, secure })
    };
    let (cidrs, names): (Vec<_>, Vec<_>) = insecure.iter().partition(|text| text.contains('/'));
    let named = names.iter().map(|name| index(name, false, false, &[]));
    let mut insecure_registry_cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    insecure_registry_cidrs.extend(cidrs.into_iter().cloned());
    RegistryConfig {
        index_configs: named.chain([index("docker.io", true, true, &mirrors)]).collect(),
        insecure_registry_cidrs,
        mirrors: Some(mirrors).filter(|mirrors| !mirrors.is_empty()),
    }
}

/// `GET /system/df`.
pub(crate) fn disk_usage(usage: &droste_engine::DiskUsage, now: Timestamp) -> DiskUsage {
    let container = |(view, written, whole): &(Arc<ContainerView>, u64, u64)| {
        container::summary(view, Some((*written, *whole)), now)
    };
    DiskUsage {
        layers_size: signed(usage.layers),
        images: Some(usage.images.iter().map(image::summary).collect()),
        containers: Some(usage.containers.iter().map(container).collect()),
        volumes: Some(usage.volumes.iter().map(volume::with_usage).collect()),
        build_cache: Some(Vec::new()),
    }
}

/// `GET /droste/tree`.
pub(crate) fn tree(node: &droste_engine::TreeNode, now: Timestamp) -> TreeNode {
    let view = node.container.as_ref();
    TreeNode {
        id: view.map(|view| view.id.to_string()).unwrap_or_default(),
        name: node.name.clone(),
        image: view.map(|view| view.config.image.clone()).unwrap_or_default(),
        state: view.map_or("running", |view| view.state.word()).to_owned(),
        status: view.map(|view| human::status(&view.state, view.health.as_ref(), now)).unwrap_or_default(),
        host: view.is_none_or(|view| view.is_host),
        ports: view.map(|view| view.ports.iter().map(published).collect()).unwrap_or_default(),
        cpu_nanos: node.usage.map(|(cpu, _)| cpu),
        memory_bytes: node.usage.map(|(_, memory)| memory),
        children: node.children.iter().map(|child| tree(child, now)).collect(),
    }
}
