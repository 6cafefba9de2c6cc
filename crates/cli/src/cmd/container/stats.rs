//! `stats`: one table that is drawn again and again, or once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Client, Request, escape};
use crate::output::human::{binary_size, short_id, size3};
use crate::output::list::{self, Format, Row};
use crate::terminal;

pub(super) const FLAGS: &str = "
    a all bool Show all containers (the default shows those that run)
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-stream bool Show the first result only
    - no-trunc bool Show everything in full";

const TABLE: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// What is known of one container.
#[derive(Debug, Clone, Default)]
struct Sample {
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

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let once = flags.on("no-stream");
    let truncate = !flags.on("no-trunc");
    let format = Format::read(flags.str("format"), app.config.str("statsFormat"), TABLE);
    if once {
        let names = names(client, flags)?;
        let samples = gather(app, &names, truncate)?;
        list::write(samples, &format)?;
        return Ok(0);
    }
    watch(app, flags, &format, truncate)
}

fn names(client: &Client, flags: &Parsed) -> Result<Vec<String>> {
    if !flags.args.is_empty() {
        return Ok(flags.args.clone());
    }
    let path = if flags.on("all") { "/containers/json?all=1" } else { "/containers/json" };
    let all: Vec<super::ps::Summary> = client.get(path)?;
    Ok(all.into_iter().map(|c| c.id).collect())
}

/// One sample of each, all at the same time: the daemon takes about a second for one.
fn gather(app: &App, names: &[String], truncate: bool) -> Result<Vec<Sample>> {
    let client = app.client()?;
    let mut pending = Vec::new();
    for name in names {
        pending
            .push((name, client.begin(Request::new("GET", format!("/containers/{}/stats?stream=0", escape(name))))?));
    }
    let mut samples = Vec::new();
    for (name, request) in pending {
        let mut response = request.head()?;
        let bytes = response.body().map_err(|e| crate::net::client::broken("reading stats", e))?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
        samples.push(sample(name, &value, truncate));
    }
    Ok(samples)
}

/// Draws the table twice a second from streams that threads read.
fn watch(app: &App, flags: &Parsed, format: &Format, truncate: bool) -> Result<u8> {
    let client = app.client()?;
    let shared: Arc<Mutex<BTreeMap<String, Sample>>> = Arc::default();
    let mut order: Vec<String> = Vec::new();
    let follow_new = flags.args.is_empty();
    loop {
        if follow_new || order.is_empty() {
            let current = names(client, flags)?;
            for name in current.iter().filter(|n| !order.contains(n)) {
                follow(client, name, truncate, &shared)?;
            }
            order = current;
        }
        std::thread::sleep(Duration::from_millis(500));
        let rows: Vec<Sample> = match shared.lock() {
            Ok(map) => {
                order.iter().map(|name| map.get(name).cloned().unwrap_or_else(|| unknown(name, truncate))).collect()
            }
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

fn unknown(name: &str, truncate: bool) -> Sample {
    Sample { container: name.to_owned(), truncate, ..Sample::default() }
}

fn follow(client: &Client, name: &str, truncate: bool, shared: &Arc<Mutex<BTreeMap<String, Sample>>>) -> Result<()> {
    let response = client.begin(Request::new("GET", format!("/containers/{}/stats?stream=1", escape(name))))?.head()?;
    let (name, shared) = (name.to_owned(), Arc::clone(shared));
    std::thread::spawn(move || {
        for line in BufReader::new(response).lines().map_while(std::result::Result::ok) {
            if let (Ok(value), Ok(mut map)) = (serde_json::from_str::<Value>(&line), shared.lock()) {
                map.insert(name.clone(), sample(&name, &value, truncate));
            }
        }
        if let Ok(mut map) = shared.lock() {
            map.insert(name.clone(), Sample { id: "gone".to_owned(), ..unknown(&name, truncate) });
        }
    });
    Ok(())
}

fn sample(name: &str, value: &Value, truncate: bool) -> Sample {
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
        container: name.to_owned(),
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
    ];

    fn field(&self, name: &str) -> String {
        let id = if self.truncate { short_id(&self.id) } else { &self.id };
        match name {
            "Container" => self.container.clone(),
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
