//! `exec`: make an execution, start it on a hijacked connection, ask how it ended.

use serde_json::{Value, json};

use super::run::{Resize, detach_keys, hijack};
use crate::app::App;
use crate::create::environment;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Request, escape};
use crate::net::http::Body;
use crate::session::{End, Session, Signals, parse_detach_keys};
use crate::terminal::{self, Raw};

pub(super) const FLAGS: &str = "
    d detach bool Run the command in the background
    - detach-keys string Keys that detach from the container
    e env list/env Set environment variables
    - env-file list Read environment variables from a file
    i interactive bool Keep STDIN open even if nothing is attached
    - privileged bool Give the command all privileges of the container's host
    t tty bool Give the command a terminal
    u user string User, as name or number (user[:group])
    w workdir string Working folder";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let detach = flags.on("detach");
    let tty = flags.on("tty");
    let stdin = flags.on("interactive") && !detach;
    if stdin && tty && !terminal::stdin_is_terminal() {
        // A container that is not there is the greater mistake.
        app.client()?.get::<Value>(format!("/containers/{}/json", escape(&flags.args[0])))?;
        return Err(CliError::new("the input device is not a TTY"));
    }
    let client = app.client()?;
    let env = environment::variables(flags, &[])?;
    let size = terminal::size().filter(|_| tty && !detach);
    let body = json!({
        "User": flags.str("user"), "Privileged": flags.on("privileged"), "Tty": tty, "AttachStdin": stdin,
        "AttachStderr": !detach, "AttachStdout": !detach, "DetachKeys": detach_keys_if_set(app, flags),
        "Env": if env.is_empty() { Value::Null } else { env.into() }, "WorkingDir": flags.str("workdir"),
        "Cmd": flags.args[1..], "Detach": false,
    });
    let path = format!("/containers/{}/exec", escape(&flags.args[0]));
    let made: Value = client.call(Request::new("POST", path).json(&body))?;
    let id = made["Id"].as_str().filter(|id| !id.is_empty()).ok_or_else(|| CliError::new("exec ID empty"))?;
    let mut start = json!({"Detach": detach, "Tty": tty});
    if let Some((rows, columns)) = size {
        start["ConsoleSize"] = json!([rows, columns]);
    }
    let path = format!("/exec/{id}/start");
    if detach {
        client.done(Request::new("POST", path).json(&start))?;
        return Ok(0);
    }
    let raw = if stdin && tty { Some(Raw::enter()?) } else { None };
    let signals = if tty { Some(Signals::take(false)?) } else { None };
    let request = Request::new("POST", path).body(Body::Upgrade(start.to_string().into_bytes()));
    let (stream, early) = hijack(client, request)?;
    let resize = Resize { client, path: format!("/exec/{id}/resize"), on: tty };
    let keys = if tty { parse_detach_keys(&detach_keys(app, flags))? } else { Vec::new() };
    // The question for the exit code; a short command has ended by the time a connection stands.
    client.prepare();
    let session = Session { stream, early, raw: tty, stdin, detach_keys: keys, signals: signals.as_ref() };
    let end = session.run(|_| resize.send());
    drop(raw);
    if end? == End::Detached {
        return Err(CliError::new("read escape sequence"));
    }
    let state: Value = client.get(format!("/exec/{id}/json"))?;
    Ok(u8::try_from(state["ExitCode"].as_i64().unwrap_or(0) & 0xff).unwrap_or(1))
}

fn detach_keys_if_set(app: &App, flags: &Parsed) -> String {
    flags.get("detach-keys").unwrap_or_else(|| app.config.str("detachKeys")).to_owned()
}
