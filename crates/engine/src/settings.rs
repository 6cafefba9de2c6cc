//! What the daemon's command line and configuration file settle for the engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use droste_confine::{OptionError, SeccompChoice, SecurityOptions};
use droste_image::registry::Proxies;
use droste_model::container::{LogConfig, Ulimit};
use droste_model::host::Grant;

/// The engine's settings. Those under "at run time" may change with a reload; the others need a new start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where images, containers and records are kept.
    pub data_root: PathBuf,
    /// Where the state of running containers is kept; a file system that is empty after a boot.
    pub exec_root: PathBuf,
    /// The Unix sockets on which the daemon itself listens: a bind of one of them grants a socket.
    pub engine_sockets: Vec<PathBuf>,
    /// Address and prefix length of the default bridge on level 0; `None` to choose a free subnet.
    pub bridge_ip: Option<(Ipv4Addr, u8)>,
    /// MTU of the default bridges; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// Containers on a default bridge may talk to each other.
    pub icc: bool,
    /// Pools of subnets: base, its prefix length, prefix length of each subnet. Empty for Docker's.
    pub address_pools: Vec<(Ipv4Addr, u8, u8)>,
    /// Process limits of containers that name none (at run time).
    pub default_ulimits: Vec<Ulimit>,
    /// Log driver of containers that name none (at run time).
    pub log: LogConfig,
    /// OCI runtimes by name.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// The runtime of containers that name none; empty for Droste's own launcher.
    pub default_runtime: String,
    /// Run an init in containers that do not say (at run time).
    pub init: bool,
    /// What confines containers that do not say.
    pub security: SecurityDefaults,
    /// Name servers of containers that name none.
    pub dns: Vec<String>,
    /// Search domains of containers that name none.
    pub dns_search: Vec<String>,
    /// Resolver options of containers that name none.
    pub dns_options: Vec<String>,
    /// Labels of the daemon (at run time).
    pub labels: Vec<String>,
    /// Debug mode (at run time).
    pub debug: bool,
    /// How registries are reached (at run time).
    pub registry: RegistrySettings,
    /// How many layers of an image are fetched at a time (at run time).
    pub max_concurrent_downloads: usize,
    /// How many layers of an image are pushed at a time (at run time).
    pub max_concurrent_uploads: usize,
    /// Images whose socket mount acts on the creator's host unasked (at run time).
    pub parent_images: Vec<String>,
    /// What other socket mounts grant unasked (at run time).
    pub default_grant: Grant,
    /// The cgroup below which level 0's containers are placed.
    pub cgroup_parent: String,
}

/// What confines containers that do not say, as `--security-opt` would.
#[derive(Clone, Debug, Default)]
pub struct SecurityDefaults {
    /// As it was named, for `info`; empty for the built-in one.
    pub(crate) profile: String,
    seccomp: SeccompChoice,
    /// No process gets more privileges than the one that started it.
    no_new_privileges: bool,
}

impl SecurityDefaults {
    /// With a seccomp profile: `builtin`, `unconfined`, or JSON that lies in the file `named`.
    pub fn with_profile(named: &str, profile: &str) -> Result<Self, OptionError> {
        let word = if profile.is_empty() { "builtin" } else { profile };
        let seccomp = match SecurityOptions::parse(&[format!("seccomp={word}")])?.seccomp {
            SeccompChoice::Builtin => SeccompChoice::Default,
            other => other,
        };
        let profile = if seccomp == SeccompChoice::Default { String::new() } else { named.to_owned() };
        Ok(Self { profile, seccomp, no_new_privileges: false })
    }

    /// The same, with or without new privileges.
    pub fn with_no_new_privileges(self, on: bool) -> Self {
        Self { no_new_privileges: on, ..self }
    }

    /// Fills in what a container does not say. A privileged one has no profile unless it names one.
    pub(crate) fn fill(&self, asked: &mut SecurityOptions, privileged: bool) {
        if asked.seccomp == SeccompChoice::Default && !privileged {
            asked.seccomp = self.seccomp.clone();
        }
        asked.no_new_privileges = asked.no_new_privileges.or(self.no_new_privileges.then_some(true));
    }

    /// The lines of `info`.
    pub(crate) fn shown(&self, apparmor: bool) -> Vec<String> {
        let profile = if self.profile.is_empty() { "builtin" } else { &self.profile };
        let nnp = self.no_new_privileges.then(|| "name=no-new-privileges".to_owned());
        let always = [format!("name=seccomp,profile={profile}"), "name=cgroupns".to_owned()];
        apparmor.then(|| "name=apparmor".to_owned()).into_iter().chain(always).chain(nnp).collect()
    }
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// Mirrors of docker.io, tried first.
    pub mirrors: Vec<String>,
    /// Registries, by host[:port] or CIDR, that need no TLS or whose certificate is not checked.
    pub insecure: Vec<String>,
    /// Proxies on the way to registries and to what is imported from a URL.
    pub proxies: Proxies,
    /// Folder of certificates by registry, as Docker's certs.d.
    pub certs_dir: Option<PathBuf>,
    /// How often a transfer whose connection breaks is tried, if not as often as usual.
    pub attempts: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_root: "/var/lib/droste".into(),
            exec_root: "/run/droste".into(),
            engine_sockets: Vec::new(),
            bridge_ip: None,
            mtu: None,
            icc: true,
            address_pools: Vec::new(),
            default_ulimits: Vec::new(),
            log: LogConfig { driver: "json-file".to_owned(), options: BTreeMap::new() },
            runtimes: BTreeMap::new(),
            default_runtime: String::new(),
            init: false,
            security: SecurityDefaults::default(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            labels: Vec::new(),
            debug: false,
            registry: RegistrySettings::default(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            parent_images: vec!["testcontainers/ryuk".to_owned()],
            default_grant: Grant::Own,
            cgroup_parent: "/droste".to_owned(),
        }
    }
}
