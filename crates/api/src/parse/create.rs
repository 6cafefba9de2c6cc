//! `POST /containers/create`.

use std::collections::BTreeMap;

use droste_model::container::{Config, CreateContainer, Healthcheck, HostConfig};
use droste_model::network::NetworkMode;
use droste_model::path::ContainerPath;
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use droste_model::signal::Signal;

use super::adjust::{self, Body};
use super::{host, networks, ports};
use crate::ApiVersion;
use crate::decode::{Tree, decode_or_default, from_tree, tree};
use crate::error::{RequestError, Result};
use crate::query::Query;
use crate::wire::{self, ContainerConfig, HealthConfig};

/// What a creation asks for, and what is odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What is asked for.
    pub request: CreateContainer,
    /// What is left out or deprecated, for the reply.
    pub warnings: Vec<String>,
}

/// Reads the request.
pub fn create(body: &[u8], query: &Query, version: ApiVersion) -> Result<Parsed> {
    let mut body = read_body(body)?;
    let name = match query.get("name") {
        "" => None,
        text => Some(text.parse().map_err(|error| RequestError::invalid(format!("{error}")))?),
    };
    let platform = platform(query, version)?;
    adjust::adjust(&mut body, version)?;
    let mut warnings = Vec::new();
    move_mac_address(&mut body, version, &mut warnings);
    let Body { config: container, extras } = body;
    let config = config(container)?;
    let mut host = host::host_config(extras.host_config.unwrap_or_default(), &mut warnings)?;
    // Nought and less say at creation what saying nothing says; an update keeps them apart.
    host.resources.pids_limit = host.resources.pids_limit.filter(|limit| *limit > 0);
    conflicts(&config, &host)?;
    if host.network_mode == NetworkMode::Host && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    let endpoints = extras.networking_config.and_then(|networks| networks.endpoints_config).unwrap_or_default();
    let networks = networks::endpoints(endpoints)?;
    Ok(Parsed { request: CreateContainer { name, platform, config, host, networks }, warnings })
}

fn read_body(bytes: &[u8]) -> Result<Body> {
    let tree = tree(bytes)?;
    let extras = from_tree(tree.clone())?;
    let has_image = tree.clone().take("Image").is_some_and(|image| image != Tree::Null);
    let config: ContainerConfig = from_tree(tree)?;
    if !has_image && config == ContainerConfig::default() {
        return Err(RequestError::invalid("config cannot be empty in order to create a container"));
    }
    let has_words = |words: &Option<wire::Words>| words.as_ref().is_some_and(|words| !words.0.is_empty());
    if config.image.is_empty() && !has_words(&config.cmd) && !has_words(&config.entrypoint) {
        return Err(RequestError::invalid("no command specified"));
    }
    image_name(&config.image)?;
    Ok(Body { config, extras })
}

/// Refuses a text that can be neither an image's name nor the beginning of its id.
pub fn image_name(text: &str) -> Result<()> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Ok(());
    }
    text.parse::<Reference>().map(drop).map_err(|error| RequestError::invalid(error.to_string()))
}

/// 1.41: "POST /containers/create now takes a platform".
fn platform(query: &Query, version: ApiVersion) -> Result<Option<Platform>> {
    match query.get("platform") {
        "" => Ok(None),
        _ if version.below(41) => Ok(None),
        text => text.parse().map(Some).map_err(|error| RequestError::invalid(format!("{error}"))),
    }
}

/// Since 1.44 a MAC address belongs to an endpoint; the container-wide one still works, with a warning.
fn move_mac_address(body: &mut Body, version: ApiVersion, warnings: &mut Vec<String>) {
    let mac = std::mem::take(&mut body.config.mac_address);
    if mac.is_empty() {
        return;
    }
    if version.at_least(44) {
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .to_owned(),
        );
    }
    let Some(network) = NetworkMode::parse(&body.host().network_mode).network().map(str::to_owned) else { return };
    let networking = body.extras.networking_config.get_or_insert_default();
    let endpoints = networking.endpoints_config.get_or_insert_default();
    let endpoint = endpoints.entry(network).or_default().get_or_insert_default();
    if endpoint.mac_address.is_empty() {
        endpoint.mac_address = mac;
    }
}

