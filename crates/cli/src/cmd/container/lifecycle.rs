//! Commands that do one thing to each container named: `stop`, `restart`, `kill`, `rm`, `pause`, `unpause`, `wait`,
//! `rename`.

use serde_json::Value;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, escape};

pub(super) const STOP: &str = "
    s signal string Signal to send
    t timeout int Seconds to wait before the container is killed
    !- time int Seconds to wait before the container is killed";
pub(super) const KILL: &str = "
    s signal string Signal to send";
pub(super) const RM: &str = "
    f force bool Remove a running container too (it is killed)
    l link bool Remove the link of that name
    v volumes bool Remove its nameless volumes";

/// Does something to everything named, prints the names (or the texts, if not empty) of those with which it went well,
/// and fails with what did not.
pub(crate) fn each(names: &[String], act: impl Fn(&str) -> Result<Option<String>>) -> Result<u8> {
    let mut errors = Vec::new();
    for name in names {
        match act(name) {
            Ok(Some(text)) if text.is_empty() => {}
            Ok(text) => println!("{}", text.as_deref().unwrap_or(name)),
            Err(error @ CliError::Connect(_)) => return Err(error),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(CliError::new(errors.join("\n"))) }
}

fn post_each(app: &App, flags: &Parsed, path: impl Fn(&str) -> String) -> Result<u8> {
    let client = app.client()?;
    each(&flags.args, |name| client.post(path(&escape(name))).map(|_| None))
}

fn timed(flags: &Parsed) -> Query {
    let timeout = flags.get("timeout").or(flags.get("time")).unwrap_or("");
    Query::new().some("signal", flags.str("signal")).some("t", timeout)
}

pub(super) fn stop(app: &App, flags: &Parsed) -> Result<u8> {
    post_each(app, flags, |id| timed(flags).on(&format!("/containers/{id}/stop")))
}

pub(super) fn restart(app: &App, flags: &Parsed) -> Result<u8> {
    post_each(app, flags, |id| timed(flags).on(&format!("/containers/{id}/restart")))
}

pub(super) fn kill(app: &App, flags: &Parsed) -> Result<u8> {
    post_each(app, flags, |id| Query::new().some("signal", flags.str("signal")).on(&format!("/containers/{id}/kill")))
}

pub(super) fn pause(app: &App, flags: &Parsed) -> Result<u8> {
    post_each(app, flags, |id| format!("/containers/{id}/pause"))
}

pub(super) fn unpause(app: &App, flags: &Parsed) -> Result<u8> {
    post_each(app, flags, |id| format!("/containers/{id}/unpause"))
}

pub(super) fn rm(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let force = flags.on("force");
    each(&flags.args, |name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(CliError::new("container name cannot be empty"));
        }
        let query = Query::new().flag("force", force).flag("link", flags.on("link")).flag("v", flags.on("volumes"));
        match client.delete(query.on(&format!("/containers/{}", escape(name)))) {
            // With --force a container that is gone is what was wanted; Docker's client says so and succeeds.
            Err(error) if force && error.is_not_found() => {
                eprintln!("{error}");
                Ok(Some(String::new()))
            }
            other => other.map(|_| None),
        }
    })
}

pub(super) fn wait(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    each(&flags.args, |name| {
        let answer: Value =
            client.call(crate::net::client::Request::new("POST", format!("/containers/{}/wait", escape(name))))?;
        match answer["Error"]["Message"].as_str() {
            Some(message) if !message.is_empty() => Err(CliError::new(message)),
            _ => Ok(Some(answer["StatusCode"].to_string())),
        }
    })
}

pub(super) fn rename(app: &App, flags: &Parsed) -> Result<u8> {
    let (old, new) = (flags.args[0].trim(), flags.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(CliError::new("Error: Neither old nor new names may be empty"));
    }
    let path = Query::new().add("name", new).on(&format!("/containers/{}/rename", escape(old)));
    app.client()?
        .post(path)
        .map(|_| 0)
        .map_err(|e| CliError::new(format!("{e}\nError: failed to rename container named {old}")))
}
