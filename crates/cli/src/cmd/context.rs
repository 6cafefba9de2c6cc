//! Commands on contexts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app::{App, Arity, Command};
use crate::cmd::container::each;
use crate::config::write_private;
use crate::context::{DEFAULT, Store, current_name, metadata, variable};
use crate::error::{CliError, Result, open_error};
use crate::flags::Parsed;
use crate::output::inspect;
use crate::output::list::{self, Format, Row};
use crate::values::{csv, parse_bool};

const LS: &str = "
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    q quiet bool Show names only";
const CREATE: &str = "
    - description string Description of the context
    - docker stringToString Endpoint: host=…,ca=…,cert=…,key=…,skip-tls-verify=…,from=…
    - from string Context to copy";
const UPDATE: &str = "
    - description string Description of the context
    - docker stringToString Endpoint: host=…,ca=…,cert=…,key=…,skip-tls-verify=…,from=…";
const INSPECT: &str = "
    f format string Format of the output: 'json' or a Go template";
const RM: &str = "
    f force bool Remove a context that is in use too";

const fn command(
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: "", group: "context", names, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(&["create"], "[OPTIONS] CONTEXT", "Create a context", CREATE, Arity::Exactly(1), create),
    command(
        &["export"],
        "CONTEXT [FILE|-]",
        "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        "",
        Arity::Between(1, 2),
        export,
    ),
    command(&["import"], "CONTEXT FILE|-", "Import a context from a tar file", "", Arity::Exactly(2), import),
    command(
        &["inspect"],
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        INSPECT,
        Arity::Any,
        show_details,
    ),
    command(&["ls", "list"], "[OPTIONS]", "List contexts", LS, Arity::None, ls),
    command(&["rm", "remove"], "CONTEXT [CONTEXT...]", "Remove one or more contexts", RM, Arity::AtLeast(1), rm),
    command(&["show"], "", "Print the name of the current context", "", Arity::None, show),
    command(&["update"], "[OPTIONS] CONTEXT", "Update a context", UPDATE, Arity::Exactly(1), update),
    command(&["use"], "CONTEXT", "Set the current docker context", "", Arity::Exactly(1), choose),
];

/// One context of the list.
struct Entry {
    name: String,
    description: String,
    endpoint: String,
    current: bool,
}

impl Row for Entry {
    const TYPE: &'static str = "*formatter.clientContextContext";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Current", "CURRENT"),
        ("Error", "ERROR"),
    ];

    fn field(&self, name: &str) -> String {
        match name {
            "Name" => self.name.clone(),
            "Description" => self.description.clone(),
            "DockerEndpoint" => self.endpoint.clone(),
            "Current" => self.current.to_string(),
            _ => String::new(),
        }
    }

    fn json_value(&self, name: &str) -> Value {
        if name == "Current" { self.current.into() } else { self.field(name).into() }
    }
}

