//! `tree`: the hosts below this one and what runs on them, from `GET /droste/tree`.
//!
//! The answer is a node: the host that was asked. A node has `Id`, `Name`, `Image`, `State`, `Status`, `Host` (whether
//! it is a host), `CpuNanos` (CPU time used) and `MemoryBytes` (numbers or null), `Ports` (texts as in `ps`, may be
//! missing) and `Children`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Request, no_levels};
use crate::output::human::{binary_size, short_id};
use crate::output::indent;
use crate::output::list::{self, Format, Row};
use crate::terminal;

pub(super) const FLAGS: &str = "
    - format string Format of the output: 'tree' (the default), 'json', 'table TEMPLATE' or a Go template for each line
    - no-trunc bool Show everything in full
    w watch bool Draw the tree again every second, with the share of a CPU that is used";

const TREE: &str = "{{.Tree}}\t{{.ID}}\t{{.Image}}\t{{.Status}}\t{{.CPU}}\t{{.Memory}}\t{{.Ports}}";
const WATCHED: &str = "{{.Tree}}\t{{.ID}}\t{{.Image}}\t{{.Status}}\t{{.CPUPerc}}\t{{.Memory}}\t{{.Ports}}";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    id: String,
    name: String,
    image: String,
    state: String,
    status: String,
    host: bool,
    cpu_nanos: Option<f64>,
    memory_bytes: Option<f64>,
    ports: Option<Vec<String>>,
    children: Option<Vec<Node>>,
}

/// One line of the drawing.
#[derive(Debug, Default)]
struct Line {
    node: Node,
    /// What is drawn before the name.
    branch: String,
    /// Its path from the host that was asked, as `--at` takes it.
    path: String,
    level: usize,
    /// The share of a CPU since the last drawing.
    share: Option<f64>,
    truncate: bool,
}

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let watch = flags.on("watch");
    let given = flags.str("format");
    let table = if watch { WATCHED } else { TREE };
    let format = Format::read(if given == "tree" { "table" } else { given }, "", table);
    list::check(Line::default(), &format)?;
    let mut meter = Meter::default();
    loop {
        let bytes = app.client()?.bytes(Request::new("GET", "/droste/tree").unversioned()).map_err(no_levels)?;
        let text = if given == "json" {
            indent::indent(&String::from_utf8_lossy(&bytes), "", "    ") + "\n"
        } else {
            let mut lines = lines(read(&bytes)?, !flags.on("no-trunc"));
            meter.measure(&mut lines);
            list::render(lines, &format)?
        };
        show(&text, watch)?;
        if !watch {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(bytes: &[u8]) -> Result<Node> {
    serde_json::from_slice(bytes).map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))
}

/// Writes a drawing; on a terminal that is watched, over the last one.
fn show(text: &str, watch: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if watch && terminal::stdout_is_terminal() {
        write!(out, "\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// What each container had used when it was last drawn.
#[derive(Default)]
struct Meter(BTreeMap<String, (Instant, f64)>);

impl Meter {
    fn measure(&mut self, lines: &mut [Line]) {
        let now = Instant::now();
        let mut used = BTreeMap::new();
        for line in lines {
            let Some(nanos) = line.node.cpu_nanos else { continue };
            line.share = self
                .0
                .get(&line.node.id)
                .map(|(then, before)| (nanos - before).max(0.0) / now.duration_since(*then).as_nanos().max(1) as f64);
            used.insert(line.node.id.clone(), (now, nanos));
        }
        self.0 = used;
    }
}

/// The tree as lines, each host before what is on it.
fn lines(root: Node, truncate: bool) -> Vec<Line> {
    let mut all = Vec::new();
    let top = Line { node: root, path: "/".to_owned(), truncate, ..Line::default() };
    flatten(top, "", &mut all);
    all
}

fn flatten(mut line: Line, indent: &str, all: &mut Vec<Line>) {
    let children = line.node.children.take().unwrap_or_default();
    let (path, level, truncate) = (line.path.clone(), line.level + 1, line.truncate);
    all.push(line);
    let count = children.len();
    for (at, node) in children.into_iter().enumerate() {
        let (branch, below) = if at + 1 == count { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let path = if path == "/" { node.name.clone() } else { format!("{path}/{}", node.name) };
        let line = Line { node, branch: format!("{indent}{branch}"), path, level, share: None, truncate };
        flatten(line, &format!("{indent}{below}"), all);
    }
}

impl Row for Line {
    const TYPE: &'static str = "*tree.Line";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Tree", "HOST / CONTAINER"),
        ("Path", "PATH"),
        ("Level", "LEVEL"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("IsHost", "IS HOST"),
        ("CPU", "CPU TIME"),
        ("CPUPerc", "CPU %"),
        ("Memory", "MEMORY"),
        ("Ports", "PORTS"),
    ];

    fn field(&self, name: &str) -> String {
        let node = &self.node;
        match name {
            "Tree" => format!("{}{}{}", self.branch, if node.host { "◆ " } else { "" }, node.name),
            "Path" => self.path.clone(),
            "Level" => self.level.to_string(),
            "Name" => node.name.clone(),
            "ID" if self.truncate => short_id(&node.id).to_owned(),
            "ID" => node.id.clone(),
            "Image" => node.image.clone(),
            "State" => node.state.clone(),
            "Status" if node.status.is_empty() => node.state.clone(),
            "Status" => node.status.clone(),
            "IsHost" => node.host.to_string(),
            "CPU" => node.cpu_nanos.map_or_else(String::new, |nanos| format!("{:.2}s", nanos / 1e9)),
            "CPUPerc" => self.share.map_or_else(String::new, |share| format!("{:.2}%", share * 100.0)),
            "Memory" => node.memory_bytes.map_or_else(String::new, binary_size),
            "Ports" => node.ports.as_deref().unwrap_or_default().join(", "),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_levels() {
        let root: Node = serde_json::from_str(
            r#"{"Id":"","Name":"machine","Host":true,"State":"running","CpuNanos":null,"Children":[
              {"Id":"0123456789abcdef","Name":"ci-1","Host":true,"Image":"ci:1","Status":"Up 1 second","Ports":["80/tcp"],
               "CpuNanos":1500000000,"MemoryBytes":1048576,"Children":[
                 {"Id":"b","Name":"build","Image":"bb","State":"exited","Children":null}]},
              {"Id":"c","Name":"web","Image":"w","State":"running"}]}"#,
        )
        .unwrap();
        let shown = list::render(lines(root, true), &Format::read("", "", TREE)).unwrap();
        let names: Vec<&str> =
            shown.lines().map(|l| l.trim_start_matches(['│', ' '])).map(|l| l.split("   ").next().unwrap()).collect();
        assert_eq!(names, ["HOST / CONTAINER", "◆ machine", "├─ ◆ ci-1", "└─ build", "└─ web"]);
        assert!(shown.contains("│  └─ build"));
        assert!(shown.contains("0123456789ab   ci:1      Up 1 second   1.50s      1MiB      80/tcp"), "{shown}");
    }
}
