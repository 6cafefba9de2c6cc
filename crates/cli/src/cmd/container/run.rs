//! `run` and `create`. The order of requests is Docker's; what may overlap does: the wait is under way while the
//! attach is, and nothing is asked twice.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::pull_image;
use crate::app::App;
use crate::config::Config;
use crate::create;
use crate::error::{CliError, Result, open_error};
use crate::flags::Parsed;
use crate::net::client::{Client, Pending, Query, Request, escape};
use crate::net::http::Body;
use crate::session::{self, End, Session, Signals, parse_detach_keys, signal_name};
use crate::terminal::{self, Raw};

/// What Docker's client sends keys to leave a container with, unless told otherwise.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// `create`.
pub(super) fn create(app: &App, flags: &Parsed) -> Result<u8> {
    let flags = &canonical(flags);
    let request = request(app, flags).map_err(|e| usage_failure(app, e))?;
    let id = make(app, flags, &request)?;
    println!("{id}");
    Ok(0)
}

/// `run`.
pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let flags = &canonical(flags);
    let request = request(app, flags).map_err(|e| usage_failure(app, e))?;
    let detach = flags.on("detach");
    if detach && flags.given("attach") {
        return Err(CliError::new("conflicting options: cannot specify both --attach and --detach"));
    }
    if request.stdin && request.tty && !terminal::stdin_is_terminal() {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let id = make(app, flags, &request).map_err(|e| usage_failure(app, e))?;
    let client = app.client()?;
    if detach {
        client.post(format!("/containers/{id}/start")).map_err(|e| start_failure(app, e))?;
        println!("{id}");
        return Ok(0);
    }
    if !(request.stdin || request.stdout || request.stderr) {
        println!("{id}");
    }
    foreground(app, flags, &request, &id)
}

/// The old names of options stand for the new ones.
fn canonical(flags: &Parsed) -> Parsed {
    let mut flags = flags.clone();
    for (old, new) in [("net", "network"), ("net-alias", "network-alias"), ("dns-opt", "dns-option")] {
        for value in flags.all(old).to_vec() {
            flags.set(new, value);
        }
    }
    flags
}

