//! `stats`: one table that is drawn again and again, or once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::ps::{LEVELS, Summary};
use crate::app::{AT, App};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, broken, escape, no_levels};
use crate::output::human::{binary_size, short_id, size3};
use crate::output::list::{self, Format, Row};
use crate::terminal;

pub(super) const FLAGS: &str = "
    a all bool Show all containers (the default shows those that run)
    - all-levels bool Show the containers of all hosts below this one, too (the machine's own socket only)
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-stream bool Show the first result only
    - no-trunc bool Show everything in full";

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// What is known of one container.
#[derive(Debug, Clone, Default)]
struct Sample {
    host: Option<String>,
    container: String,
    id: String,
    name: String,
    cpu: f64,
    memory: f64,
    limit: f64,
    received: f64,
    sent: f64,
    read: f64,
    written: f64,
    pids: u64,
    known: bool,
    truncate: bool,
}

/// A container to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    /// The path of its host, if all levels are shown.
    host: Option<String>,
    name: String,
    /// What is shown for it: what was typed, or the short id.
    shown: String,
}

impl Target {
    /// The request for its statistics.
    fn request(&self, app: &App, stream: bool) -> Request<'static> {
        let path = format!("/containers/{}/stats?stream={}", escape(&self.name), u8::from(stream));
        let request = Request::new("GET", path);
        match &self.host {
            Some(host) => request.header(AT, app.path_from_here(host)),
            None => request,
        }
    }

    /// What is shown before anything is known.
    fn unknown(&self, truncate: bool) -> Sample {
        Sample { host: self.host.clone(), container: self.shown.clone(), truncate, ..Sample::default() }
    }
}

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let levels = flags.on("all-levels");
    if levels && !flags.args.is_empty() {
        return Err(CliError::new("--all-levels shows all containers: leave out their names, or use droste --at PATH"));
    }
    let truncate = !flags.on("no-trunc");
    let table = if levels { format!("{{{{.Host}}}}\t{TABLE}") } else { TABLE.to_owned() };
    let format = Format::read(flags.str("format"), app.config.str("statsFormat"), &table);
    if flags.on("no-stream") {
        let samples = gather(app, flags, truncate)?;
        list::write(samples, &format)?;
        return Ok(0);
    }
    watch(app, flags, &format, truncate)
}

fn targets(app: &App, flags: &Parsed) -> Result<Vec<Target>> {
    if !flags.args.is_empty() {
        return Ok(flags
            .args
            .iter()
            .map(|name| Target { host: None, name: name.clone(), shown: name.clone() })
            .collect());
    }
    let levels = flags.on("all-levels");
    let path = Query::new().flag("all", flags.on("all")).on(if levels { LEVELS } else { "/containers/json" });
    let all: Vec<Summary> = app.client()?.get(path).map_err(|e| if levels { no_levels(e) } else { e })?;
    Ok(all.into_iter().map(|c| Target { host: c.host, shown: short_id(&c.id).to_owned(), name: c.id }).collect())
}

