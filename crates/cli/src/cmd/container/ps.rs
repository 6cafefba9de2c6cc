//! `ps`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::app::App;
use crate::error::Result;
use crate::flags::Parsed;
use crate::net::client::{Query, Request, no_levels};
use crate::output::human::{ago, ellipsis, short_id, size3};
use crate::output::list::{self, Format, Row, labels};
use crate::output::time;
use crate::template::Val;

pub(super) const FLAGS: &str = "
    a all bool Show all containers (the default shows those that run)
    - all-levels bool Show the containers of all hosts below this one, too (the machine's own socket only)
    f filter filter Show what meets a condition
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    n last int=-1 Show the last N containers, in any state
    l latest bool Show the last container, in any state
    - no-trunc bool Show everything in full
    q quiet bool Show ids only
    s size bool Show the sizes of files";

/// One container of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) image: String,
    #[serde(rename = "ImageID")]
    pub(crate) image_id: String,
    pub(crate) command: String,
    pub(crate) created: i64,
    pub(crate) ports: Option<Vec<Port>>,
    pub(crate) size_rw: i64,
    pub(crate) size_root_fs: i64,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) state: String,
    pub(crate) status: String,
    pub(crate) network_settings: Option<Networks>,
    pub(crate) mounts: Option<Vec<Mount>>,
    pub(crate) host: Option<String>,
    #[serde(skip)]
    pub(crate) truncate: bool,
    /// Whether labels are pairs in a template, as podman's are, and not one text.
    #[serde(skip)]
    pairs: bool,
}

/// One published or exposed port.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Port {
    private_port: u16,
    #[serde(rename = "IP")]
    ip: String,
    public_port: u16,
    r#type: String,
}

/// The networks that a container is on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Networks {
    networks: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// What a container mounts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    name: String,
    source: String,
    driver: String,
}

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// Where the containers of all levels are.
pub(super) const LEVELS: &str = "/droste/containers/json";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
    state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
    labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let quiet = flags.on("quiet");
    let size = flags.on("size");
    let levels = flags.on("all-levels");
    let table = [if levels { "{{.Host}}\t" } else { "" }, TABLE, if size { "\t{{.Size}}" } else { "" }].concat();
    let format = match flags.str("format") {
        "" | "table" if quiet => Format::Lines("{{.ID}}".to_owned()),
        given => Format::read(given, app.config.str("psFormat"), &table).with_raw(RAW, quiet),
    };
    let pairs = app.globals.podman;
    list::check(Summary { host: levels.then(String::new), pairs, ..Summary::default() }, &format)?;
    let last = if flags.on("latest") { 1 } else { flags.int("last").unwrap_or(-1) };
    let path = Query::new()
        .flag("all", flags.on("all") || last > 0)
        .filters(flags.all("filter"))
        .some("limit", &if last > 0 { last.to_string() } else { String::new() })
        // A template that asks for everything asks for the size; the word `json` does not.
        .flag("size", size || format.mentions(".Size") || flags.str("format").contains("json .}}"))
        .on(if levels { LEVELS } else { "/containers/json" });
    let bytes = app.client()?.bytes(Request::new("GET", path)).map_err(|e| if levels { no_levels(e) } else { e })?;
    let mut all: Vec<Summary> = serde_json::from_slice(&bytes)
        .map_err(|e| crate::error::CliError::new(format!("the daemon's answer could not be read: {e}")))?;
    let truncate = !flags.on("no-trunc");
    all.iter_mut().for_each(|c| (c.truncate, c.pairs) = (truncate, pairs));
    list::write(all, &format)?;
    Ok(0)
}

