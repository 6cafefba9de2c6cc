//! `tree`: the hosts below this one and what runs on them, from `GET /droste/tree`.
//!
//! The answer is `{"hosts":[NODE]}`, the first being the host that was asked. A NODE has `id`, `name`, `level`,
//! `kind` ("host" or "container"), `state`, `image`, `ports` (texts as in `ps`), `cpu_percent`, `memory_bytes`
//! (numbers or null) and `children`. A container that is a host has kind "host" and its containers as children.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::Request;
use crate::output::human::{binary_size, short_id};
use crate::output::{indent, table};
use crate::terminal;

pub(super) const FLAGS: &str = "
    - format string=tree Format of the output: 'tree' or 'json'
    w watch bool Draw the tree again every second";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    hosts: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    id: String,
    name: String,
    kind: String,
    state: String,
    image: String,
    ports: Option<Vec<String>>,
    cpu_percent: Option<f64>,
    memory_bytes: Option<f64>,
    children: Vec<Node>,
}

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let format = flags.get("format").unwrap_or("tree");
    if !matches!(format, "tree" | "json") {
        return Err(CliError::new(format!("unknown format {format:?}: a tree is shown as 'tree' or as 'json'")));
    }
    loop {
        let bytes = app.client()?.bytes(Request::new("GET", "/droste/tree").unversioned()).map_err(|e| match e {
            CliError::Api { status: 404, .. } => CliError::new("this daemon is no Droste: it has no tree of hosts"),
            other => other,
        })?;
        let text = if format == "json" {
            indent::indent(&String::from_utf8_lossy(&bytes), "", "    ") + "\n"
        } else {
            let answer: Answer = serde_json::from_slice(&bytes)
                .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
            draw(&answer.hosts)
        };
        let mut out = std::io::stdout().lock();
        if flags.on("watch") && terminal::stdout_is_terminal() {
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        if !flags.on("watch") {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn draw(hosts: &[Node]) -> String {
    let mut text = "HOST / CONTAINER\tID\tIMAGE\tSTATE\tCPU %\tMEMORY\tPORTS\n".to_owned();
    for host in hosts {
        line(host, "", "", &mut text);
    }
    table::align(&text, 10, 3)
}

fn line(node: &Node, branch: &str, indent: &str, text: &mut String) {
    let mark = if node.kind == "host" { "◆ " } else { "" };
    let cells = [
        format!("{branch}{mark}{}", node.name),
        short_id(&node.id).to_owned(),
        node.image.clone(),
        node.state.clone(),
        node.cpu_percent.map_or_else(String::new, |cpu| format!("{cpu:.2}%")),
        node.memory_bytes.map_or_else(String::new, binary_size),
        node.ports.as_deref().unwrap_or_default().join(", "),
    ];
    text.push_str(&cells.join("\t"));
    text.push('\n');
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        let branch = format!("{indent}{}", if last { "└─ " } else { "├─ " });
        let indent = format!("{indent}{}", if last { "   " } else { "│  " });
        line(child, &branch, &indent, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_levels() {
        let answer: Answer = serde_json::from_str(
            r#"{"hosts":[{"id":"m","name":"machine","level":0,"kind":"host","state":"running","image":"","ports":[],
            "cpu_percent":null,"memory_bytes":null,"children":[
              {"id":"0123456789abcdef","name":"ci-1","level":1,"kind":"host","state":"running","image":"ci:1","ports":["80/tcp"],
               "cpu_percent":1.5,"memory_bytes":1048576,"children":[
                 {"id":"b","name":"build","level":2,"kind":"container","state":"exited","image":"bb","ports":null,"children":[]}]},
              {"id":"c","name":"web","level":1,"kind":"container","state":"running","image":"w","children":[]}]}]}"#,
        )
        .unwrap();
        let shown = draw(&answer.hosts);
        let names: Vec<&str> =
            shown.lines().map(|l| l.trim_start_matches(['│', ' '])).map(|l| l.split("   ").next().unwrap()).collect();
        assert_eq!(names, ["HOST / CONTAINER", "◆ machine", "├─ ◆ ci-1", "└─ build", "└─ web"]);
        assert!(shown.contains("│  └─ build"));
        assert!(shown.contains("0123456789ab   ci:1      running   1.50%     1MiB      80/tcp"));
    }
}