fn request(app: &App, flags: &Parsed) -> Result<create::Request> {
    let pull = flags.get("pull").unwrap_or("missing");
    if !matches!(pull, "always" | "missing" | "never") {
        return Err(CliError::new(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let console = match terminal::size() {
        Some((rows, columns)) if flags.on("tty") => [rows, columns],
        _ => [0, 0],
    };
    let proxies = proxies(&app.config, &app.endpoint()?.url);
    create::request(flags, &proxies, console)
}

/// The variables that the configuration sets for containers of this daemon.
fn proxies(config: &Config, url: &str) -> Vec<(String, String)> {
    let Some(all) = config.map("proxies") else { return Vec::new() };
    let Some(set) = all.get(url).or_else(|| all.get("default")) else { return Vec::new() };
    let mut out = Vec::new();
    for (key, name) in [
        ("allProxy", "ALL_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("noProxy", "NO_PROXY"),
    ] {
        if let Some(value) = set.get(key).and_then(Value::as_str).filter(|v| !v.is_empty()) {
            out.push((name.to_owned(), value.to_owned()));
            out.push((name.to_lowercase(), value.to_owned()));
        }
    }
    out
}

/// Creates the container, pulling its image first if that is needed and wanted.
fn make(app: &App, flags: &Parsed, request: &create::Request) -> Result<String> {
    use droste_model::reference::{Reference, ReferenceError};
    match request.image.parse::<Reference>() {
        // 64 hex digits are an image's id, which is a fine name for an image that is here.
        Ok(_) | Err(ReferenceError::LooksLikeId(_)) => {}
        Err(error) => return Err(CliError::new(error.to_string())),
    }
    let cidfile = flags.str("cidfile");
    if !cidfile.is_empty() && Path::new(cidfile).exists() {
        return Err(CliError::new(format!(
            "container ID file found, make sure the other container isn't running or delete {cidfile}"
        )));
    }
    let pull = flags.get("pull").unwrap_or("missing");
    let quiet = flags.on("quiet");
    if pull == "always" {
        pull_image(app, &request.image, &request.platform, quiet, true)?;
    }
    let client = app.client()?;
    let path = Query::new().some("name", &request.name).some("platform", &request.platform).on("/containers/create");
    let created: Result<Value> = client.call(Request::new("POST", path.as_str()).json(&request.body));
    let created = match created {
        Err(CliError::Api { status: 404, message })
            if pull == "missing" && message.to_lowercase().contains("image") =>
        {
            eprintln!("Unable to find image '{}' locally", familiar(&request.image));
            pull_image(app, &request.image, &request.platform, quiet, true)?;
            client.call(Request::new("POST", path.as_str()).json(&request.body))?
        }
        other => other?,
    };
    for warning in created["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("WARNING: {warning}");
    }
    let id = created["Id"].as_str().unwrap_or_default().to_owned();
    if !cidfile.is_empty() {
        fs::write(cidfile, &id).map_err(|e| open_error(cidfile, e))?;
    }
    Ok(id)
}

fn familiar(image: &str) -> String {
    image.parse::<droste_model::reference::Reference>().map_or_else(|_| image.to_owned(), |r| r.or_latest().familiar())
}

fn foreground(app: &App, flags: &Parsed, request: &create::Request, id: &str) -> Result<u8> {
    let client = app.client()?;
    let keys = detach_keys(app, flags);
    let condition = if flags.on("rm") { "removed" } else { "next-exit" };
    let wait = client.begin(Request::new("POST", format!("/containers/{id}/wait?condition={condition}")))?;
    let stdin = request.stdin && request.open_stdin;
    let attached = request.stdin || request.stdout || request.stderr;
    let stream = if attached { Some(attach(client, id, request, &keys, flags.given("detach-keys"))?) } else { None };
    let wait = wait.head()?;
    let proxy = flags.switch("sig-proxy").unwrap_or(true);
    let signals = if proxy || request.tty { Some(Signals::take(proxy)?) } else { None };
    let raw = if stdin && request.tty { Some(Raw::enter()?) } else { None };
    if let Err(error) = client.post(format!("/containers/{id}/start")) {
        drop(raw);
        return Err(start_failure(app, error));
    }
    let resize = Resize { client, path: format!("/containers/{id}/resize"), on: request.tty };
    resize.send();
    let mut on_signal = |signal: Signal| match signal {
        Signal::SIGWINCH => resize.send(),
        other => {
            let _ = client.post(format!("/containers/{id}/kill?signal={}", signal_name(other)));
        }
    };
    if let Some((stream, early)) = stream {
        let detach_keys = if request.tty { parse_detach_keys(&keys)? } else { Vec::new() };
        let session = Session { stream, early, raw: request.tty, stdin, detach_keys, signals: signals.as_ref() };
        let end = session.run(&mut on_signal);
        drop(raw);
        if end? == End::Detached {
            return Ok(0);
        }
    }
    exit_code(wait, signals.as_ref(), on_signal)
}

/// The keys to detach with: the option, the configuration, Docker's own.
pub(super) fn detach_keys(app: &App, flags: &Parsed) -> String {
    let configured = match flags.get("detach-keys") {
        Some(keys) => keys,
        None => app.config.str("detachKeys"),
    };
    if configured.is_empty() { DETACH_KEYS.to_owned() } else { configured.to_owned() }
}

type Hijacked = (crate::net::stream::Stream, Vec<u8>);

fn attach(client: &Client, id: &str, request: &create::Request, keys: &str, keys_given: bool) -> Result<Hijacked> {
    let path = Query::new()
        .some("detachKeys", if keys_given { keys } else { "" })
        .flag("stderr", request.stderr)
        .flag("stdin", request.stdin)
        .flag("stdout", request.stdout)
        .flag("stream", true)
        .on(&format!("/containers/{id}/attach"));
    hijack(client, Request::new("POST", path).body(Body::Upgrade(Vec::new())))
}

/// Sends a request that turns its connection into a plain stream.
pub(super) fn hijack(client: &Client, request: Request<'_>) -> Result<Hijacked> {
    let response = client.send(request)?;
    match response.head.status {
        101 | 200 => Ok(response.into_stream()),
        status => Err(CliError::new(format!("unable to upgrade to tcp, received {status}"))),
    }
}

/// Tells the daemon the size of our terminal.
pub(super) struct Resize<'a> {
    pub(super) client: &'a Client,
    pub(super) path: String,
    pub(super) on: bool,
}

impl Resize<'_> {
    /// Sends a size that is one row too large.
    pub(super) fn nudge(&self) {
        if let (true, Some((rows, columns))) = (self.on, terminal::size()) {
            let _ = self.client.post(format!("{}?h={}&w={columns}", self.path, rows.saturating_add(1)));
        }
    }

    /// Sends the size; that a process has ended meanwhile is nobody's error.
    pub(super) fn send(&self) {
        if !self.on || !std::io::stdout().is_terminal() {
            return;
        }
        if let Some((rows, columns)) = terminal::size() {
            let _ = self.client.post(format!("{}?h={rows}&w={columns}", self.path));
        }
    }
}

/// The exit code that a wait answers with.
pub(super) fn exit_code(
    mut wait: crate::net::http::Response,
    signals: Option<&Signals>,
    on_signal: impl FnMut(Signal),
) -> Result<u8> {
    if let (Some(signals), Some(fd)) = (signals, wait.waiting_on()) {
        session::wait_readable(fd, signals, on_signal)?;
    }
    let bytes = wait.body().map_err(|e| crate::net::client::broken("waiting for the container", e))?;
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
    if let Some(message) = answer["Error"]["Message"].as_str().filter(|m| !m.is_empty()) {
        return Err(CliError::status(125, format!("Error waiting for container: {message}")));
    }
    let code = answer["StatusCode"].as_i64().unwrap_or(125);
    Ok(u8::try_from(code & 0xff).unwrap_or(125))
}

/// A wait that has been asked for.
pub(super) fn begin_wait(client: &Client, id: &str, condition: &str) -> Result<Pending> {
    client.begin(Request::new("POST", format!("/containers/{}/wait?condition={condition}", escape(id))))
}

fn usage_failure(app: &App, error: CliError) -> CliError {
    usage_failure_as(app, error, 125)
}

fn usage_failure_as(app: &App, error: CliError, code: u8) -> CliError {
    CliError::status(code, format!("droste: {error}\n\nRun '{} --help' for more information", app.path))
}

/// A container that could not be started: the code says whether its program was missing or could not be run.
fn start_failure(app: &App, error: CliError) -> CliError {
    let text = error.to_string();
    let has = |part: &str| text.contains(part);
    let code =
        if has("executable file not found") || has("no such file or directory") || has("system cannot find the file") {
            127
        } else if has("permission denied") || has("is a directory") {
            126
        } else {
            125
        };
    usage_failure_as(app, error, code)
}
