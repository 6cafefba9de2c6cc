//! Small questions about one container: `top`, `port`, `diff`, `export`, `commit`, `update`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use droste_model::reference::Reference;
use serde_json::{Value, json};

use super::lifecycle::each;
use crate::app::App;
use crate::create::resources;
use crate::error::{CliError, Result, io_text, open_error};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape};
use crate::output::progress::Counter;
use crate::output::table;
use crate::terminal;

pub(super) const EXPORT: &str = "
    o output string Write to a file instead of STDOUT";
pub(super) const COMMIT: &str = "
    a author string Author (\"Ada Lovelace <ada@example.org>\")
    c change list Apply a Dockerfile instruction to the image
    m message string Message
    p pause bool=true Pause the container meanwhile";
pub(super) const UPDATE: &str = "
    - blkio-weight uint16 Block I/O weight relative to others, from 10 to 1000, or 0 for none
    - cpu-period int Period of the CPU quota, in microseconds
    - cpu-quota int CPU time per period, in microseconds
    - cpu-rt-period int Period of real-time CPU, in microseconds
    - cpu-rt-runtime int Real-time CPU per period, in microseconds
    c cpu-shares int CPU shares relative to others
    - cpus decimal Number of CPUs
    - cpuset-cpus string CPUs to run on (0-3, 0,1)
    - cpuset-mems string Memory nodes to use (0-3, 0,1)
    !- kernel-memory bytes Kernel memory limit
    m memory bytes Memory limit
    - memory-reservation bytes Memory that the container should keep within
    - memory-swap bytes/bytes-or-unlimited Limit of memory and swap together; -1 for no limit of swap
    - pids-limit int Limit of processes; -1 for none
    - restart string When to restart: no, on-failure[:N], always, unless-stopped";

pub(super) fn top(app: &App, flags: &Parsed) -> Result<u8> {
    let path = Query::new()
        .some("ps_args", &flags.args[1..].join(" "))
        .on(&format!("/containers/{}/top", escape(&flags.args[0])));
    let answer: Value = app.client()?.get(path)?;
    let line = |cells: &Value| {
        let cells = cells.as_array().into_iter().flatten().filter_map(Value::as_str);
        cells.collect::<Vec<_>>().join("\t") + "\n"
    };
    let mut text = line(&answer["Titles"]);
    answer["Processes"].as_array().into_iter().flatten().for_each(|p| text.push_str(&line(p)));
    io::stdout().lock().write_all(table::align(&text, 20, 3).as_bytes())?;
    Ok(0)
}

pub(super) fn port(app: &App, flags: &Parsed) -> Result<u8> {
    let name = &flags.args[0];
    let container: Value = app.client()?.get(format!("/containers/{}/json", escape(name)))?;
    let ports = container["NetworkSettings"]["Ports"].as_object();
    let bindings = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.map(|b| {
            let (ip, port) = (b["HostIp"].as_str().unwrap_or(""), b["HostPort"].as_str().unwrap_or(""));
            if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
        })
        .collect()
    };
    let mut lines = Vec::new();
    match flags.args.get(1) {
        None => {
            for (port, list) in ports.into_iter().flatten() {
                lines.extend(bindings(list).into_iter().map(|b| format!("{port} -> {b}")));
            }
            lines.sort_by_key(|line| line.split('/').next().and_then(|n| n.parse::<u16>().ok()));
        }
        Some(asked) => {
            let wanted = if asked.contains('/') { asked.clone() } else { format!("{asked}/tcp") };
            let found = ports.and_then(|all| all.get(&wanted)).map(bindings).unwrap_or_default();
            if found.is_empty() {
                return Err(CliError::new(format!("Error: No public port '{asked}' published for {name}")));
            }
            lines = found;
        }
    }
    for line in lines {
        println!("{line}");
    }
    Ok(0)
}

