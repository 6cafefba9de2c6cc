//! `start` and `attach`: joining containers that exist.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::lifecycle::each;
use super::run::{Resize, begin_wait, detach_keys, exit_code, hijack};
use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Client, Query, Request, escape};
use crate::net::http::Body;
use crate::session::{End, Session, Signals, parse_detach_keys, signal_name};
use crate::terminal::{self, Raw};

pub(super) const START: &str = "
    a attach bool Attach STDOUT and STDERR and pass signals on
    - checkpoint string Restore from this checkpoint
    - checkpoint-dir string Folder of checkpoints
    - detach-keys string Keys that detach from the container
    i interactive bool Attach the container's STDIN";
pub(super) const ATTACH: &str = "
    - detach-keys string Keys that detach from the container
    - no-stdin bool Do not attach STDIN
    - sig-proxy bool=true Pass signals on to the process";

pub(super) fn start(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    if flags.on("attach") || flags.on("interactive") {
        let [name] = flags.args.as_slice() else {
            return Err(CliError::new("you cannot start and attach multiple containers at once"));
        };
        return start_attached(app, flags, name);
    }
    let query =
        Query::new().some("checkpoint", flags.str("checkpoint")).some("checkpoint-dir", flags.str("checkpoint-dir"));
    let failed = std::cell::RefCell::new(Vec::new());
    let outcome = each(&flags.args, |name| {
        let done = client.post(query.clone().on(&format!("/containers/{}/start", escape(name))));
        done.map(|_| None).inspect_err(|_| failed.borrow_mut().push(name.to_owned()))
    });
    outcome.map_err(|error| match error {
        CliError::Message(text) => {
            CliError::new(format!("{text}\nError: failed to start containers: {}", failed.borrow().join(", ")))
        }
        other => other,
    })
}

/// What a session with an existing container needs to know about it.
struct Target {
    id: String,
    tty: bool,
    open_stdin: bool,
    value: Value,
}

fn inspect(client: &Client, name: &str) -> Result<Target> {
    let value: Value = client.get(format!("/containers/{}/json", escape(name)))?;
    Ok(Target {
        id: value["Id"].as_str().unwrap_or(name).to_owned(),
        tty: value["Config"]["Tty"].as_bool().unwrap_or(false),
        open_stdin: value["Config"]["OpenStdin"].as_bool().unwrap_or(false),
        value,
    })
}

fn start_attached(app: &App, flags: &Parsed, name: &str) -> Result<u8> {
    let client = app.client()?;
    let target = inspect(client, name)?;
    let stdin = flags.on("interactive") && target.open_stdin;
    let removed = target.value["HostConfig"]["AutoRemove"].as_bool().unwrap_or(false);
    let wait = begin_wait(client, &target.id, if removed { "removed" } else { "next-exit" })?;
    let visit = Visit { app, client, flags, target: &target, stdin, proxy: !target.tty };
    visit.run(wait, || client.post(format!("/containers/{}/start", target.id)).map(drop), true)
}

pub(super) fn attach(app: &App, flags: &Parsed) -> Result<u8> {
    let client = app.client()?;
    let target = inspect(client, &flags.args[0])?;
    let state = &target.value["State"];
    let is = |name: &str| state[name].as_bool().unwrap_or(false);
    if !is("Running") {
        return Err(CliError::new("You cannot attach to a stopped container, start it first"));
    }
    if is("Paused") {
        return Err(CliError::new("You cannot attach to a paused container, unpause it first"));
    }
    if is("Restarting") {
        return Err(CliError::new("You cannot attach to a restarting container, wait until it is running"));
    }
    let stdin = !flags.on("no-stdin") && target.open_stdin;
    if stdin && target.tty && !terminal::stdin_is_terminal() {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let proxy = flags.switch("sig-proxy").unwrap_or(true) && !target.tty;
    let wait = begin_wait(client, &target.id, "not-running")?;
    let visit = Visit { app, client, flags, target: &target, stdin, proxy };
    visit.run(wait, || Ok(()), false)
}

struct Visit<'a> {
    app: &'a App,
    client: &'a Client,
    flags: &'a Parsed,
    target: &'a Target,
    stdin: bool,
    proxy: bool,
}

impl Visit<'_> {
    /// Attaches, lets `begin` happen, carries the streams, and answers with the container's exit code.
    fn run(
        self,
        wait: crate::net::client::Pending,
        begin: impl FnOnce() -> Result<()>,
        leaving_is_fine: bool,
    ) -> Result<u8> {
        let id = &self.target.id;
        let tty = self.target.tty;
        let keys = detach_keys(self.app, self.flags);
        let path = Query::new()
            .some("detachKeys", self.flags.str("detach-keys"))
            .flag("stderr", true)
            .flag("stdin", self.stdin)
            .flag("stdout", true)
            .flag("stream", true)
            .on(&format!("/containers/{id}/attach"));
        let (stream, early) = hijack(self.client, Request::new("POST", path).body(Body::Upgrade(Vec::new())))?;
        let wait = wait.head()?;
        let signals = if self.proxy || tty { Some(Signals::take(self.proxy)?) } else { None };
        let raw = if self.stdin && tty { Some(Raw::enter()?) } else { None };
        begin()?;
        let resize = Resize { client: self.client, path: format!("/containers/{id}/resize"), on: tty };
        if !leaving_is_fine {
            // A program that is running already draws its screen anew when the size changes.
            resize.nudge();
        }
        resize.send();
        let mut on_signal = |signal: Signal| match signal {
            Signal::SIGWINCH => resize.send(),
            other => {
                let _ = self.client.post(format!("/containers/{id}/kill?signal={}", signal_name(other)));
            }
        };
        let detach_keys = if tty { parse_detach_keys(&keys)? } else { Vec::new() };
        let session = Session { stream, early, raw: tty, stdin: self.stdin, detach_keys, signals: signals.as_ref() };
        let end = session.run(&mut on_signal);
        drop(raw);
        match end? {
            End::Detached if leaving_is_fine => Ok(0),
            End::Detached => Err(CliError::new("read escape sequence")),
            End::Closed => exit_code(wait, signals.as_ref(), on_signal),
        }
    }
}