/// Of a container that nobody named, and that is gone since it was listed, there is nothing to say.
fn unless_gone<T>(outcome: Result<T>, flags: &Parsed) -> Result<Option<T>> {
    match outcome {
        Err(error) if flags.args.is_empty() && error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

/// One sample of each, all at the same time: the daemon takes about a second for one.
fn gather(app: &App, flags: &Parsed, truncate: bool) -> Result<Vec<Sample>> {
    let client = app.client()?;
    let mut pending = Vec::new();
    for target in targets(app, flags)? {
        let request = client.begin(target.request(app, false))?;
        pending.push((target, request));
    }
    let mut samples = Vec::new();
    for (target, request) in pending {
        let Some(mut response) = unless_gone(request.head(), flags)? else { continue };
        let bytes = response.body().map_err(|e| broken("reading stats", e))?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
        samples.push(sample(&target, &value, truncate));
    }
    Ok(samples)
}

/// What is known of each container; threads fill it.
type Known = Arc<Mutex<BTreeMap<Target, Sample>>>;

/// Draws the table twice a second from streams that threads read.
fn watch(app: &App, flags: &Parsed, format: &Format, truncate: bool) -> Result<u8> {
    let known: Known = Arc::default();
    let mut order: Vec<Target> = Vec::new();
    let follow_new = flags.args.is_empty();
    loop {
        if follow_new || order.is_empty() {
            let current = targets(app, flags)?;
            for target in current.iter().filter(|t| !order.contains(t)) {
                unless_gone(follow(app, target, truncate, &known), flags)?;
            }
            order = current;
        }
        std::thread::sleep(Duration::from_millis(500));
        let rows: Vec<Sample> = match known.lock() {
            Ok(map) => order.iter().map(|t| map.get(t).cloned().unwrap_or_else(|| t.unknown(truncate))).collect(),
            Err(_) => Vec::new(),
        };
        if !follow_new && rows.iter().all(|r| !r.known && r.id == "gone") {
            return Ok(0);
        }
        let text = list::render(rows, format)?;
        let clear = if terminal::stdout_is_terminal() { "\x1b[H\x1b[J" } else { "" };
        let mut out = std::io::stdout().lock();
        write!(out, "{clear}{text}")?;
        out.flush()?;
    }
}

fn follow(app: &App, target: &Target, truncate: bool, known: &Known) -> Result<()> {
    let response = app.client()?.begin(target.request(app, true))?.head()?;
    let (target, known) = (target.clone(), Arc::clone(known));
    std::thread::spawn(move || {
        for line in BufReader::new(response).lines().map_while(std::result::Result::ok) {
            if let (Ok(value), Ok(mut map)) = (serde_json::from_str::<Value>(&line), known.lock()) {
                map.insert(target.clone(), sample(&target, &value, truncate));
            }
        }
        if let Ok(mut map) = known.lock() {
            let gone = Sample { id: "gone".to_owned(), ..target.unknown(truncate) };
            map.insert(target, gone);
        }
    });
    Ok(())
}

fn sample(target: &Target, value: &Value, truncate: bool) -> Sample {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let memory = &value["memory_stats"];
    let usage = number(&memory["usage"]);
    let cache = ["total_inactive_file", "inactive_file"]
        .iter()
        .map(|key| number(&memory["stats"][*key]))
        .find(|cache| *cache > 0.0 && *cache < usage)
        .unwrap_or(0.0);
    let networks = value["networks"].as_object();
    let traffic = |key: &str| networks.into_iter().flatten().map(|(_, n)| number(&n[key])).sum();
    let block = |op: &str| {
        let entries = value["blkio_stats"]["io_service_bytes_recursive"].as_array().into_iter().flatten();
        entries
            .filter(|e| e["op"].as_str().is_some_and(|o| o.eq_ignore_ascii_case(op)))
            .map(|e| number(&e["value"]))
            .sum()
    };
    Sample {
        host: target.host.clone(),
        container: target.shown.clone(),
        id: value["id"].as_str().unwrap_or("").to_owned(),
        name: value["name"].as_str().unwrap_or("").trim_start_matches('/').to_owned(),
        cpu: cpu(value),
        memory: usage - cache,
        limit: number(&memory["limit"]),
        received: traffic("rx_bytes"),
        sent: traffic("tx_bytes"),
        read: block("read"),
        written: block("write"),
        pids: value["pids_stats"]["current"].as_u64().unwrap_or(0),
        known: true,
        truncate,
    }
}

fn cpu(value: &Value) -> f64 {
    let used = |part: &str| value[part]["cpu_usage"]["total_usage"].as_f64().unwrap_or(0.0);
    let system = |part: &str| value[part]["system_cpu_usage"].as_f64().unwrap_or(0.0);
    let (delta, whole) = (used("cpu_stats") - used("precpu_stats"), system("cpu_stats") - system("precpu_stats"));
    let online = value["cpu_stats"]["online_cpus"].as_f64().filter(|n| *n > 0.0).unwrap_or_else(|| {
        value["cpu_stats"]["cpu_usage"]["percpu_usage"].as_array().map_or(1.0, |list| list.len() as f64)
    });
    if delta > 0.0 && whole > 0.0 { delta / whole * online * 100.0 } else { 0.0 }
}

impl Row for Sample {
    const TYPE: &'static str = "*container.statsContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
        ("Host", "HOST"),
    ];

    fn has(&self, name: &str) -> bool {
        name != "Host" || self.host.is_some()
    }

    fn field(&self, name: &str) -> String {
        let id = if self.truncate { short_id(&self.id) } else { &self.id };
        match name {
            "Container" => self.container.clone(),
            "Host" => self.host.clone().unwrap_or_default(),
            "Name" if self.name.is_empty() => "--".to_owned(),
            "Name" => self.name.clone(),
            "ID" if self.known => id.to_owned(),
            "ID" => short_id(&self.container).to_owned(),
            "MemUsage" if !self.known => "-- / --".to_owned(),
            _ if !self.known => "--".to_owned(),
            "CPUPerc" => format!("{:.2}%", self.cpu),
            "MemUsage" => format!("{} / {}", binary_size(self.memory), binary_size(self.limit)),
            "MemPerc" => format!("{:.2}%", if self.limit > 0.0 { self.memory / self.limit * 100.0 } else { 0.0 }),
            "NetIO" => format!("{} / {}", size3(self.received), size3(self.sent)),
            "BlockIO" => format!("{} / {}", size3(self.read), size3(self.written)),
            "PIDs" => self.pids.to_string(),
            _ => String::new(),
        }
    }
}