/// Reads `Config`.
pub fn config(wire: ContainerConfig) -> Result<Config> {
    if !wire.working_dir.is_empty() && !wire.working_dir.starts_with('/') {
        return Err(RequestError::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            wire.working_dir
        )));
    }
    if let Some(wrong) = wire.env.iter().flatten().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(RequestError::invalid(format!("invalid environment variable: {wrong}")));
    }
    if !wire.stop_signal.is_empty() {
        wire.stop_signal.parse::<Signal>().map_err(|error| RequestError::invalid(error.to_string()))?;
    }
    let words = |words: Option<wire::Words>| words.map(|words| words.0);
    Ok(Config {
        hostname: wire.hostname,
        domainname: wire.domainname,
        user: wire.user,
        attach_stdin: wire.attach_stdin,
        attach_stdout: wire.attach_stdout,
        attach_stderr: wire.attach_stderr,
        exposed_ports: ports::exposed(wire.exposed_ports.iter().flat_map(BTreeMap::keys)),
        tty: wire.tty,
        open_stdin: wire.open_stdin,
        stdin_once: wire.stdin_once,
        env: wire.env.unwrap_or_default(),
        cmd: words(wire.cmd),
        entrypoint: words(wire.entrypoint),
        healthcheck: wire.healthcheck.map(healthcheck).transpose()?,
        image: wire.image,
        volumes: wire.volumes.iter().flat_map(BTreeMap::keys).map(|path| volume(path)).collect::<Result<_>>()?,
        working_dir: clean(wire.working_dir),
        network_disabled: wire.network_disabled,
        mac_address: wire.mac_address,
        args_escaped: wire.args_escaped,
        on_build: wire.on_build,
        labels: wire.labels.unwrap_or_default(),
        stop_signal: Some(wire.stop_signal).filter(|signal| !signal.is_empty()),
        stop_timeout: wire.stop_timeout,
        shell: words(wire.shell),
    })
}

/// A working directory without what means nothing in it.
fn clean(path: String) -> String {
    match ContainerPath::absolute(&path) {
        Some(clean) => clean.to_string(),
        None => path,
    }
}

/// Reads the body of `POST /commit`, which may be empty; a configuration without anything is none.
pub fn commit_config(body: &[u8]) -> Result<Option<Config>> {
    let wire: ContainerConfig = decode_or_default(body)?;
    if wire == ContainerConfig::default() { Ok(None) } else { config(wire).map(Some) }
}

fn volume(path: &str) -> Result<ContainerPath> {
    match ContainerPath::rooted(path) {
        Some(place) if place.as_str() != "/" => Ok(place),
        _ => Err(RequestError::invalid(format!(
            "invalid volume specification: '{path}': invalid specification: destination can't be '/'"
        ))),
    }
}

