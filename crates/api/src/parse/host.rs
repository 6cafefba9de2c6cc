//! `HostConfig`: how a container is tied to its host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use droste_model::container::{HostConfig, LogConfig, NamespaceMode, Resources, RestartPolicy};
use droste_model::network::NetworkMode;

use super::{binds, limits, mounts, ports};
use crate::decode::{Tree, from_tree, tree};
use crate::error::{RequestError, Result};
use crate::wire;

/// Reads `HostConfig`; oddities are added to `warnings`.
pub(super) fn host_config(mut wire: wire::HostConfig, warnings: &mut Vec<String>) -> Result<HostConfig> {
    let network_mode = network_mode(&wire.network_mode)?;
    let uts_mode = own_or_host(&wire.uts_mode, "UTS")?;
    let pid_mode = pid_mode(&wire.pid_mode)?;
    let ipc_mode = ipc_mode(&wire.ipc_mode)?;
    let cgroupns_mode = cgroupns_mode(&wire.cgroupns_mode)?;
    check(&wire)?;
    let restart_policy = restart_policy(&wire.restart_policy)?;
    if wire.auto_remove && !matches!(restart_policy, RestartPolicy::Unset | RestartPolicy::No) {
        return Err(RequestError::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    let resources = limits::resources(&mut wire, warnings)?;
    let tmpfs = wire.tmpfs.take();
    mounts::tmpfs(tmpfs.as_ref().unwrap_or(&BTreeMap::new()))?;
    let binds = wire.binds.take().map(|list| list.iter().map(|raw| binds::bind(raw)).collect()).transpose()?;
    let mounts = wire.mounts.take().map(|list| list.into_iter().map(mounts::mount).collect()).transpose()?;
    let port_bindings = wire.port_bindings.take().map(ports::bindings).transpose()?;
    let log = log(wire.log_config)?;
    let all = [&binds, &mounts].into_iter().flatten().flat_map(|list: &Vec<_>| list);
    mounts::distinct(all, tmpfs.as_ref().unwrap_or(&BTreeMap::new()))?;
    Ok(HostConfig {
        resources,
        binds,
        mounts,
        tmpfs,
        volumes_from: wire.volumes_from,
        volume_driver: wire.volume_driver,
        container_id_file: wire.container_id_file,
        log,
        network_mode,
        port_bindings,
        publish_all_ports: wire.publish_all_ports,
        restart_policy,
        auto_remove: wire.auto_remove,
        console_size: (wire.console_size.0, wire.console_size.1),
        annotations: wire.annotations.unwrap_or_default(),
        cap_add: wire.cap_add.map(|words| words.0),
        cap_drop: wire.cap_drop.map(|words| words.0),
        cgroupns_mode,
        dns: wire.dns,
        dns_options: wire.dns_options,
        dns_search: wire.dns_search,
        extra_hosts: wire.extra_hosts,
        group_add: wire.group_add,
        ipc_mode,
        cgroup: wire.cgroup,
        links: wire.links,
        oom_score_adj: wire.oom_score_adj,
        pid_mode,
        privileged: wire.privileged,
        readonly_rootfs: wire.readonly_rootfs,
        security_opt: wire.security_opt,
        storage_opt: wire.storage_opt.unwrap_or_default(),
        uts_mode,
        userns_mode: wire.userns_mode,
        shm_size: wire.shm_size,
        sysctls: wire.sysctls.unwrap_or_default(),
        runtime: wire.runtime,
        isolation: wire.isolation,
        masked_paths: wire.masked_paths,
        readonly_paths: wire.readonly_paths,
        init: wire.init,
    })
}

/// Reads `POST /containers/{id}/update`: limits and the restart policy.
pub fn update(body: &[u8]) -> Result<(Resources, Option<RestartPolicy>)> {
    let tree = if body.is_empty() { Tree::Object(Vec::new()) } else { tree(body)? };
    let wire::UpdateExtras { restart_policy: policy } = from_tree(tree.clone())?;
    let mut host: wire::HostConfig = from_tree(tree)?;
    let resources = limits::resources(&mut host, &mut Vec::new())?;
    let policy = policy.as_ref().filter(|policy| !policy.name.is_empty()).map(restart_policy).transpose()?;
    Ok((resources, policy))
}

/// Reads a network mode.
pub fn network_mode(text: &str) -> Result<NetworkMode> {
    match NetworkMode::parse(text) {
        NetworkMode::Container(name) if name.is_empty() => {
            Err(RequestError::invalid("invalid network mode: invalid container format container:<name|id>"))
        }
        mode => Ok(mode),
    }
}

fn own_or_host(text: &str, what: &str) -> Result<NamespaceMode> {
    match text {
        "" => Ok(NamespaceMode::Default),
        "host" => Ok(NamespaceMode::Host),
        other => Err(RequestError::invalid(format!("invalid {what} mode: {other}"))),
    }
}

fn pid_mode(text: &str) -> Result<NamespaceMode> {
    match text.strip_prefix("container:") {
        Some(name) if !name.is_empty() => Ok(NamespaceMode::Container(name.to_owned())),
        _ => own_or_host(text, "PID"),
    }
}

fn ipc_mode(text: &str) -> Result<NamespaceMode> {
    match text {
        "none" => Ok(NamespaceMode::None),
        "private" => Ok(NamespaceMode::Private),
        "shareable" => Ok(NamespaceMode::Shareable),
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() => Ok(NamespaceMode::Container(name.to_owned())),
            _ => own_or_host(other, "IPC"),
        },
    }
}

fn cgroupns_mode(text: &str) -> Result<NamespaceMode> {
    match text {
        "" => Ok(NamespaceMode::Default),
        "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        other => Err(RequestError::invalid(format!("invalid cgroup namespace mode: {other}"))),
    }
}

/// Reads a restart policy.
pub fn restart_policy(wire: &wire::RestartPolicy) -> Result<RestartPolicy> {
    let count = wire.maximum_retry_count;
    let invalid = |reason: String| Err(RequestError::invalid(format!("invalid restart policy: {reason}")));
    let policy = match wire.name.as_str() {
        "" => RestartPolicy::Unset,
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" if count < 0 => return invalid("maximum retry count cannot be negative".to_owned()),
        "on-failure" => return Ok(RestartPolicy::OnFailure { most: u32::try_from(count).unwrap_or(u32::MAX) }),
        other => {
            return invalid(format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if count != 0 {
        let negative = if count < 0 { " and cannot be negative" } else { "" };
        return invalid(format!("maximum retry count can only be used with 'on-failure'{negative}"));
    }
    Ok(policy)
}

fn check(wire: &wire::HostConfig) -> Result<()> {
    if !matches!(wire.isolation.as_str(), "" | "default") {
        let isolation = &wire.isolation;
        return Err(RequestError::invalid(format!("invalid isolation ({isolation}): linux only supports 'default'")));
    }
    if wire.shm_size < 0 {
        return Err(RequestError::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&wire.oom_score_adj) {
        let value = wire.oom_score_adj;
        return Err(RequestError::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]")));
    }
    if wire.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return Err(RequestError::invalid(text));
    }
    if let Some(wrong) = wire.dns.iter().flatten().find(|address| !is_address(address)) {
        return Err(RequestError::invalid(format!("bad nameserver address {wrong}: it is no IP address")));
    }
    wire.extra_hosts.iter().flatten().try_for_each(|entry| extra_host(entry))?;
    wire.volumes_from.iter().flatten().try_for_each(|spec| volumes_from(spec))?;
    wire.links.iter().flatten().try_for_each(|link| self::link(link))
}

/// An IP address, perhaps with the zone that a link-local one needs.
fn is_address(text: &str) -> bool {
    text.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

fn extra_host(entry: &str) -> Result<()> {
    let (name, address) = entry
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| RequestError::invalid(format!("bad format for add-host: {entry:?}")))?;
    debug_assert!(!name.is_empty());
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(RequestError::invalid(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok(())
}

fn volumes_from(spec: &str) -> Result<()> {
    let (name, mode) = spec.split_once(':').unwrap_or((spec, ""));
    if name.is_empty() {
        return Err(RequestError::invalid("volumes-from specification cannot be an empty string"));
    }
    match binds::Mode::parse(mode).filter(binds::Mode::suits_volumes_from) {
        Some(_) => Ok(()),
        None => Err(RequestError::invalid(format!("invalid mode: {mode}"))),
    }
}

fn link(link: &str) -> Result<()> {
    let parts: Vec<&str> = link.split(':').collect();
    match parts[..] {
        [""] => Err(RequestError::server("empty string specified for links")),
        [_] | [_, _] => Ok(()),
        _ => Err(RequestError::server(format!("bad format for links: {link}"))),
    }
}

fn log(wire: wire::LogConfig) -> Result<LogConfig> {
    const ROTATION: [&str; 3] = ["max-size", "max-file", "compress"];
    const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
    const COMMON: [&str; 3] = ["mode", "max-buffer-size", "cache-disabled"];
    let options = wire.config.unwrap_or_default();
    let known = |name: &str| match wire.kind.as_str() {
        "json-file" => ROTATION.contains(&name) || ATTRIBUTES.contains(&name) || COMMON.contains(&name),
        "local" => ROTATION.contains(&name) || COMMON.contains(&name),
        _ => true,
    };
    let unknown = options.keys().find(|name| !known(name));
    match (wire.kind.as_str(), unknown) {
        ("" | "none" | "json-file" | "local", None) => Ok(LogConfig { driver: wire.kind, options }),
        ("json-file", Some(name)) => {
            Err(RequestError::invalid(format!("unknown log opt '{name}' for json-file log driver")))
        }
        ("local", Some(name)) => Err(RequestError::invalid(format!("unknown log opt '{name}' for log driver local"))),
        (driver, _) => {
            Err(RequestError::invalid(format!("error looking up logging plugin {driver}: plugin {driver:?} not found")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    fn fails(json: &str) -> String {
        host_config(decode(json.as_bytes()).unwrap(), &mut Vec::new()).unwrap_err().message
    }

    #[test]
    fn errors_are_dockers() {
        let policy = "invalid restart policy: ";
        for (json, message) in [
            (r#"{"Dns":["::1","x"]}"#, "bad nameserver address x: it is no IP address".to_owned()),
            (
                r#"{"RestartPolicy":{"Name":"weird"}}"#,
                format!("{policy}unknown policy 'weird'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
            ),
            (
                r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":2}}"#,
                format!("{policy}maximum retry count can only be used with 'on-failure'"),
            ),
            (
                r#"{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-2}}"#,
                format!("{policy}maximum retry count cannot be negative"),
            ),
        ] {
            assert_eq!(fails(json), message);
        }
        for (json, message) in [
            (
                r#"{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (r#"{"NetworkMode":"container:"}"#, "invalid network mode: invalid container format container:<name|id>"),
            (r#"{"UTSMode":"foo"}"#, "invalid UTS mode: foo"),
            (r#"{"PidMode":"container:"}"#, "invalid PID mode: container:"),
            (r#"{"IpcMode":"foo"}"#, "invalid IPC mode: foo"),
            (r#"{"CgroupnsMode":"foo"}"#, "invalid cgroup namespace mode: foo"),
            (r#"{"ExtraHosts":["a"]}"#, "bad format for add-host: \"a\""),
            (r#"{"ExtraHosts":["a:x"]}"#, "invalid IP address in add-host: \"x\""),
            (r#"{"Links":["a:b:c"]}"#, "bad format for links: a:b:c"),
            (r#"{"VolumesFrom":[""]}"#, "volumes-from specification cannot be an empty string"),
            (r#"{"Isolation":"hyperv"}"#, "invalid isolation (hyperv): linux only supports 'default'"),
            (r#"{"ShmSize":-1}"#, "SHM size can not be less than 0"),
            (r#"{"OomScoreAdj":2000}"#, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
            (r#"{"LogConfig":{"Type":"nope"}}"#, "error looking up logging plugin nope: plugin \"nope\" not found"),
            (
                r#"{"LogConfig":{"Type":"json-file","Config":{"foo":"1"}}}"#,
                "unknown log opt 'foo' for json-file log driver",
            ),
            (r#"{"Tmpfs":{"x":""}}"#, "invalid mount path: 'x' mount path must be absolute"),
            (r#"{"Binds":["/tmp:/b","/var:/b"]}"#, "Duplicate mount point: /b"),
            (r#"{"Binds":["/tmp:/b"],"Tmpfs":{"/b":""}}"#, "Duplicate mount point: /b"),
            (r#"{"Binds":["/tmp:/b"],"Mounts":[{"Type":"tmpfs","Target":"/b/"}]}"#, "Duplicate mount point: /b"),
        ] {
            assert_eq!(fails(json), message, "{json}");
        }
    }

    #[test]
    fn updates_keep_apart_what_was_not_given() {
        let (resources, policy) = update(br#"{"Memory":67108864,"RestartPolicy":{"Name":"always"}}"#).unwrap();
        assert_eq!((resources.memory, policy), (67_108_864, Some(RestartPolicy::Always)));
        assert_eq!(update(b"").unwrap(), (Resources::default(), None));
        assert_eq!(update(br#"{"RestartPolicy":{"Name":""}}"#).unwrap().1, None);
    }
}
