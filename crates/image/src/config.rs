//! An image's configuration: the JSON document whose digest is the image's id.
//!
//! The raw bytes are what counts and are kept as they came; the types here are what Droste reads of them and what it
//! writes for images of its own making.

use std::collections::{BTreeMap, BTreeSet};

use droste_model::container::{Config, Healthcheck};
use droste_model::digest::Digest;
use droste_model::path::ContainerPath;
use droste_model::platform::Platform;
use droste_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Longest configuration that is read.
pub(crate) const LONGEST: u64 = 8 << 20;

/// What an image says of itself. Fields are in the order in which they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Processor in Go's words; may be empty in old images.
    #[serde(default)]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What was said at its commit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// What its containers run.
    #[serde(default, with = "wire", rename = "config")]
    pub config: Config,
    /// The container that it was made of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// When it was made, in RFC 3339, as the maker wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The engine that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// One item for each step of its making.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Operating system in Go's words.
    #[serde(default)]
    pub os: String,
    /// Features of the operating system that it needs.
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Version of the operating system that it needs.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Its layers.
    pub rootfs: RootFs,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// With which words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The step changed no files and has no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers of an image by the digests of their plain tars, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the plain tars.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

impl ImageConfig {
    /// Reads a configuration as it came.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(raw).map_err(|error| Error::json("image configuration", &error))?;
        if config.rootfs.kind != "layers" {
            let reason = format!("rootfs type {:?} instead of \"layers\"", config.rootfs.kind);
            return Err(Error::InvalidJson { what: "image configuration".to_owned(), reason });
        }
        Ok(config)
    }

    /// The bytes of a configuration of our own; their digest is the image's id.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::json("image configuration", &error))
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }

    /// When it was made, if it says so in a form that is understood.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.created.as_deref()?.parse().ok()
    }
}

/// Takes JSON's `null` for an empty value, as Go does.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The `config` object as Docker and OCI write it.
mod wire {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Wire {
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        domainname: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exposed_ports: Option<BTreeMap<String, Value>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tty: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        open_stdin: Option<bool>,
        env: Option<Vec<String>>,
        cmd: Option<Words>,
        #[serde(skip_serializing_if = "Option::is_none")]
        healthcheck: Option<WireHealth>,
        #[serde(skip_serializing_if = "Option::is_none")]
        volumes: Option<BTreeMap<String, Value>>,
        working_dir: Option<String>,
        entrypoint: Option<Words>,
        #[serde(skip_serializing_if = "Option::is_none")]
        on_build: Option<Vec<String>>,
        labels: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop_signal: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop_timeout: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        shell: Option<Vec<String>>,
    }

    /// A list of words; very old images have one word alone.
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }

    impl Words {
        fn list(self) -> Vec<String> {
            match self {
                Self::Many(words) => words,
                Self::One(word) => vec![word],
            }
        }
    }

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct WireHealth {
        #[serde(skip_serializing_if = "Option::is_none")]
        test: Option<Vec<String>>,
        #[serde(skip_serializing_if = "is_zero")]
        interval: i64,
        #[serde(skip_serializing_if = "is_zero")]
        timeout: i64,
        #[serde(skip_serializing_if = "is_zero")]
        start_period: i64,
        #[serde(skip_serializing_if = "is_zero")]
        start_interval: i64,
        #[serde(skip_serializing_if = "is_zero")]
        retries: i64,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_zero(value: &i64) -> bool {
        *value == 0
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        let wire = Option::<Wire>::deserialize(deserializer)?.unwrap_or_default();
        Ok(from_wire(wire))
    }

    pub(super) fn serialize<S: serde::Serializer>(config: &Config, serializer: S) -> Result<S::Ok, S::Error> {
        to_wire(config).serialize(serializer)
    }

    fn from_wire(wire: Wire) -> Config {
        let ports: BTreeSet<_> =
            wire.exposed_ports.unwrap_or_default().keys().filter_map(|port| port.parse().ok()).collect();
        let volumes = wire.volumes.unwrap_or_default();
        Config {
            hostname: wire.hostname.unwrap_or_default(),
            domainname: wire.domainname.unwrap_or_default(),
            user: wire.user.unwrap_or_default(),
            exposed_ports: ports,
            tty: wire.tty.unwrap_or_default(),
            open_stdin: wire.open_stdin.unwrap_or_default(),
            env: wire.env.unwrap_or_default(),
            cmd: wire.cmd.map(Words::list),
            entrypoint: wire.entrypoint.map(Words::list),
            healthcheck: wire.healthcheck.map(|health| Healthcheck {
                test: health.test.unwrap_or_default(),
                interval: health.interval,
                timeout: health.timeout,
                retries: health.retries,
                start_period: health.start_period,
                start_interval: health.start_interval,
            }),
            volumes: volumes.keys().filter_map(|path| ContainerPath::rooted(path)).collect(),
            working_dir: wire.working_dir.unwrap_or_default(),
            on_build: wire.on_build,
            labels: wire.labels.unwrap_or_default(),
            stop_signal: wire.stop_signal,
            stop_timeout: wire.stop_timeout,
            shell: wire.shell,
            ..Config::default()
        }
    }

    fn to_wire(config: &Config) -> Wire {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let set = |keys: BTreeMap<String, Value>| (!keys.is_empty()).then_some(keys);
        let empty = || Value::Object(serde_json::Map::new());
        Wire {
            hostname: text(&config.hostname),
            domainname: text(&config.domainname),
            user: text(&config.user),
            exposed_ports: set(config.exposed_ports.iter().map(|port| (port.to_string(), empty())).collect()),
            tty: config.tty.then_some(true),
            open_stdin: config.open_stdin.then_some(true),
            env: Some(config.env.clone()),
            cmd: config.cmd.clone().map(Words::Many),
            healthcheck: config.healthcheck.as_ref().map(|health| WireHealth {
                test: (!health.test.is_empty()).then(|| health.test.clone()),
                interval: health.interval,
                timeout: health.timeout,
                start_period: health.start_period,
                start_interval: health.start_interval,
                retries: health.retries,
            }),
            volumes: set(config.volumes.iter().map(|path| (path.as_str().to_owned(), empty())).collect()),
            working_dir: Some(config.working_dir.clone()),
            entrypoint: config.entrypoint.clone().map(Words::Many),
            on_build: config.on_build.clone(),
            labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
            stop_signal: config.stop_signal.clone(),
            stop_timeout: config.stop_timeout,
            shell: config.shell.clone(),
        }
    }
}
