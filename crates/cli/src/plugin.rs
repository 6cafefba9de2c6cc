//! Docker's client plugins: programs `docker-NAME` in known folders that describe themselves when asked, and take
//! over the commands of their name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::App;
use crate::context;
use crate::error::{CliError, Result, io_text};

const FOLDERS: &[&str] = &[
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// A plugin that described itself.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) vendor: String,
}

fn folders(app: &App) -> Vec<PathBuf> {
    let mut all = vec![app.config.dir.join("cli-plugins")];
    let extra = app.config.value().get("cliPluginsExtraDirs").and_then(Value::as_array);
    all.extend(extra.into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from));
    all.extend(FOLDERS.iter().map(PathBuf::from));
    all
}

/// The program of a plugin.
pub(crate) fn find(app: &App, name: &str) -> Option<PathBuf> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return None;
    }
    let alias = match name {
        "builder" | "bake" => "buildx",
        other => other,
    };
    folders(app).into_iter().map(|folder| folder.join(format!("docker-{alias}"))).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Every plugin that is installed.
pub(crate) fn all(app: &App) -> Vec<Plugin> {
    let mut found: Vec<Plugin> = Vec::new();
    for folder in folders(app) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|f| f.strip_prefix("docker-")) else { continue };
            if found.iter().all(|p| p.name != name) {
                found.extend(describe(name, &entry.path()));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn describe(name: &str, path: &Path) -> Option<Plugin> {
    let output = Command::new(path).arg("docker-cli-plugin-metadata").stderr(Stdio::null()).output().ok()?;
    let value: Value = serde_json::from_slice(&output.stdout).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    Some(Plugin {
        name: name.to_owned(),
        path: path.to_owned(),
        description: text("ShortDescription"),
        version: text("Version"),
        vendor: text("Vendor"),
    })
}

/// Becomes the plugin. `words` begin with the command's name, `all` is the whole command line with global options.
pub(crate) fn run(app: &App, name: &str, words: &[String], all: &[String]) -> Result<u8> {
    let path = find(app, name).ok_or_else(|| {
        CliError::new(format!(
            "droste: '{name}' needs the Docker CLI plugin of that name, and none is installed: \
             put docker-{} into {} or {}",
            if matches!(name, "builder" | "bake") { "buildx" } else { name },
            app.config.dir.join("cli-plugins").display(),
            FOLDERS[3],
        ))
    })?;
    let mut args = plain_globals(all, words);
    if matches!(name, "builder" | "bake") {
        // `builder X` is `buildx X`, `bake` is `buildx bake`.
        args.push("buildx".to_owned());
        args.extend(words.iter().skip(usize::from(name == "builder")).cloned());
    } else {
        args.extend(words.iter().cloned());
    }
    if words.iter().skip(1).any(|word| NO_ENGINE.contains(&word.as_str())) {
        app.leave_daemon_alone();
    }
    Err(replace(app, &path, &args))
}

/// Words with which a plugin describes itself; no daemon is started for them.
const NO_ENGINE: &[&str] = &["--help", "-h", "help", "version", "--version"];

/// The options before the command, without the one that only we know.
fn plain_globals(all: &[String], words: &[String]) -> Vec<String> {
    let before = &all[..all.len().saturating_sub(words.len())];
    let mut out = Vec::new();
    let mut skip = false;
    for word in before {
        if std::mem::take(&mut skip) {
            continue;
        }
        if word == "--at" {
            skip = true;
        } else if !word.starts_with("--at=") {
            out.push(word.clone());
        }
    }
    out
}

/// Executes a program in our place; it returns only if that failed.
pub(crate) fn replace(app: &App, path: &Path, args: &[String]) -> CliError {
    let mut command = Command::new(path);
    command.args(args);
    let own = std::env::args_os().next().unwrap_or_else(|| "droste".into());
    command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", own);
    let named = app.globals.host.is_some() || context::current_name(&app.globals, &app.config) != context::DEFAULT;
    match app.endpoint() {
        // A plugin knows Docker's default socket only.
        Ok(endpoint) if !named => {
            if endpoint.implicit
                && let Err(error) = endpoint.connect()
            {
                return error;
            }
            command.env("DOCKER_HOST", &endpoint.url);
        }
        Ok(_) => {}
        Err(error) => return error,
    }
    if let Some(at) = &app.globals.at {
        let mut headers = context::variable("DOCKER_CUSTOM_HEADERS").map(|h| h + ",").unwrap_or_default();
        headers.push_str(&format!("Droste-At={at}"));
        command.env("DOCKER_CUSTOM_HEADERS", headers);
    }
    let error = command.exec();
    CliError::new(format!("droste: running {}: {}", path.display(), io_text(&error)))
}
