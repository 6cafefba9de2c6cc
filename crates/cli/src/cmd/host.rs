//! Commands on the hosts below the one that is asked: which there are, what bounds them, how much they may use. From
//! `GET /droste/hosts`, `GET /droste/hosts/PATH/json` and `POST /droste/hosts/PATH/limits`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Arity, Command};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Request, escape_path, no_levels};
use crate::output::human::{binary_size, short_id};
use crate::output::inspect;
use crate::output::list::{self, Format, Row};

const LS: &str = "
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-trunc bool Show everything in full
    q quiet bool Show paths only";
const INSPECT: &str = "
    f format string Format of the output: 'json' or a Go template";
const LIMITS: &str = "
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template";

/// Resources that are counted in bytes.
const IN_BYTES: &[&str] = &["config", "disk", "logs"];

const fn command(
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: "", group: "host", names, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(
        &["inspect"],
        "[OPTIONS] PATH [PATH...]",
        "Display detailed information on one or more hosts",
        INSPECT,
        Arity::AtLeast(1),
        inspect,
    ),
    command(
        &["limits"],
        "[OPTIONS] PATH [NAME=VALUE...]",
        "Show what a host uses and may use, or change it: containers=100, config=64m, tags=default",
        LIMITS,
        Arity::AtLeast(1),
        limits,
    ),
    command(&["ls", "list"], "[OPTIONS]", "List the hosts below this one", LS, Arity::None, ls),
];

/// One host of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Summary {
    path: String,
    id: String,
    name: String,
    level: i64,
    on: bool,
    state: String,
    image: String,
    containers: i64,
    running: i64,
    limits: BTreeMap<String, Limit>,
    #[serde(skip)]
    truncate: bool,
}

/// What a host uses of a resource, and how much it may use.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Limit {
    limit: Option<u64>,
    used: u64,
    set: bool,
    #[serde(skip)]
    name: String,
}

fn of(path: &str, what: &str) -> String {
    format!("/droste/hosts/{}/{what}", escape_path(path.trim_matches('/')))
}

fn ls(app: &App, flags: &Parsed) -> Result<u8> {
    let asked = Request::new("GET", "/droste/hosts").unversioned();
    let mut all: Vec<Summary> = app.client()?.call(asked).map_err(no_levels)?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.iter_mut().for_each(|host| host.truncate = !flags.on("no-trunc"));
    let format = match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.Path}}".to_owned()),
        given => Format::read(
            given,
            app.config.str("hostsFormat"),
            "{{.Path}}\t{{.ID}}\t{{.Image}}\t{{.State}}\t{{.Running}}\t{{.Containers}}\t{{.Limits}}",
        ),
    };
    list::write(all, &format)?;
    Ok(0)
}

fn inspect(app: &App, flags: &Parsed) -> Result<u8> {
    let one = |path: &str| app.client()?.bytes(Request::new("GET", of(path, "json")).unversioned());
    inspect::write(&flags.args, flags.str("format"), one)
}

fn limits(app: &App, flags: &Parsed) -> Result<u8> {
    let (path, changes) = (&flags.args[0], &flags.args[1..]);
    let found: BTreeMap<String, Limit> = if changes.is_empty() {
        let host: Summary = app.client()?.call(Request::new("GET", of(path, "json")).unversioned())?;
        host.limits
    } else {
        let asked = Request::new("POST", of(path, "limits")).unversioned().json(&wanted(changes)?);
        app.client()?.call(asked)?
    };
    let rows = found.into_iter().map(|(name, limit)| Limit { name, ..limit }).collect();
    list::write(rows, &Format::read(flags.str("format"), "", "{{.Name}}\t{{.Used}}\t{{.Limit}}\t{{.Set}}"))?;
    Ok(0)
}

/// The body that `NAME=VALUE` words mean; what a name or a value may be is the daemon's to say.
fn wanted(words: &[String]) -> Result<Value> {
    let mut body = serde_json::Map::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            CliError::new(format!("invalid limit {word:?}: give NAME=VALUE, for example containers=100"))
        })?;
        if body.insert(name.to_owned(), json!(value)).is_some() {
            return Err(CliError::new(format!("invalid limit {word:?}: {name} is given twice")));
        }
    }
    Ok(Value::Object(body))
}

/// An amount of a resource, for people.
fn amount(resource: &str, number: u64) -> String {
    if IN_BYTES.contains(&resource) { binary_size(number as f64) } else { number.to_string() }
}

/// The limits that somebody set, with what is used of them.
fn limited(limits: &BTreeMap<String, Limit>) -> String {
    let set = limits.iter().filter_map(|(name, limit)| {
        let most = limit.limit.filter(|_| limit.set)?;
        Some(format!("{name} {}/{}", amount(name, limit.used), amount(name, most)))
    });
    set.collect::<Vec<_>>().join(", ")
}

impl Row for Summary {
    const TYPE: &'static str = "*host.Summary";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Path", "PATH"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Level", "LEVEL"),
        ("Image", "IMAGE"),
        ("State", "STATE"),
        ("On", "ON"),
        ("Running", "RUNNING"),
        ("Containers", "CONTAINERS"),
        ("Limits", "LIMITS"),
    ];

    fn field(&self, name: &str) -> String {
        match name {
            "Path" => self.path.clone(),
            "ID" if self.truncate => short_id(&self.id).to_owned(),
            "ID" => self.id.clone(),
            "Name" => self.name.clone(),
            "Level" => self.level.to_string(),
            "Image" => self.image.clone(),
            "State" => self.state.clone(),
            "On" => self.on.to_string(),
            "Running" => self.running.to_string(),
            "Containers" => self.containers.to_string(),
            "Limits" => limited(&self.limits),
            _ => String::new(),
        }
    }
}

impl Row for Limit {
    const TYPE: &'static str = "*host.Limit";
    const FIELDS: &'static [(&'static str, &'static str)] =
        &[("Name", "RESOURCE"), ("Used", "USED"), ("Limit", "LIMIT"), ("Set", "SET")];

    fn field(&self, name: &str) -> String {
        match name {
            "Name" => self.name.clone(),
            "Used" => amount(&self.name, self.used),
            "Limit" => self.limit.map_or_else(|| "none".to_owned(), |limit| amount(&self.name, limit)),
            "Set" => self.set.to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_body() {
        let words = ["config=20m".to_owned(), "tags=default".to_owned()];
        assert_eq!(wanted(&words).unwrap(), json!({"config": "20m", "tags": "default"}));
        for wrong in [&["tags".to_owned()][..], &["tags=1".to_owned(), "tags=2".to_owned()]] {
            assert!(wanted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_path_is_one_of_hosts() {
        assert_eq!(of("/ci-1/build", "json"), "/droste/hosts/ci-1/build/json");
        assert_eq!(of("../x?y", "json"), "/droste/hosts/../x%3Fy/json");
    }
}
