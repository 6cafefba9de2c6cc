//! Images in and out: `pull`, `push`, `save`, `load`, `import`.

use std::fs::File;
use std::io::{self, Read};

use droste_model::reference::Reference;
use serde_json::Value;

use crate::app::App;
use crate::cmd::container::{download, pull_reference};
use crate::cmd::inspect::platform_json;
use crate::credentials;
use crate::error::{CliError, Result, open_error};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape_path};
use crate::net::http::Body;
use crate::output::progress::{Counter, Progress};
use crate::terminal;

pub(super) const PULL: &str = "
    a all-tags bool Pull every tag of the repository
    - disable-content-trust bool=true Skip image verification
    - platform string Platform, if the registry has several
    q quiet bool Say only what was pulled";
pub(super) const PUSH: &str = "
    a all-tags bool Push every tag of the repository
    - disable-content-trust bool=true Skip image signing
    - platform string Push the image of this platform alone (os[/arch[/variant]])
    q quiet bool Say only what was pushed";
pub(super) const SAVE: &str = "
    o output string Write to a file instead of STDOUT
    - platform string Save this platform alone (os[/arch[/variant]])";
pub(super) const LOAD: &str = "
    i input string Read a file instead of STDIN
    - platform string Load this platform alone (os[/arch[/variant]])
    q quiet bool Say only what was loaded";
pub(super) const IMPORT: &str = "
    c change list Apply a Dockerfile instruction to the image
    m message string Message of the import
    - platform string Platform, if the daemon has several";

pub(super) fn pull(app: &App, flags: &Parsed) -> Result<u8> {
    let reference: Reference = flags.args[0].parse().map_err(|e| CliError::new(format!("{e}")))?;
    let all = flags.on("all-tags");
    if all && (reference.tag().is_some() || reference.digest().is_some()) {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    let quiet = flags.on("quiet");
    let bare = reference.tag().is_none() && reference.digest().is_none();
    let reference = if all { reference } else { reference.or_latest() };
    if bare && !all && !quiet {
        println!("Using default tag: latest");
    }
    pull_reference(app, &reference, flags.str("platform"), quiet, false)?;
    println!("{reference}");
    Ok(0)
}

pub(super) fn push(app: &App, flags: &Parsed) -> Result<u8> {
    let reference: Reference = flags.args[0].parse().map_err(|e| CliError::new(format!("{e}")))?;
    let all = flags.on("all-tags");
    if all && reference.tag().is_some() {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    let bare = reference.tag().is_none() && reference.digest().is_none();
    let reference = if all { reference } else { reference.or_latest() };
    let quiet = flags.on("quiet");
    if bare && !all && !quiet {
        println!("Using default tag: latest");
    }
    let platform = flags.get("platform").map(checked_platform).transpose()?.unwrap_or_default();
    let path = Query::new()
        .some("platform", &platform)
        .some("tag", reference.tag().unwrap_or(""))
        .on(&format!("/images/{}/push", escape_path(&reference.name())));
    let auth = credentials::header(app, reference.domain())?;
    let request =
        Request::new("POST", path).json(&Value::Object(serde_json::Map::new())).header("X-Registry-Auth", auth);
    let response = app.client()?.send(request)?;
    Progress::new(false, quiet).follow(response)?;
    if quiet {
        println!("{reference}");
    }
    Ok(0)
}

/// A platform as the API takes it.
fn checked_platform(text: &str) -> Result<String> {
    if text.split('/').count() > 3 {
        let why = "cannot parse platform specifier: invalid argument";
        return Err(CliError::new(format!("invalid platform: {text:?}: {why}")));
    }
    Ok(platform_json(text).to_string())
}

pub(super) fn save(app: &App, flags: &Parsed) -> Result<u8> {
    let mut query = Query::new();
    for name in &flags.args {
        query = query.add("names", name);
    }
    if let Some(platform) = flags.get("platform").filter(|p| !p.is_empty()) {
        query = query.add("platform", &checked_platform(platform)?);
    }
    download(app, query.on("/images/get"), flags.str("output"), ("Saved", "failed to save image"))?;
    Ok(0)
}

pub(super) fn load(app: &App, flags: &Parsed) -> Result<u8> {
    let input = flags.str("input");
    if input.is_empty() && terminal::stdin_is_terminal() {
        return Err(CliError::new("requested load from stdin, but stdin is empty"));
    }
    let quiet = flags.on("quiet") || !terminal::stdout_is_terminal();
    let platform = flags.get("platform").map(checked_platform).transpose()?.unwrap_or_default();
    let path = Query::new().some("platform", &platform).add("quiet", if quiet { "1" } else { "0" }).on("/images/load");
    let (mut file, total) = open(input)?;
    let mut counted = Counter::new(&mut *file, "Loading", total, flags.on("quiet"));
    let body = Body::Stream { reader: &mut counted, kind: "application/x-tar" };
    let response = app.client()?.send(Request::new("POST", path).body(body))?;
    drop(counted);
    if response.head.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        Progress::new(false, false).follow(response)?;
    } else {
        let mut response = response;
        io::copy(&mut response, &mut io::stdout().lock())?;
    }
    Ok(0)
}

/// A file, or standard input for an empty name, and its size if it has one.
fn open(name: &str) -> Result<(Box<dyn Read>, Option<u64>)> {
    if name.is_empty() || name == "-" {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(name).map_err(|e| open_error(name, e))?;
    let size = file.metadata().ok().map(|meta| meta.len());
    Ok((Box::new(file), size))
}

pub(super) fn import(app: &App, flags: &Parsed) -> Result<u8> {
    let source = flags.args[0].as_str();
    let remote = source.contains("://");
    let mut query = Query::new();
    for change in flags.all("change") {
        query = query.add("changes", change);
    }
    query = query.add("fromSrc", if remote { source } else { "-" }).some("message", flags.str("message"));
    query = query.some("platform", flags.str("platform"));
    if let Some(name) = flags.args.get(1).filter(|n| !n.is_empty()) {
        let _: Reference = name.parse().map_err(|e| CliError::new(format!("{e}")))?;
        query = query.add("repo", name);
    }
    let request = Request::new("POST", query.on("/images/create"));
    let client = app.client()?;
    let response = if remote {
        client.send(request)?
    } else {
        let (mut file, total) = open(source)?;
        let mut counted = Counter::new(&mut *file, "Importing", total, false);
        client.send(request.body(Body::Stream { reader: &mut counted, kind: "application/x-tar" }))?
    };
    Progress::new(false, false).follow(response)?;
    Ok(0)
}
