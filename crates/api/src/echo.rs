//! Back from the model to the shapes that inspect shows.

use std::collections::BTreeMap;

use droste_model::container::{Config, DeviceLimit, Healthcheck, HostConfig, RestartPolicy};
use droste_model::mount::{Mount, MountSource, Propagation};
use droste_model::network::EndpointRequest;
use droste_model::port::{PortBinding, PortBindings};

use crate::wire::{self, Empty, Words};

fn some_unless_empty<K, V>(map: &BTreeMap<K, V>) -> Option<BTreeMap<K, V>>
where
    K: Clone + Ord,
    V: Clone,
{
    (!map.is_empty()).then(|| map.clone())
}

/// Each of a list that was given.
fn each<T, W>(list: &Option<Vec<T>>, shape: impl Fn(&T) -> W) -> Option<Vec<W>> {
    list.as_ref().map(|list| list.iter().map(shape).collect())
}

/// `Config` as inspect shows it.
pub fn config(config: &Config) -> wire::ContainerConfig {
    let words = |words: &Option<Vec<String>>| words.clone().map(Words);
    let ports: BTreeMap<String, Empty> = config.exposed_ports.iter().map(|port| (port.to_string(), Empty {})).collect();
    let volumes: BTreeMap<String, Empty> = config.volumes.iter().map(|path| (path.to_string(), Empty {})).collect();
    wire::ContainerConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: Some(ports).filter(|ports| !ports.is_empty()),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: Some(config.env.clone()).filter(|env| !env.is_empty()),
        cmd: words(&config.cmd),
        healthcheck: config.healthcheck.as_ref().map(healthcheck),
        args_escaped: config.args_escaped,
        image: config.image.clone(),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        working_dir: config.working_dir.clone(),
        entrypoint: words(&config.entrypoint),
        network_disabled: config.network_disabled,
        mac_address: config.mac_address.clone(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: words(&config.shell).filter(|shell| !shell.0.is_empty()),
    }
}

/// A health check.
pub fn healthcheck(check: &Healthcheck) -> wire::HealthConfig {
    wire::HealthConfig {
        test: Some(check.test.clone()).filter(|test| !test.is_empty()),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

/// `HostConfig` as inspect shows it.
pub fn host_config(host: &HostConfig) -> wire::HostConfig {
    let limits = &host.resources;
    wire::HostConfig {
        binds: host.binds.as_ref().map(|binds| binds.iter().filter_map(|mount| mount.typed.clone()).collect()),
        container_id_file: host.container_id_file.clone(),
        log_config: wire::LogConfig { kind: host.log.driver.clone(), config: Some(host.log.options.clone()) },
        network_mode: host.network_mode.to_string(),
        port_bindings: host.port_bindings.as_ref().map(port_bindings),
        restart_policy: restart_policy(host.restart_policy),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: host.volumes_from.clone(),
        console_size: wire::ConsoleSize(host.console_size.0, host.console_size.1),
        annotations: some_unless_empty(&host.annotations),
        cap_add: host.cap_add.clone().map(Words),
        cap_drop: host.cap_drop.clone().map(Words),
        cgroupns_mode: host.cgroupns_mode.text(),
        dns: host.dns.clone(),
        dns_options: host.dns_options.clone(),
        dns_search: host.dns_search.clone(),
        extra_hosts: host.extra_hosts.clone(),
        group_add: host.group_add.clone(),
        ipc_mode: host.ipc_mode.text(),
        cgroup: host.cgroup.clone(),
        links: host.links.clone().filter(|links| !links.is_empty()),
        oom_score_adj: host.oom_score_adj,
        pid_mode: host.pid_mode.text(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt.clone(),
        storage_opt: some_unless_empty(&host.storage_opt),
        tmpfs: host.tmpfs.clone().filter(|mounts| !mounts.is_empty()),
        uts_mode: host.uts_mode.text(),
        userns_mode: host.userns_mode.clone(),
        shm_size: host.shm_size,
        sysctls: some_unless_empty(&host.sysctls),
        runtime: host.runtime.clone(),
        isolation: host.isolation.clone(),
        cpu_shares: limits.cpu_shares,
        memory: limits.memory,
        nano_cpus: limits.nano_cpus,
        cgroup_parent: limits.cgroup_parent.clone(),
        blkio_weight: limits.blkio_weight,
        blkio_weight_device: each(&limits.blkio_weight_device, weight),
        blkio_device_read_bps: each(&limits.blkio_read_bps, rate),
        blkio_device_write_bps: each(&limits.blkio_write_bps, rate),
        blkio_device_read_iops: each(&limits.blkio_read_iops, rate),
        blkio_device_write_iops: each(&limits.blkio_write_iops, rate),
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_realtime_period: limits.cpu_realtime_period,
        cpu_realtime_runtime: limits.cpu_realtime_runtime,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        devices: each(&limits.devices, device),
        device_cgroup_rules: limits.device_cgroup_rules.clone(),
        device_requests: each(&limits.device_requests, device_request),
        kernel_memory: 0,
        kernel_memory_tcp: 0,
        memory_reservation: limits.memory_reservation,
        memory_swap: limits.memory_swap,
        memory_swappiness: limits.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: Some(limits.oom_kill_disable.unwrap_or(false)),
        pids_limit: limits.pids_limit,
        ulimits: each(&limits.ulimits, ulimit),
        cpu_count: 0,
        cpu_percent: 0,
        io_maximum_iops: 0,
        io_maximum_bandwidth: 0,
        mounts: host.mounts.as_ref().filter(|mounts| !mounts.is_empty()).map(|list| list.iter().map(mount).collect()),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        init: host.init,
    }
}

fn port_bindings(bindings: &PortBindings) -> BTreeMap<String, Option<Vec<wire::PortBinding>>> {
    let binding = |binding: &PortBinding| wire::PortBinding {
        host_ip: binding.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        host_port: match binding.host_ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        },
    };
    bindings.iter().map(|(port, list)| (port.to_string(), each(list, binding))).collect()
}

fn restart_policy(policy: RestartPolicy) -> wire::RestartPolicy {
    let (name, most) = match policy {
        RestartPolicy::Unset => ("no", 0),
        RestartPolicy::OnFailure { most } => (policy.name(), most),
        other => (other.name(), 0),
    };
    wire::RestartPolicy { name: name.to_owned(), maximum_retry_count: most.into() }
}

fn weight(limit: &DeviceLimit) -> wire::WeightDevice {
    wire::WeightDevice { path: limit.path.clone(), weight: u16::try_from(limit.value).unwrap_or(u16::MAX) }
}

fn rate(limit: &DeviceLimit) -> wire::ThrottleDevice {
    wire::ThrottleDevice { path: limit.path.clone(), rate: limit.value }
}

fn device(device: &droste_model::container::DeviceMapping) -> wire::DeviceMapping {
    wire::DeviceMapping {
        path_on_host: device.on_host.clone(),
        path_in_container: device.in_container.clone(),
        cgroup_permissions: device.permissions.clone(),
    }
}

fn device_request(request: &droste_model::container::DeviceRequest) -> wire::DeviceRequest {
    wire::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: request.device_ids.clone(),
        capabilities: request.capabilities.clone(),
        options: request.options.clone(),
    }
}

fn ulimit(limit: &droste_model::container::Ulimit) -> wire::Ulimit {
    wire::Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft }
}