fn ls(app: &App, flags: &Parsed) -> Result<u8> {
    let current = current_name(&app.globals, &app.config);
    let store = Store::new(&app.config);
    let mut rows = vec![Entry {
        name: DEFAULT.to_owned(),
        description: "Current DOCKER_HOST based configuration".to_owned(),
        endpoint: default_endpoint(app),
        current: current == DEFAULT,
    }];
    for meta in store.list() {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let name = text(&meta["Name"]);
        let endpoint = text(&meta["Endpoints"]["docker"]["Host"]);
        rows.push(Entry {
            current: name == current,
            description: text(&meta["Metadata"]["Description"]),
            endpoint,
            name,
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let format = match flags.str("format") {
        "" | "table" if flags.on("quiet") => Format::Lines("{{.Name}}".to_owned()),
        given => {
            let table =
                "{{.Name}}{{if eq .Current \"true\"}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
            Format::read(given, "", table)
        }
    };
    list::write(rows, &format)?;
    if variable("DOCKER_HOST").is_some() && app.globals.context.is_none() {
        eprintln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

fn default_endpoint(app: &App) -> String {
    let globals = crate::app::Globals { context: None, ..app.globals.clone() };
    let named = globals.host.clone().or_else(|| variable("DOCKER_HOST"));
    named.unwrap_or_else(|| crate::net::endpoint::Endpoint::default_local().url)
}

fn show(app: &App, _flags: &Parsed) -> Result<u8> {
    println!("{}", current_name(&app.globals, &app.config));
    Ok(0)
}

fn choose(app: &App, flags: &Parsed) -> Result<u8> {
    let name = &flags.args[0];
    if name != DEFAULT {
        Store::new(&app.config).load(name)?;
    }
    app.config.edit(|map| {
        map.shift_remove("currentContext");
        if name != DEFAULT {
            map.insert("currentContext".to_owned(), name.as_str().into());
        }
    })?;
    println!("{name}");
    eprintln!("Current context is now {name:?}");
    if name != DEFAULT && variable("DOCKER_HOST").is_some() {
        eprintln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

fn check_name(name: &str) -> Result<()> {
    if name == DEFAULT {
        return Err(CliError::new("\"default\" is a reserved context name"));
    }
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() > 1
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'));
    if valid {
        return Ok(());
    }
    Err(CliError::new(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

/// What `--docker` says.
#[derive(Default)]
struct Wanted {
    host: String,
    skip_verify: bool,
    files: Vec<(&'static str, PathBuf)>,
    from: String,
}

fn wanted(given: &[String]) -> Result<Wanted> {
    let mut out = Wanted::default();
    for field in given.iter().flat_map(|text| csv(text)) {
        let (key, value) =
            field.split_once('=').ok_or_else(|| CliError::new(format!("{field} must be formatted as key=value")))?;
        match key {
            "host" => value.clone_into(&mut out.host),
            "from" => value.clone_into(&mut out.from),
            "ca" => out.files.push(("ca.pem", value.into())),
            "cert" => out.files.push(("cert.pem", value.into())),
            "key" => out.files.push(("key.pem", value.into())),
            "skip-tls-verify" => {
                out.skip_verify = parse_bool(value)
                    .ok_or_else(|| CliError::new(format!("skip-tls-verify: invalid value {value:?}")))?;
            }
            _ => {
                return Err(CliError::new(format!(
                    "unable to create docker endpoint config: unrecognized config key: {key}"
                )));
            }
        }
    }
    if !out.host.is_empty() {
        crate::net::endpoint::Endpoint::parse(&out.host, None)?;
    }
    Ok(out)
}

fn copy_tls(store: &Store, name: &str, files: &[(&str, PathBuf)]) -> Result<()> {
    for (file, source) in files {
        let bytes = fs::read(source).map_err(|e| open_error(&source.to_string_lossy(), e))?;
        write_private(&store.tls_folder(name).join("docker").join(file), &bytes)?;
    }
    Ok(())
}

fn create(app: &App, flags: &Parsed) -> Result<u8> {
    let name = &flags.args[0];
    check_name(name)?;
    let store = Store::new(&app.config);
    if store.exists(name) {
        return Err(CliError::new(format!("context {name:?} already exists")));
    }
    let mut endpoint = wanted(flags.all("docker"))?;
    let from = if endpoint.from.is_empty() { flags.str("from").to_owned() } else { endpoint.from.clone() };
    let mut description = flags.str("description").to_owned();
    if !from.is_empty() && from != DEFAULT {
        let meta = store.load(&from)?;
        let docker = &meta["Endpoints"]["docker"];
        endpoint.host = docker["Host"].as_str().unwrap_or("").to_owned();
        endpoint.skip_verify = docker["SkipTLSVerify"].as_bool().unwrap_or(false);
        if description.is_empty() {
            description = meta["Metadata"]["Description"].as_str().unwrap_or("").to_owned();
        }
        let folder = store.tls_folder(&from).join("docker");
        let there = ["ca.pem", "cert.pem", "key.pem"].into_iter().map(|file| (file, folder.join(file)));
        endpoint.files = there.filter(|(_, path)| path.exists()).collect();
    } else if endpoint.host.is_empty() {
        endpoint.host = default_endpoint(app);
    }
    copy_tls(&store, name, &endpoint.files)?;
    store.save(&metadata(name, &description, &endpoint.host, endpoint.skip_verify))?;
    println!("{name}");
    eprintln!("Successfully created context {name:?}");
    Ok(0)
}

fn update(app: &App, flags: &Parsed) -> Result<u8> {
    let name = &flags.args[0];
    check_name(name)?;
    let store = Store::new(&app.config);
    let mut meta = store.load(name)?;
    if let Some(description) = flags.get("description") {
        meta["Metadata"]["Description"] = description.into();
    }
    if flags.given("docker") {
        let endpoint = wanted(flags.all("docker"))?;
        meta["Endpoints"]["docker"] = json!({"Host": endpoint.host, "SkipTLSVerify": endpoint.skip_verify});
        copy_tls(&store, name, &endpoint.files)?;
    }
    store.save(&meta)?;
    println!("{name}");
    eprintln!("Successfully updated context {name:?}");
    Ok(0)
}

fn rm(app: &App, flags: &Parsed) -> Result<u8> {
    let store = Store::new(&app.config);
    let current = current_name(&app.globals, &app.config);
    each(&flags.args, |name| {
        if name == DEFAULT {
            return Err(CliError::new("context \"default\" cannot be removed"));
        }
        if !store.exists(name) {
            if flags.on("force") {
                return Ok(None);
            }
            return Err(CliError::new(format!("context {name:?} does not exist")));
        }
        if name == current {
            if !flags.on("force") {
                return Err(CliError::new(format!("context {name:?} is in use, set -f flag to force remove")));
            }
            app.config.edit(|map| {
                map.shift_remove("currentContext");
            })?;
        }
        store.remove(name).map(|()| None)
    })
}

fn show_details(app: &App, flags: &Parsed) -> Result<u8> {
    let current = [current_name(&app.globals, &app.config)];
    let names = if flags.args.is_empty() { &current[..] } else { &flags.args[..] };
    let store = Store::new(&app.config);
    inspect::write(names, flags.str("format"), |name| {
        let mut value =
            if name == DEFAULT { metadata(DEFAULT, "", &default_endpoint(app), false) } else { store.load(name)? };
        let mut files: Vec<String> = fs::read_dir(store.tls_folder(name).join("docker"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        value["TLSMaterial"] = if files.is_empty() { json!({}) } else { json!({"docker": files}) };
        let place = |path: PathBuf| {
            if name == DEFAULT { "<IN MEMORY>".to_owned() } else { path.to_string_lossy().into_owned() }
        };
        value["Storage"] =
            json!({"MetadataPath": place(store.meta_folder(name)), "TLSPath": place(store.tls_folder(name))});
        Ok(value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").into_bytes())
    })
}

fn export(app: &App, flags: &Parsed) -> Result<u8> {
    let name = &flags.args[0];
    let store = Store::new(&app.config);
    let meta = match name.as_str() {
        DEFAULT => metadata(DEFAULT, "", &default_endpoint(app), false),
        name => store.load(name)?,
    };
    let target = flags.args.get(1).cloned().unwrap_or_else(|| format!("{name}.dockercontext"));
    let out: Box<dyn Write> = if target == "-" {
        if crate::terminal::stdout_is_terminal() {
            return Err(CliError::new("cowardly refusing to export to a terminal, specify a file path"));
        }
        Box::new(std::io::stdout())
    } else {
        Box::new(File::create_new(&target).map_err(|e| open_error(&target, e))?)
    };
    let fail = |e| CliError::io(format!("writing {target}"), e);
    let mut builder = tar::Builder::new(out);
    let text = meta.to_string();
    let mut head = tar::Header::new_gnu();
    head.set_mode(0o644);
    head.set_size(text.len() as u64);
    builder.append_data(&mut head, "meta.json", text.as_bytes()).map_err(fail)?;
    let mut add = |path: &Path, inside: &str| builder.append_path_with_name(path, inside).map_err(fail);
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let path = store.tls_folder(name).join("docker").join(file);
        if path.exists() {
            add(&path, &format!("tls/docker/{file}"))?;
        }
    }
    builder.into_inner().map_err(fail)?;
    if target != "-" {
        eprintln!("Written file {target:?}");
    }
    Ok(0)
}

fn import(app: &App, flags: &Parsed) -> Result<u8> {
    let (name, source) = (&flags.args[0], &flags.args[1]);
    check_name(name)?;
    let store = Store::new(&app.config);
    if store.exists(name) {
        return Err(CliError::new(format!("context {name:?} already exists")));
    }
    let reader: Box<dyn Read> = if source == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(source).map_err(|e| open_error(source, e))?)
    };
    let fail = |e| CliError::io(format!("reading {source}"), e);
    let mut meta: Option<Value> = None;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    // A context is small; what is larger is none.
    let mut archive = tar::Archive::new(reader.take(10 << 20));
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(fail)?;
        match path.as_str() {
            "meta.json" => meta = serde_json::from_slice(&bytes).ok(),
            "tls/docker/ca.pem" | "tls/docker/cert.pem" | "tls/docker/key.pem" => {
                files.push((path.rsplit('/').next().unwrap_or("").to_owned(), bytes));
            }
            _ => {}
        }
    }
    let mut meta = meta.ok_or_else(|| CliError::new("invalid context: no metadata found"))?;
    meta["Name"] = name.as_str().into();
    for (file, bytes) in files {
        write_private(&store.tls_folder(name).join("docker").join(file), &bytes)?;
    }
    store.save(&meta)?;
    println!("{name}");
    eprintln!("Successfully imported context {name:?}");
    Ok(0)
}