pub(super) fn diff(app: &App, flags: &Parsed) -> Result<u8> {
    let changes: Option<Vec<Value>> = app.client()?.get(format!("/containers/{}/changes", escape(&flags.args[0])))?;
    for change in changes.unwrap_or_default() {
        let kind = match change["Kind"].as_i64() {
            Some(1) => 'A',
            Some(2) => 'D',
            _ => 'C',
        };
        println!("{kind} {}", change["Path"].as_str().unwrap_or(""));
    }
    Ok(0)
}

pub(super) fn export(app: &App, flags: &Parsed) -> Result<u8> {
    let path = format!("/containers/{}/export", escape(&flags.args[0]));
    download(app, path, flags.str("output"), ("Exported", "failed to export container"))?;
    Ok(0)
}

/// Says why nothing can be written there, before anything is asked for.
fn check_output(output: &str) -> std::result::Result<(), String> {
    let folder = Path::new(output).parent().filter(|folder| !folder.as_os_str().is_empty());
    let missing = folder.and_then(|folder| std::fs::metadata(folder).err().map(|e| (folder, e)));
    match missing {
        Some((folder, error)) => Err(format!("stat {}: {}", folder.display(), io_text(&error))),
        None => Ok(()),
    }
}

/// Writes an answer's body to a file or to standard output, which must not be a terminal.
pub(crate) fn download(app: &App, path: String, output: &str, (label, failed): (&str, &str)) -> Result<()> {
    if output.is_empty() && terminal::stdout_is_terminal() {
        return Err(CliError::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    check_output(output).map_err(|why| CliError::new(format!("{failed}: invalid output path: {why}")))?;
    let mut response = app.client()?.send(Request::new("GET", path))?;
    if output.is_empty() {
        io::copy(&mut response, &mut io::stdout().lock())?;
        return Ok(());
    }
    let draft = format!("{output}.droste-{}", std::process::id());
    let place = if std::fs::metadata(output).is_ok_and(|m| !m.is_file()) { output } else { draft.as_str() };
    let file = File::create(place).map_err(|e| open_error(output, e))?;
    let copied = io::copy(&mut response, &mut Counter::new(file, label, None, false));
    let outcome = copied.and_then(|_| if place == output { Ok(()) } else { std::fs::rename(&draft, output) });
    outcome.map_err(|e| {
        let _ = std::fs::remove_file(&draft);
        CliError::io(format!("writing {output}"), e)
    })
}

pub(super) fn commit(app: &App, flags: &Parsed) -> Result<u8> {
    let (mut repo, mut tag) = (String::new(), String::new());
    if let Some(text) = flags.args.get(1).filter(|t| !t.is_empty()) {
        let reference: Reference = text.parse().map_err(|e| CliError::new(format!("{e}")))?;
        let reference = reference.or_latest();
        repo = reference.name();
        reference.tag().unwrap_or("").clone_into(&mut tag);
    }
    let mut query = Query::new().some("author", flags.str("author"));
    for change in flags.all("change") {
        query = query.add("changes", change);
    }
    query = query.some("comment", flags.str("message")).add("container", &flags.args[0]);
    if flags.switch("pause") == Some(false) {
        query = query.add("pause", "0");
    }
    let path = query.some("repo", &repo).some("tag", &tag).on("/commit");
    let made: Value = app.client()?.call(Request::new("POST", path))?;
    println!("{}", made["Id"].as_str().unwrap_or_default());
    Ok(0)
}

pub(super) fn update(app: &App, flags: &Parsed) -> Result<u8> {
    if !flags.any() {
        return Err(CliError::new("you must provide one or more flags when using this command"));
    }
    let body = resources::update(flags)?;
    let client = app.client()?;
    let warnings = std::cell::RefCell::new(Vec::new());
    let outcome = each(&flags.args, |name| {
        let path = format!("/containers/{}/update", escape(name));
        let answer: Value = client.call(Request::new("POST", path).json(&body))?;
        let list = answer.get("Warnings").cloned().unwrap_or(json!([]));
        warnings
            .borrow_mut()
            .extend(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        Ok(None)
    });
    for warning in warnings.into_inner() {
        println!("{warning}");
    }
    outcome
}
