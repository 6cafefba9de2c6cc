//! `version`: ours, and the daemon's if there is one. It starts none.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::app::App;
use crate::context;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::API_VERSION;
use crate::output::list::unescape;
use crate::output::time;
use crate::template::{Template, Val};

pub(super) const FLAGS: &str = "
    f format string Format of the output: 'json' or a Go template";

/// The version of Docker's client that this one stands in for.
pub(crate) const DOCKER_VERSION: &str = "28.5.2";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    app.leave_daemon_alone();
    let template = match flags.str("format") {
        "" => None,
        "json" => Some("{{json .}}".to_owned()),
        text => Some(unescape(text)),
    };
    let template = template
        .map(|text| Template::parse("version", &text))
        .transpose()
        .map_err(|e| CliError::status(64, format!("template parsing error: {e}")))?;
    let server = app.client().and_then(|client| client.get::<Value>("/version"));
    let value = json!({"Client": client(app), "Server": server.as_ref().ok().map(completed)});
    let mut out = std::io::stdout().lock();
    match template {
        None => out.write_all(page(&value).as_bytes())?,
        Some(template) => {
            let mut text = String::new();
            let done = template.run(&Val::Json(value), &mut text);
            writeln!(out, "{text}")?;
            done.map_err(CliError::Message)?;
        }
    }
    drop(out);
    server.map(|_| 0)
}

/// What this client is.
pub(crate) fn client(app: &App) -> Value {
    let api = app.client().map_or(API_VERSION.to_owned(), |c| c.version());
    json!({
        "Platform": {"Name": format!("Droste {}", env!("CARGO_PKG_VERSION"))}, "Version": DOCKER_VERSION, "ApiVersion": api,
        "DefaultAPIVersion": API_VERSION, "GitCommit": "", "GoVersion": "", "Os": std::env::consts::OS,
        "Arch": architecture(), "BuildTime": "", "Context": context::current_name(&app.globals, &app.config),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An answer without components is one of an old daemon; its fields make the component.
fn completed(server: &Value) -> Value {
    let mut server = server.clone();
    if server["Components"].as_array().is_none_or(Vec::is_empty) {
        let mut details = Map::new();
        for name in ["ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "BuildTime", "Experimental"]
        {
            let text = server[name].as_str().map_or_else(|| server[name].to_string(), str::to_owned);
            details.insert(name.to_owned(), text.into());
        }
        server["Components"] = json!([{"Name": "Engine", "Version": server["Version"], "Details": details}]);
    }
    server
}

fn page(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut out = String::new();
    let mut line = |indent: usize, name: &str, value: String| {
        let name = format!("{}{name}:", " ".repeat(indent));
        out.push_str(&format!("{name:<19} {value}\n"));
    };
    let client = &value["Client"];
    let mut head = format!("Client: {}\n", text(&client["Platform"]["Name"]));
    line(1, "Version", text(&client["Version"]));
    let (api, own) = (text(&client["ApiVersion"]), text(&client["DefaultAPIVersion"]));
    line(1, "API version", if api == own { api } else { format!("{api} (downgraded from {own})") });
    line(1, "OS/Arch", format!("{}/{}", text(&client["Os"]), text(&client["Arch"])));
    line(1, "Context", text(&client["Context"]));
    head.push_str(&out);
    let server = &value["Server"];
    if server.is_null() {
        return head;
    }
    let platform = text(&server["Platform"]["Name"]);
    head.push_str(&format!("\nServer:{}\n", if platform.is_empty() { String::new() } else { format!(" {platform}") }));
    for component in server["Components"].as_array().into_iter().flatten() {
        head.push_str(&component_page(component));
    }
    head
}

fn component_page(component: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let details = &component["Details"];
    let name = text(&component["Name"]);
    let mut lines = vec![("Version".to_owned(), text(&component["Version"]))];
    if name == "Engine" {
        let least = text(&details["MinAPIVersion"]);
        lines.push(("API version".to_owned(), format!("{} (minimum version {least})", text(&details["ApiVersion"]))));
        for (label, key) in [("Go version", "GoVersion"), ("Git commit", "GitCommit")] {
            lines.push((label.to_owned(), text(&details[key])));
        }
        lines.push(("Built".to_owned(), time::built(&text(&details["BuildTime"]))));
        lines.push(("OS/Arch".to_owned(), format!("{}/{}", text(&details["Os"]), text(&details["Arch"]))));
        lines.push(("Experimental".to_owned(), text(&details["Experimental"])));
    } else {
        lines.extend(details.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))));
    }
    let mut out = format!(" {name}:\n");
    for (label, value) in lines {
        let label = format!("  {label}:");
        out.push_str(&format!("{label:<19} {value}\n"));
    }
    out
}
