//! `events`.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, broken, no_levels};
use crate::output::list::unescape;
use crate::output::time;
use crate::template::{Template, Val};

pub(super) const FLAGS: &str = "
    - all-levels bool Show the events of all hosts below this one, too (the machine's own socket only)
    f filter filter Show what meets a condition
    - format string Format of the output: 'json' or a Go template
    - since string Begin with events since a time
    - until string End with events until a time";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let moment = |name: &str| match flags.str(name) {
        "" => Ok(String::new()),
        text => time::moment(text),
    };
    let template = match flags.str("format") {
        "" => None,
        "json" => Some(Template::parse("", "{{json .}}")),
        text => Some(Template::parse("", &unescape(text))),
    };
    let template = template.transpose().map_err(|e| CliError::status(64, format!("Error parsing format: {e}")))?;
    if let Some(template) = &template {
        // A mistake shows before there is anything to tell.
        let nothing = Val::Json(complete(json!({"Host": ""})));
        template
            .run(&nothing, &mut String::new())
            .map_err(|e| CliError::status(64, format!("Error parsing format: {e}")))?;
    }
    let levels = flags.on("all-levels");
    let path = Query::new()
        .filters(flags.all("filter"))
        .some("since", &moment("since")?)
        .some("until", &moment("until")?)
        .on(if levels { "/droste/events" } else { "/events" });
    let response = app.client()?.send(Request::new("GET", path)).map_err(|e| if levels { no_levels(e) } else { e })?;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(response).lines() {
        let line = line.map_err(|e| broken("reading events", e))?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Value = serde_json::from_str(&line)
            .map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
        let text = match &template {
            None => sentence(&event),
            Some(template) => {
                let mut text = String::new();
                let event = if flags.str("format") == "json" { event } else { complete(event) };
                template.run(&Val::Json(event), &mut text).map_err(CliError::Message)?;
                text
            }
        };
        writeln!(out, "{text}")?;
        out.flush()?;
    }
    Ok(0)
}

/// An event with all the fields that a template may ask for, whichever the daemon left out.
fn complete(mut event: Value) -> Value {
    let all = json!({
        "status": "", "id": "", "from": "", "Type": "", "Action": "", "Actor": {"ID": "", "Attributes": {}}, "scope": "",
        "time": 0, "timeNano": 0
    });
    if let (Some(event), Value::Object(all)) = (event.as_object_mut(), all) {
        for (name, value) in all {
            event.entry(name).or_insert(value);
        }
    }
    event
}

/// `TIME TYPE ACTION ID (name=value, …)`; of all levels `TIME HOST TYPE …`.
fn sentence(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().filter(|n| *n != 0);
    let nanos = nanos.unwrap_or_else(|| event["time"].as_i64().unwrap_or(0).saturating_mul(1_000_000_000));
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut line = format!(
        "{} {}{} {} {}",
        time::rfc3339_nanos(nanos),
        event["Host"].as_str().map(|host| format!("{host} ")).unwrap_or_default(),
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    );
    let mut attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    attributes.sort();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}