/// One of `HostConfig.Mounts`.
pub fn mount(mount: &Mount) -> wire::Mount {
    let base = wire::Mount { target: mount.target.to_string(), read_only: mount.read_only, ..Default::default() };
    match &mount.source {
        MountSource::Bind { source, create, non_recursive } => {
            let options = wire::BindOptions {
                propagation: propagation(mount.propagation),
                non_recursive: *non_recursive,
                create_mountpoint: *create,
                read_only_non_recursive: mount.read_only_non_recursive,
                read_only_force_recursive: mount.read_only_force_recursive,
            };
            let options = Some(options).filter(|options| *options != wire::BindOptions::default());
            wire::Mount { kind: "bind".to_owned(), source: source.to_string(), bind_options: options, ..base }
        }
        MountSource::Volume { name, no_copy, subpath, driver, driver_opts, labels } => {
            let config = wire::VolumeDriverConfig { name: driver.clone(), options: some_unless_empty(driver_opts) };
            let options = wire::VolumeOptions {
                no_copy: *no_copy,
                labels: some_unless_empty(labels),
                subpath: subpath.clone().unwrap_or_default(),
                driver_config: Some(config).filter(|config| *config != wire::VolumeDriverConfig::default()),
            };
            let options = Some(options).filter(|options| *options != wire::VolumeOptions::default());
            let source = name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
            wire::Mount { kind: "volume".to_owned(), source, volume_options: options, ..base }
        }
        MountSource::Tmpfs { size, mode, options } => {
            let split = |option: &String| option.splitn(2, '=').map(str::to_owned).collect();
            let options = wire::TmpfsOptions {
                size_bytes: size.and_then(|size| i64::try_from(size).ok()).unwrap_or(0),
                mode: mode.unwrap_or(0),
                options: Some(options.iter().map(split).collect::<Vec<_>>()).filter(|list| !list.is_empty()),
            };
            let options = Some(options).filter(|options| *options != wire::TmpfsOptions::default());
            wire::Mount { kind: "tmpfs".to_owned(), tmpfs_options: options, ..base }
        }
        MountSource::Image { reference, subpath } => {
            let options = subpath.clone().map(|subpath| wire::ImageOptions { subpath });
            let source = reference.clone();
            wire::Mount { kind: "image".to_owned(), source, image_options: options, read_only: false, ..base }
        }
    }
}

fn propagation(propagation: Propagation) -> String {
    if propagation == Propagation::default() { String::new() } else { propagation.as_str().to_owned() }
}

/// What was asked of an endpoint, in the shape that inspect completes with what it got.
pub fn endpoint(request: &EndpointRequest) -> wire::EndpointSettings {
    let ipam = wire::EndpointIpamConfig {
        ipv4_address: request.ipv4.map(|ip| ip.to_string()).unwrap_or_default(),
        ipv6_address: request.ipv6.map(|ip| ip.to_string()).unwrap_or_default(),
        link_local_ips: request.link_local.iter().map(ToString::to_string).collect(),
    };
    wire::EndpointSettings {
        ipam_config: request.has_ipam.then_some(ipam),
        links: request.links.clone(),
        aliases: request.aliases.clone(),
        mac_address: request.mac.clone(),
        driver_opts: request.driver_opts.clone(),
        gw_priority: request.gateway_priority,
        ..Default::default()
    }
}
