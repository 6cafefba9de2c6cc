//! `logs`.

use std::io::{Read, Write};

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, broken, escape};
use crate::net::http::Response;
use crate::output::demux::Demux;
use crate::output::time;
use crate::session::Fd;

pub(super) const FLAGS: &str = "
    - details bool Show extra details of the log
    f follow bool Go on as the log grows
    - since string Only what is newer than a time (2013-01-02T13:23:37Z) or a duration (42m)
    n tail string=all Number of lines from the end
    t timestamps bool Show times
    - until string Only what is older than a time (2013-01-02T13:23:37Z) or a duration (42m)";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let moment = |name: &str| match flags.str(name) {
        "" => Ok(String::new()),
        text => time::moment(text).map_err(|e| CliError::new(format!("invalid value for {name:?}: {e}"))),
    };
    let (since, until) = match (moment("since"), moment("until")) {
        (Ok(since), Ok(until)) => (since, until),
        (Err(error), _) | (_, Err(error)) => {
            // A container that is not there is the greater mistake.
            is_terminal(app, &flags.args[0])?;
            return Err(error);
        }
    };
    let path = Query::new()
        .flag("details", flags.on("details"))
        .flag("follow", flags.on("follow"))
        .some("since", &since)
        .flag("stderr", true)
        .flag("stdout", true)
        .some("tail", flags.get("tail").unwrap_or("all"))
        .flag("timestamps", flags.on("timestamps"))
        .some("until", &until)
        .on(&format!("/containers/{}/logs", escape(&flags.args[0])));
    let client = app.client()?;
    let response = client.send(Request::new("GET", path))?;
    let raw = match response.head.header("content-type") {
        Some("application/vnd.docker.multiplexed-stream") => false,
        Some("application/vnd.docker.raw-stream") if client.version() != "1.41" => true,
        // Older daemons do not say which of the two it is.
        _ => is_terminal(app, &flags.args[0])?,
    };
    copy(response, raw)
}

fn is_terminal(app: &App, name: &str) -> Result<bool> {
    let container: serde_json::Value = app.client()?.get(format!("/containers/{}/json", escape(name)))?;
    Ok(container["Config"]["Tty"].as_bool().unwrap_or(false))
}

fn copy(mut response: Response, raw: bool) -> Result<u8> {
    let (mut out, mut err, mut demux) = (Fd::Out, Fd::Err, Demux::default());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let size = response.read(&mut buffer).map_err(|e| broken("reading the log", e))?;
        if size == 0 {
            return Ok(0);
        }
        if raw {
            out.write_all(&buffer[..size])?;
        } else {
            demux.feed(&buffer[..size], &mut out, &mut err)?;
        }
    }
}