fn healthcheck(wire: HealthConfig) -> Result<Healthcheck> {
    let durations = [
        ("Interval", wire.interval),
        ("Timeout", wire.timeout),
        ("StartPeriod", wire.start_period),
        ("StartInterval", wire.start_interval),
    ];
    if let Some((name, _)) = durations.iter().find(|(_, nanos)| *nanos != 0 && *nanos < 1_000_000) {
        return Err(RequestError::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    if wire.retries < 0 {
        return Err(RequestError::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(Healthcheck {
        test: wire.test.unwrap_or_default(),
        interval: wire.interval,
        timeout: wire.timeout,
        retries: wire.retries,
        start_period: wire.start_period,
        start_interval: wire.start_interval,
    })
}

/// Options that exclude each other.
fn conflicts(config: &Config, host: &HostConfig) -> Result<()> {
    use droste_model::container::NamespaceMode;
    let refuse = |text: &str| Err(RequestError::invalid(format!("conflicting options: {text}")));
    if host.uts_mode == NamespaceMode::Host && !config.hostname.is_empty() {
        return refuse("hostname and the UTS mode");
    }
    let has_links = host.links.as_ref().is_some_and(|links| !links.is_empty());
    if host.network_mode == NetworkMode::Host && has_links {
        return refuse("host type networking can't be used with links. This would result in undefined behavior");
    }
    let NetworkMode::Container(_) = host.network_mode else { return Ok(()) };
    if !config.hostname.is_empty() {
        return refuse("hostname and the network mode");
    }
    if has_links {
        return refuse("container type network can't be used with links. This would result in undefined behavior");
    }
    if host.dns.as_ref().is_some_and(|servers| !servers.is_empty()) {
        return refuse("dns and the network mode");
    }
    if host.extra_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
        return refuse("custom host-to-IP mapping and the network mode");
    }
    if host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return refuse("port publishing and the container type network mode");
    }
    if !config.exposed_ports.is_empty() {
        return refuse("port exposing and the container type network mode");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::CURRENT;

    fn parse(body: &str, version: ApiVersion) -> Result<Parsed> {
        create(body.as_bytes(), &Query::default(), version)
    }

    fn fails(body: &str) -> String {
        parse(body, CURRENT).unwrap_err().message
    }

    #[test]
    fn errors_are_dockers() {
        for (body, message) in [
            ("{}", "config cannot be empty in order to create a container"),
            (r#"{"HostConfig":{}}"#, "config cannot be empty in order to create a container"),
            (r#"{"Image":""}"#, "no command specified"),
            (r#"{"Image":"Bad"}"#, "invalid reference format: repository name (library/Bad) must be lowercase"),
            (r#"{"Image":"a","StopSignal":"FOO"}"#, "invalid signal: FOO"),
            (
                r#"{"Image":"a","WorkingDir":"a"}"#,
                "the working directory 'a' is invalid, it needs to be an absolute path",
            ),
            (r#"{"Image":"a","Env":["=a"]}"#, "invalid environment variable: =a"),
            (r#"{"Image":"a","Env":[""]}"#, "invalid environment variable: "),
            (r#"{"Image":"a","Healthcheck":{"Interval":10}}"#, "Interval in Healthcheck cannot be less than 1ms"),
            (r#"{"Image":"a","Healthcheck":{"Retries":-1}}"#, "Retries in Healthcheck cannot be negative"),
            (
                r#"{"Image":"a","Hostname":"x","HostConfig":{"UTSMode":"host"}}"#,
                "conflicting options: hostname and the UTS mode",
            ),
            (
                r#"{"Image":"a","Hostname":"x","HostConfig":{"NetworkMode":"container:b"}}"#,
                "conflicting options: hostname and the network mode",
            ),
            (
                r#"{"Image":"a","HostConfig":{"NetworkMode":"container:b","PublishAllPorts":true}}"#,
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                r#"{"Image":"a","ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:b"}}"#,
                "conflicting options: port exposing and the container type network mode",
            ),
            (
                r#"{"Image":"a","HostConfig":{"NetworkMode":"host","Links":["a:b"]}}"#,
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ),
        ] {
            assert_eq!(fails(body), message, "{body}");
        }
    }

    #[test]
    fn names_and_platforms_come_from_the_query() {
        let with = |query: &str| create(br#"{"Image":"a"}"#, &Query::parse(query), CURRENT);
        let parsed = with("name=/web-1&platform=linux/arm64").unwrap().request;
        assert_eq!(
            (parsed.name.unwrap().as_str(), parsed.platform.unwrap().to_string().as_str()),
            ("web-1", "linux/arm64")
        );
        assert_eq!(
            with("name=w").unwrap_err().message,
            "Invalid container name (w), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
        assert_eq!(
            with("platform=foo").unwrap_err().message,
            "\"foo\": unknown operating system or architecture: invalid argument"
        );
    }

    #[test]
    fn a_mac_address_moves_to_its_endpoint() {
        let parsed = parse(r#"{"Image":"a","MacAddress":"02:42:ac:11:00:aa"}"#, CURRENT).unwrap();
        assert_eq!(parsed.request.networks["bridge"].mac, "02:42:ac:11:00:aa");
        assert!(parsed.warnings[0].starts_with("The container-wide MacAddress field is now deprecated."));
        let newest = parse(r#"{"Image":"a","MacAddress":"02:42:ac:11:00:aa"}"#, ApiVersion::new(1, 52)).unwrap();
        assert!(newest.request.networks.is_empty() && newest.warnings.is_empty());
    }

    #[test]
    fn older_versions_lack_newer_fields() {
        let body = r#"{"Image":"a","Healthcheck":{"StartInterval":5000000},"HostConfig":{"AutoRemove":true,
            "Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"CreateMountpoint":true}}]}}"#;
        let at = |minor| parse(body, ApiVersion::new(1, minor)).unwrap().request;
        let (old, new) = (at(24), at(51));
        assert!(!old.host.auto_remove && new.host.auto_remove);
        assert_eq!(old.config.healthcheck.unwrap().start_interval, 0);
        assert_eq!(new.config.healthcheck.unwrap().start_interval, 5_000_000);
        let non_recursive =
            |request: &CreateContainer| request.host.mounts.as_ref().unwrap()[0].read_only_non_recursive;
        assert!(non_recursive(&at(43)) && !non_recursive(&at(44)));
        let two = r#"{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#;
        assert_eq!(
            parse(two, ApiVersion::new(1, 43)).unwrap_err().message,
            "Container cannot be created with multiple network endpoints: a, b"
        );
        assert_eq!(parse(two, CURRENT).unwrap().request.networks.len(), 2);
    }

    #[test]
    fn commit_without_a_configuration_has_none() {
        assert_eq!(commit_config(b""), Ok(None));
        assert_eq!(commit_config(b"{}"), Ok(None));
        assert!(commit_config(br#"{"Cmd":"a"}"#).unwrap().is_some());
    }
}
