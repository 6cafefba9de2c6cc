//! `tree`: the hosts below this one and what runs on them, from `GET /droste/tree`.
//!
//! The answer is a node: the host that was asked. A node has `Id`, `Name`, `Image`, `State`, `Status`, `Host` (whether
//! it is a host), `CpuNanos` (CPU time used) and `MemoryBytes` (numbers or null), `Ports` (texts as in `ps`, may be
//! missing) and `Children`.

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
            let root: Node = serde_json::from_slice(&bytes)
                .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
            draw(&root)
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

fn draw(root: &Node) -> String {
    let mut text = "HOST / CONTAINER\tID\tIMAGE\tSTATUS\tCPU TIME\tMEMORY\tPORTS\n".to_owned();
    line(root, "", "", &mut text);
    table::align(&text, 10, 3)
}

fn line(node: &Node, branch: &str, indent: &str, text: &mut String) {
    let mark = if node.host { "◆ " } else { "" };
    let cells = [
        format!("{branch}{mark}{}", node.name),
        short_id(&node.id).to_owned(),
        node.image.clone(),
        if node.status.is_empty() { node.state.clone() } else { node.status.clone() },
        node.cpu_nanos.map_or_else(String::new, |nanos| format!("{:.2}s", nanos / 1e9)),
        node.memory_bytes.map_or_else(String::new, binary_size),
        node.ports.as_deref().unwrap_or_default().join(", "),
    ];
    text.push_str(&cells.join("\t"));
    text.push('\n');
    let children = node.children.as_deref().unwrap_or_default();
    for (at, child) in children.iter().enumerate() {
        let last = at + 1 == children.len();
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
        let root: Node = serde_json::from_str(
            r#"{"Id":"","Name":"machine","Host":true,"State":"running","CpuNanos":null,"Children":[
              {"Id":"0123456789abcdef","Name":"ci-1","Host":true,"Image":"ci:1","Status":"Up 1 second","Ports":["80/tcp"],
               "CpuNanos":1500000000,"MemoryBytes":1048576,"Children":[
                 {"Id":"b","Name":"build","Image":"bb","State":"exited","Children":null}]},
              {"Id":"c","Name":"web","Image":"w","State":"running"}]}"#,
        )
        .unwrap();
        let shown = draw(&root);
        let names: Vec<&str> =
            shown.lines().map(|l| l.trim_start_matches(['│', ' '])).map(|l| l.split("   ").next().unwrap()).collect();
        assert_eq!(names, ["HOST / CONTAINER", "◆ machine", "├─ ◆ ci-1", "└─ build", "└─ web"]);
        assert!(shown.contains("│  └─ build"));
        assert!(shown.contains("0123456789ab   ci:1      Up 1 second   1.50s      1MiB      80/tcp"), "{shown}");
    }
}
