//! Options by flag name, wherever they were given, and what they mean.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use droste_engine::{Proxies, RegistrySettings, SecurityDefaults, Settings};
use droste_model::container::{LogConfig, Ulimit};
use droste_model::host::Grant;
use tracing::Level;

use super::address::Address;
use super::flags::{FLAGS, Kind};
use super::{DEFAULT_PIDFILE, DEFAULT_SOCKET, OptionError, Options, Tls, checks};
use crate::log;

/// Runtimes that are there without being configured: the engine's own, also by Docker's names for the one of this kind.
const OWN_RUNTIMES: [&str; 4] = ["", "droste", "runc", "io.containerd.runc.v2"];

/// Values by flag name, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    values: BTreeMap<&'static str, Vec<String>>,
    notes: Vec<String>,
}

impl Values {
    pub(super) fn add(&mut self, flag: &'static str, value: String) {
        self.values.entry(flag).or_default().push(value);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn last(&self, flag: &str) -> Option<&str> {
        self.values.get(flag)?.last().map(String::as_str)
    }

    fn list(&self, flag: &str) -> Vec<String> {
        self.values.get(flag).cloned().unwrap_or_default()
    }

    /// Says what was given both here, as flags, and in the file.
    pub(super) fn conflicts(&self, file: &Values) -> Option<String> {
        let shown = |flag: &super::flags::Flag, values: &[String]| match flag.kind {
            Kind::List => format!("[{}]", values.join(" ")),
            _ => values.last().cloned().unwrap_or_default(),
        };
        let conflicts: Vec<String> = FLAGS
            .iter()
            .filter_map(|flag| {
                let (ours, theirs) = (self.values.get(flag.name)?, file.values.get(flag.name)?);
                let key = if flag.key.is_empty() { flag.name } else { flag.key };
                Some(format!("{key}: (from flag: {}, from file: {})", shown(flag, ours), shown(flag, theirs)))
            })
            .collect();
        (!conflicts.is_empty()).then(|| {
            let list = conflicts.join(", ");
            format!("the following directives are specified both as a flag and in the configuration file: {list}")
        })
    }

    pub(super) fn merged(mut self, file: Values) -> Self {
        self.values.extend(file.values);
        self.notes.extend(file.notes);
        self
    }

    /// How many transfers of a kind run at once, if that is said.
    fn transfers(&self, flag: &str, default: usize) -> Result<usize, OptionError> {
        let given = checks::number(flag, self.last(flag))?;
        Ok(given.and_then(|number| usize::try_from(number).ok()).unwrap_or(default))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, OptionError> {
        match self.last(name) {
            None => Ok(default),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(wrong(name, other, "expected true or false")),
        }
    }

    pub(super) fn options(self) -> Result<Options, OptionError> {
        let debug = self.flag("debug", false)?;
        let level = match self.last("log-level") {
            _ if debug => Level::DEBUG,
            None => Level::INFO,
            Some(name) => log::level(name)
                .ok_or_else(|| wrong("log-level", name, "expected debug, info, warn, error or fatal"))?,
        };
        let format = match self.last("log-format") {
            None | Some("text") => log::Format::Text,
            Some("json") => log::Format::Json,
            Some(other) => return Err(wrong("log-format", other, "expected text or json")),
        };
        let tls = self.tls()?;
        Ok(Options {
            addresses: self.addresses(tls.is_some())?,
            tls,
            insecure_tcp: self.flag("insecure-tcp", false)?,
            group: self.last("group").map(str::to_owned),
            pidfile: self.last("pidfile").unwrap_or(DEFAULT_PIDFILE).into(),
            level,
            format,
            audit_log: self.last("audit-log").filter(|path| !path.is_empty()).map(PathBuf::from),
            validate: self.flag("validate", false)?,
            settings: self.settings(debug)?,
            notes: self.notes,
        })
    }

    fn default_grant(&self) -> Result<Grant, OptionError> {
        const FLAG: &str = "default-socket-grant";
        let given = self.last(FLAG).unwrap_or(Grant::Own.word());
        Grant::from_label(given).map_err(|_| wrong(FLAG, given, "expected own, parent or parent-ro"))
    }

    fn addresses(&self, tls: bool) -> Result<Vec<Address>, OptionError> {
        let mut texts = self.list("host");
        if texts.is_empty() {
            texts.push(DEFAULT_SOCKET.to_owned());
        }
        texts.iter().map(|text| Address::parse(text, tls).map_err(|reason| wrong("host", text, reason))).collect()
    }

    fn tls(&self) -> Result<Option<Tls>, OptionError> {
        let verify = self.flag("tlsverify", false)?;
        if !verify && !self.flag("tls", false)? {
            return Ok(None);
        }
        let home = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
        let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".docker"))).unwrap_or_default();
        let path = |flag: &str, name: &str| self.last(flag).map_or_else(|| home.join(name), PathBuf::from);
        Ok(Some(Tls {
            verify,
            ca: path("tlscacert", "ca.pem"),
            cert: path("tlscert", "cert.pem"),
            key: path("tlskey", "key.pem"),
        }))
    }

    fn settings(&self, debug: bool) -> Result<Settings, OptionError> {
        let default = Settings::default();
        let all = |flag: &'static str| self.list(flag).into_iter().map(move |text| (flag, text));
        let parent_images = self.list("parent-image");
        let runtimes = all("add-runtime").map(|(_, text)| runtime(&text)).collect::<Result<_, _>>()?;
        Ok(Settings {
            data_root: self.last("data-root").map_or(default.data_root, PathBuf::from),
            exec_root: self.last("exec-root").map_or(default.exec_root, PathBuf::from),
            bridge_ip: self.last("bip").map(|text| network("bip", text)).transpose()?,
            mtu: checks::number("mtu", self.last("mtu"))?,
            icc: self.flag("icc", true)?,
            address_pools: all("default-address-pool").map(|(_, text)| pool(&text)).collect::<Result<_, _>>()?,
            default_ulimits: all("default-ulimit").map(|(_, text)| ulimit(&text)).collect::<Result<_, _>>()?,
            log: self.log(default.log)?,
            default_runtime: self.default_runtime(&runtimes)?.to_owned(),
            runtimes,
            init: self.flag("init", false)?,
            security: self.security()?,
            dns: checks::dns(self.list("dns"))?,
            dns_search: self.list("dns-search"),
            dns_options: self.list("dns-opt"),
            labels: checks::labels(self.list("label"))?,
            debug,
            registry: RegistrySettings {
                mirrors: checks::mirrors(self.list("registry-mirror"))?,
                insecure: self.list("insecure-registry"),
                proxies: self.proxies()?,
                attempts: checks::number("max-download-attempts", self.last("max-download-attempts"))?,
                ..default.registry
            },
            max_concurrent_downloads: self.transfers("max-concurrent-downloads", default.max_concurrent_downloads)?,
            max_concurrent_uploads: self.transfers("max-concurrent-uploads", default.max_concurrent_uploads)?,
            default_grant: self.default_grant()?,
            parent_images: if parent_images.is_empty() { default.parent_images } else { parent_images },
            cgroup_parent: self.last("cgroup-parent").map_or(default.cgroup_parent, str::to_owned),
            ..default
        })
    }

    fn default_runtime(&self, runtimes: &BTreeMap<String, PathBuf>) -> Result<&str, OptionError> {
        let name = self.last("default-runtime").unwrap_or_default();
        if !OWN_RUNTIMES.contains(&name) && !runtimes.contains_key(name) {
            return Err(wrong("default-runtime", name, "it is not among the runtimes of --add-runtime"));
        }
        Ok(name)
    }

    fn security(&self) -> Result<SecurityDefaults, OptionError> {
        let defaults = self.last("seccomp-profile").map(seccomp_profile).transpose()?.unwrap_or_default();
        Ok(defaults.with_no_new_privileges(self.flag("no-new-privileges", false)?))
    }

    /// What is said here or in the file, and otherwise in the environment.
    fn proxies(&self) -> Result<Proxies, OptionError> {
        let of = |flag: &str, names: [&str; 2]| {
            let from_environment =
                || names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
            self.last(flag).map(str::to_owned).or_else(from_environment).unwrap_or_default()
        };
        let proxies = Proxies {
            http: of("http-proxy", ["HTTP_PROXY", "http_proxy"]),
            https: of("https-proxy", ["HTTPS_PROXY", "https_proxy"]),
            no: of("no-proxy", ["NO_PROXY", "no_proxy"]),
        };
        proxies.check().map_err(|error| wrong("http-proxy, --https-proxy", &error.value, error.reason))?;
        Ok(proxies)
    }

    fn log(&self, default: LogConfig) -> Result<LogConfig, OptionError> {
        let driver = self.last("log-driver").unwrap_or(&default.driver).to_owned();
        if !matches!(driver.as_str(), "json-file" | "local" | "none") {
            return Err(wrong("log-driver", &driver, "expected json-file, local or none"));
        }
        let pairs = self.list("log-opt");
        let options = pairs.iter().map(|text| pair("log-opt", text)).collect::<Result<BTreeMap<_, _>, _>>()?;
        Ok(LogConfig { driver, options })
    }
}

