//! `info`.

use std::io::Write;

use serde_json::{Value, json};

use super::version::DOCKER_VERSION;
use crate::app::App;
use crate::context;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::output::human::binary_size;
use crate::output::list::unescape;
use crate::plugin;
use crate::template::{Template, Val};

pub(super) const FLAGS: &str = "
    f format string Format of the output: 'json' or a Go template";

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    let format = flags.str("format");
    let wants_client =
        format.is_empty() || format == "json" || format.contains("ClientInfo") || format.contains("json .}}");
    let client = if wants_client { client(app) } else { Value::Null };
    let server = app.client().and_then(|c| c.get::<Value>("/info"));
    let mut out = std::io::stdout().lock();
    if !format.is_empty() {
        let mut value = server.as_ref().ok().cloned().unwrap_or_else(|| json!({}));
        if let Err(error) = &server {
            value["ServerErrors"] = json!([error.to_string()]);
        }
        value["ClientInfo"] = client;
        let text = if format == "json" { "{{json .}}".to_owned() } else { unescape(format) };
        let template =
            Template::parse("", &text).map_err(|e| CliError::status(64, format!("template parsing error: {e}")))?;
        let mut text = String::new();
        let done = template.run(&Val::Json(value), &mut text);
        writeln!(out, "{text}")?;
        done.map_err(CliError::Message)?;
        return server.map(|_| 0);
    }
    out.write_all(client_page(&client).as_bytes())?;
    out.write_all(b"\nServer:\n")?;
    let server = server?;
    out.write_all(server_page(&server).as_bytes())?;
    drop(out);
    for warning in server["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{warning}");
    }
    Ok(0)
}

fn client(app: &App) -> Value {
    let plugins: Vec<Value> = plugin::all(app)
        .into_iter()
        .map(|p| {
            json!({"Name": p.name, "Path": p.path.to_string_lossy(), "ShortDescription": p.description,
                "Vendor": p.vendor, "Version": p.version})
        })
        .collect();
    json!({
        "Debug": app.globals.debug, "Version": DOCKER_VERSION, "Context": context::current_name(&app.globals, &app.config),
        "Plugins": plugins, "Warnings": null,
    })
}

fn client_page(client: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut out = format!(
        "Client: Droste {}\n Version:    {}\n Context:    {}\n Debug Mode: {}\n",
        env!("CARGO_PKG_VERSION"),
        text(&client["Version"]),
        text(&client["Context"]),
        client["Debug"]
    );
    let plugins = client["Plugins"].as_array().cloned().unwrap_or_default();
    if !plugins.is_empty() {
        out.push_str(" Plugins:\n");
    }
    for plugin in plugins {
        out.push_str(&format!(
            "  {}: {} ({})\n    Version:  {}\n    Path:     {}\n",
            text(&plugin["Name"]),
            text(&plugin["ShortDescription"]),
            text(&plugin["Vendor"]),
            text(&plugin["Version"]),
            text(&plugin["Path"])
        ));
    }
    out
}

/// Builds the page line by line; what the daemon leaves out is left out.
struct Page(String);

impl Page {
    fn line(&mut self, label: &str, value: &Value) {
        let text = match value {
            Value::Null => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.0.push_str(&format!(" {label}: {text}\n"));
    }

    fn filled(&mut self, label: &str, value: &Value) {
        if value.as_str().is_some_and(|text| !text.is_empty()) {
            self.line(label, value);
        }
    }

    fn words(&mut self, label: &str, value: &Value) {
        let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !words.is_empty() {
            self.0.push_str(&format!(" {label}: {}\n", words.join(" ")));
        }
    }

    fn block(&mut self, label: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.0.push_str(&format!(" {label}:\n"));
            lines.iter().for_each(|line| self.0.push_str(&format!("  {line}\n")));
        }
    }
}

fn server_page(info: &Value) -> String {
    let mut page = Page(String::new());
    page.line("Containers", &info["Containers"]);
    for (label, key) in
        [(" Running", "ContainersRunning"), (" Paused", "ContainersPaused"), (" Stopped", "ContainersStopped")]
    {
        page.line(label, &info[key]);
    }
    page.line("Images", &info["Images"]);
    page.filled("Server Version", &info["ServerVersion"]);
    page.line("Storage Driver", &info["Driver"]);
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        page.line(&format!(" {}", pair[0].as_str().unwrap_or("")), &pair[1]);
    }
    page.line("Logging Driver", &info["LoggingDriver"]);
    page.line("Cgroup Driver", &info["CgroupDriver"]);
    page.line("Cgroup Version", &info["CgroupVersion"]);
    page.0.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Authorization", "Log"] {
        page.words(&format!(" {kind}"), &info["Plugins"][kind]);
    }
    page.block("CDI spec directories", texts(&info["CDISpecDirs"]));
    page.line("Swarm", &info["Swarm"]["LocalNodeState"]);
    runtimes(&mut page, info);
    security(&mut page, info);
    machine(&mut page, info);
    page.0.push('\n');
    page.0
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn runtimes(page: &mut Page, info: &Value) {
    let mut names: Vec<String> =
        info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    names.sort();
    if !names.is_empty() {
        page.0.push_str(&format!(" Runtimes: {}\n", names.join(" ")));
    }
    page.line("Default Runtime", &info["DefaultRuntime"]);
    page.line("Init Binary", &info["InitBinary"]);
    for (label, key) in
        [("containerd version", "ContainerdCommit"), ("runc version", "RuncCommit"), ("init version", "InitCommit")]
    {
        page.line(label, &info[key]["ID"]);
    }
}

fn security(page: &mut Page, info: &Value) {
    let mut lines = Vec::new();
    for option in texts(&info["SecurityOptions"]) {
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("name", name)) => lines.push(name.to_owned()),
                Some(("profile", profile)) => lines.push(format!(" Profile: {profile}")),
                Some((key, value)) => lines.push(format!(" {key}: {value}")),
                None => lines.push(field.to_owned()),
            }
        }
    }
    page.block("Security Options", lines);
}

fn machine(page: &mut Page, info: &Value) {
    for (label, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        page.line(label, &info[key]);
    }
    page.line("Total Memory", &binary_size(info["MemTotal"].as_f64().unwrap_or(0.0)).into());
    for (label, key) in [("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir"), ("Debug Mode", "Debug")]
    {
        page.line(label, &info[key]);
    }
    for (label, key) in [("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")] {
        page.filled(label, &info[key]);
    }
    page.block("Labels", texts(&info["Labels"]));
    page.line("Experimental", &info["ExperimentalBuild"]);
    let registries = &info["RegistryConfig"];
    let mut insecure: Vec<String> = registries["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, config)| config["Secure"] == Value::Bool(false))
        .map(|(name, _)| name.clone())
        .collect();
    insecure.extend(texts(&registries["InsecureRegistryCIDRs"]));
    page.block("Insecure Registries", insecure);
    page.block("Registry Mirrors", texts(&registries["Mirrors"]));
    page.line("Live Restore Enabled", &info["LiveRestoreEnabled"]);
    page.filled("Product License", &info["ProductLicense"]);
}
