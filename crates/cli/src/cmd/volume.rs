//! Commands on volumes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::container::each;
use super::prune;
use crate::app::{App, Arity, Command};
use crate::create::environment::pairs;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape};
use crate::output::human::size;
use crate::output::list::{self, Format, Row, labels};

const LS: &str = "
    - cluster bool Show cluster volumes only
    f filter filter Show what meets a condition (\"dangling=true\")
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    q quiet bool Show names only";
const CREATE: &str = "
    - availability string=active Availability of a cluster volume
    d driver string=local Driver of the volume
    - group string Group of a cluster volume
    - label list Set a label
    - limit-bytes bytes Least size of a cluster volume
    !- name string Name of the volume
    o opt map Set an option of the driver
    - required-bytes bytes Greatest size of a cluster volume
    - scope string=single Access scope of a cluster volume
    - secret map Secrets of a cluster volume
    - sharing string=none Access sharing of a cluster volume
    - topology-preferred list Preferred topology of a cluster volume
    - topology-required list Required topology of a cluster volume
    - type string=block Access type of a cluster volume";
const RM: &str = "
    f force bool A volume that does not exist is no error";
const UPDATE: &str = "
    - availability string=active Availability of a cluster volume";

const fn command(
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: "", group: "volume", names, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(&["create"], "[OPTIONS] [VOLUME]", "Create a volume", CREATE, Arity::AtMost(1), create),
    command(&["ls", "list"], "[OPTIONS]", "List volumes", LS, Arity::None, ls),
    command(&["prune"], "[OPTIONS]", "Remove unused local volumes", prune::VOLUMES, Arity::None, prune::volumes),
    command(&["rm", "remove"], "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", RM, Arity::AtLeast(1), rm),
    command(
        &["update"],
        "[OPTIONS] [VOLUME]",
        "Update a volume (cluster volumes only)",
        UPDATE,
        Arity::Exactly(1),
        update,
    ),
];

/// One volume of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Summary {
    pub(crate) name: String,
    driver: String,
    scope: String,
    mountpoint: String,
    labels: Option<BTreeMap<String, String>>,
    usage_data: Option<Usage>,
}

/// How large a volume is and who uses it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Usage {
    size: i64,
    ref_count: i64,
}

fn ls(app: &App, flags: &Parsed) -> Result<u8> {
    let answer: Value = app.client()?.get(Query::new().filters(flags.all("filter")).on("/volumes"))?;
    for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("WARNING: {warning}");
    }
    let list = if answer["Volumes"].is_null() { json!([]) } else { answer["Volumes"].clone() };
    let mut all: Vec<Summary> = serde_json::from_value(list)
        .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let format = match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.Name}}".to_owned()),
        given => Format::read(given, app.config.str("volumesFormat"), "{{.Driver}}\t{{.Name}}")
            .with_raw("name: {{.Name}}\ndriver: {{.Driver}}\n", flags.on("quiet")),
    };
    list::write(all, &format)?;
    Ok(0)
}

impl Row for Summary {
    const TYPE: &'static str = "*formatter.volumeContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
    ];

    fn field(&self, name: &str) -> String {
        let none = || "N/A".to_owned();
        match name {
            "Name" => self.name.clone(),
            "Driver" => self.driver.clone(),
            "Scope" => self.scope.clone(),
            "Mountpoint" => self.mountpoint.clone(),
            "Labels" => labels(self.labels.as_ref()),
            "Links" => self.usage_data.as_ref().map_or_else(none, |u| u.ref_count.to_string()),
            "Size" => self.usage_data.as_ref().map_or_else(none, |u| size(u.size as f64)),
            _ => none(),
        }
    }

    fn label(&self, name: &str) -> Option<String> {
        Some(self.labels.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default())
    }
}

fn create(app: &App, flags: &Parsed) -> Result<u8> {
    if flags.given("name") && !flags.args.is_empty() {
        return Err(CliError::new(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let name = flags.args.first().map_or(flags.str("name"), String::as_str);
    let body = json!({
        "Driver": flags.get("driver").unwrap_or("local"), "DriverOpts": pairs(flags.all("opt")),
        "Labels": pairs(flags.all("label")), "Name": name,
    });
    let made: Value = app.client()?.call(Request::new("POST", "/volumes/create").json(&body))?;
    println!("{}", made["Name"].as_str().unwrap_or_default());
    Ok(0)
}

fn rm(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let query = Query::new().flag("force", flags.on("force"));
    each(&flags.args, |name| client.delete(query.clone().on(&format!("/volumes/{}", escape(name)))).map(|_| None))
}

fn update(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let path = format!("/volumes/{}", escape(&flags.args[0]));
    let volume: Value = client.get(path.as_str())?;
    let version = &volume["ClusterVolume"]["Version"]["Index"];
    if version.is_null() {
        return Err(CliError::new("Can only update cluster volumes"));
    }
    let mut spec = volume["ClusterVolume"]["Spec"].clone();
    if let Some(availability) = flags.get("availability") {
        spec["Availability"] = availability.into();
    }
    client.done(Request::new("PUT", format!("{path}?version={version}")).json(&json!({"Spec": spec})))?;
    Ok(0)
}