fn seccomp_profile(named: &str) -> Result<SecurityDefaults, OptionError> {
    let refuse = |reason: String| wrong("seccomp-profile", named, reason);
    let profile = match named {
        "" | "builtin" | "unconfined" => named.to_owned(),
        path => std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?,
    };
    SecurityDefaults::with_profile(named, &profile).map_err(|error| refuse(error.to_string()))
}

fn wrong(flag: &str, value: &str, reason: impl Into<String>) -> OptionError {
    OptionError::value(&format!("--{flag}"), value, reason)
}

fn pair(flag: &str, text: &str) -> Result<(String, String), OptionError> {
    let (name, value) = text.split_once('=').ok_or_else(|| wrong(flag, text, "expected NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn network(flag: &str, text: &str) -> Result<(Ipv4Addr, u8), OptionError> {
    let read = || {
        let (address, prefix) = text.split_once('/')?;
        Some((address.parse().ok()?, prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix))?))
    };
    read().ok_or_else(|| wrong(flag, text, "expected an IPv4 address and a prefix length, 10.1.0.1/24"))
}

fn pool(text: &str) -> Result<(Ipv4Addr, u8, u8), OptionError> {
    const FLAG: &str = "default-address-pool";
    let fields: BTreeMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
    let base = fields.get("base").ok_or_else(|| wrong(FLAG, text, "expected base=CIDR,size=N"))?;
    let (address, prefix) = network(FLAG, base)?;
    let size = fields.get("size").and_then(|size| size.parse().ok()).filter(|size| (prefix..=30).contains(size));
    Ok((address, prefix, size.ok_or_else(|| wrong(FLAG, text, "size must lie between the base's prefix and 30"))?))
}

fn ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let (name, limits) = pair("default-ulimit", text)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let number = |part: &str| {
        part.parse::<i64>().map_err(|_| wrong("default-ulimit", text, "expected NAME=SOFT[:HARD] with numbers"))
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(wrong("default-ulimit", text, "the soft limit is above the hard one"));
    }
    Ok(Ulimit { name, soft, hard })
}

fn runtime(text: &str) -> Result<(String, PathBuf), OptionError> {
    let (name, path) = pair("add-runtime", text)?;
    if name == "droste" {
        return Err(wrong("add-runtime", text, "the runtime 'droste' is the engine's own"));
    }
    Ok((name, path.into()))
}