impl Row for Summary {
    const TYPE: &'static str = "*formatter.ContainerContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("Host", "HOST"),
    ];

    fn has(&self, name: &str) -> bool {
        name != "Host" || self.host.is_some()
    }

    fn field(&self, name: &str) -> String {
        match name {
            "ID" if self.truncate => short_id(&self.id).to_owned(),
            "ID" => self.id.clone(),
            "Names" => self.names(),
            "Image" => self.image(),
            "Command" => self.command(),
            "CreatedAt" => time::long(self.created),
            "RunningFor" => ago(self.created),
            "Ports" => ports(self.ports.as_deref().unwrap_or_default()),
            "Host" => self.host.clone().unwrap_or_default(),
            "State" => self.state.clone(),
            "Status" => self.status.clone(),
            "Size" => self.size(),
            "Labels" => labels(self.labels.as_ref()),
            "Mounts" => self.mounts(),
            "LocalVolumes" => self.mounts.iter().flatten().filter(|m| m.driver == "local").count().to_string(),
            "Networks" => self.networks(),
            _ => String::new(),
        }
    }

    fn value(&self, name: &str) -> Val {
        if name == "Labels" && self.pairs {
            Val::Json(serde_json::json!(self.labels.as_ref().unwrap_or(&BTreeMap::new())))
        } else {
            Val::text(self.field(name))
        }
    }

    fn json_value(&self, name: &str) -> serde_json::Value {
        if name == "Platform" { serde_json::Value::Null } else { self.field(name).into() }
    }

    fn label(&self, name: &str) -> Option<String> {
        Some(self.labels.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default())
    }
}

impl Summary {
    /// The container's names without their slashes; short lists leave out the names that links gave.
    pub(crate) fn names(&self) -> String {
        let mut names: Vec<&str> = self.names.iter().flatten().map(|n| n.strip_prefix('/').unwrap_or(n)).collect();
        if self.truncate
            && let Some(own) = names.iter().copied().find(|n| !n.contains('/'))
        {
            names = vec![own];
        }
        names.join(",")
    }

    fn image(&self) -> String {
        if self.image.is_empty() {
            return "<no image>".to_owned();
        }
        if !self.truncate {
            return self.image.clone();
        }
        if short_id(&self.image_id) == short_id(&self.image) {
            return short_id(&self.image).to_owned();
        }
        self.image.split('@').next().unwrap_or(&self.image).to_owned()
    }

    fn command(&self) -> String {
        let text: Cow<'_, str> =
            if self.truncate { ellipsis(&self.command, 20).into() } else { self.command.as_str().into() };
        serde_json::Value::from(text.as_ref()).to_string()
    }

    fn size(&self) -> String {
        let own = size3(self.size_rw as f64);
        match self.size_root_fs {
            all if all > 0 => format!("{own} (virtual {})", size3(all as f64)),
            _ => own,
        }
    }

    fn mounts(&self) -> String {
        let shown = |mount: &Mount| {
            let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
            if self.truncate { ellipsis(name, 15) } else { name.clone() }
        };
        self.mounts.iter().flatten().map(shown).collect::<Vec<_>>().join(",")
    }

    fn networks(&self) -> String {
        let all = self.network_settings.as_ref().and_then(|s| s.networks.as_ref());
        all.into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// Ports as `ps` shows them: neighbours in one range, published ones with their address.
fn ports(all: &[Port]) -> String {
    let mut all = all.to_vec();
    all.sort();
    let mut groups: Vec<(String, u16, u16)> = Vec::new();
    let (mut out, mut mapped) = (Vec::new(), Vec::new());
    for port in all {
        let current = port.private_port;
        let mut key = port.r#type.clone();
        if !port.ip.is_empty() {
            if port.public_port != current {
                let host = host_port(&port.ip, &port.public_port.to_string());
                mapped.push(format!("{host}->{current}/{}", port.r#type));
                continue;
            }
            key = format!("{}/{}", port.ip, port.r#type);
        }
        match groups.iter_mut().find(|(known, ..)| *known == key) {
            None => groups.push((key, current, current)),
            Some((_, _, last)) if *last + 1 == current => *last = current,
            Some((key, first, last)) => {
                out.push(port_group(key, *first, *last));
                (*first, *last) = (current, current);
            }
        }
    }
    out.extend(groups.iter().map(|(key, first, last)| port_group(key, *first, *last)));
    out.extend(mapped);
    out.join(", ")
}

fn port_group(key: &str, first: u16, last: u16) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.split_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", host_port(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16) -> Port {
        Port { private_port: private, ip: ip.to_owned(), public_port: public, r#type: "tcp".to_owned() }
    }

    #[test]
    fn ports_in_groups() {
        let all =
            [port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81), port("::", 8080, 90), port("", 0, 99), port("", 0, 100)];
        assert_eq!(ports(&all), "0.0.0.0:80-81->80-81/tcp, 99-100/tcp, [::]:8080->90/tcp");
    }
}
