//! Who we are to a registry: `auths` in the configuration, `credsStore` and `credHelpers`, and the
//! `docker-credential-X` programs behind them.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Config;
use crate::error::{CliError, Result};

/// The key under which Docker Hub's credentials are kept.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// A user's name and secret for one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) identity_token: String,
}

/// The key of a registry in the configuration.
pub(crate) fn key(domain: &str) -> String {
    if matches!(domain, "docker.io" | "index.docker.io" | "registry-1.docker.io" | "") {
        HUB.to_owned()
    } else {
        domain.to_owned()
    }
}

/// `X-Registry-Auth` for a registry; `{}` if we are nobody there.
pub(crate) fn header(app: &App, domain: &str) -> Result<String> {
    let key = key(domain);
    let found = lookup(&app.config, &key)?;
    Ok(encode(&found.map_or_else(|| json!({}), |c| body(&c, &key))))
}

/// `X-Registry-Config`: all registries that the configuration knows, for a build.
pub(crate) fn header_all(app: &App) -> Result<String> {
    let mut all = serde_json::Map::new();
    for registry in known(&app.config)? {
        if let Some(found) = lookup(&app.config, &registry)? {
            all.insert(registry.clone(), body(&found, &registry));
        }
    }
    Ok(encode(&all.into()))
}

/// Credentials as the API takes them.
pub(crate) fn body(credentials: &Credentials, server: &str) -> Value {
    let mut out = serde_json::Map::new();
    for (name, value) in [
        ("username", credentials.username.as_str()),
        ("password", credentials.password.as_str()),
        ("serveraddress", server),
        ("identitytoken", credentials.identity_token.as_str()),
    ] {
        if !value.is_empty() {
            out.insert(name.to_owned(), value.into());
        }
    }
    out.into()
}

fn encode(value: &Value) -> String {
    URL_SAFE.encode(value.to_string())
}

fn helper(config: &Config, registry: &str) -> Option<String> {
    let own = config.map("credHelpers").and_then(|all| all.get(registry)).and_then(Value::as_str);
    own.or(Some(config.str("credsStore"))).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The registries that have credentials.
fn known(config: &Config) -> Result<Vec<String>> {
    let mut all: Vec<String> = config.map("auths").into_iter().flatten().map(|(name, _)| name.clone()).collect();
    all.extend(config.map("credHelpers").into_iter().flatten().map(|(name, _)| name.clone()));
    if !config.str("credsStore").is_empty() {
        let listed: Value = serde_json::from_str(&call(config.str("credsStore"), "list", "")?).unwrap_or(Value::Null);
        all.extend(listed.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The credentials for a registry, wherever they are kept.
pub(crate) fn lookup(config: &Config, registry: &str) -> Result<Option<Credentials>> {
    if let Some(name) = helper(config, registry) {
        return from_helper(&name, registry);
    }
    let Some(auths) = config.map("auths") else { return Ok(None) };
    let host = |text: &str| {
        let text = text.trim_start_matches("https://").trim_start_matches("http://");
        text.split('/').next().unwrap_or(text).to_owned()
    };
    let entry = auths
        .get(registry)
        .or_else(|| auths.iter().find(|(name, _)| host(name) == host(registry)).map(|(_, entry)| entry));
    Ok(entry.and_then(stored))
}

fn stored(entry: &Value) -> Option<Credentials> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut found =
        Credentials { username: text("username"), password: text("password"), identity_token: text("identitytoken") };
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        user.clone_into(&mut found.username);
        password.trim_end_matches('\0').clone_into(&mut found.password);
    }
    (found != Credentials::default()).then_some(found)
}

fn from_helper(name: &str, registry: &str) -> Result<Option<Credentials>> {
    let answer = match call(name, "get", registry) {
        Ok(answer) => answer,
        Err(error) if error.to_string().contains("credentials not found") => return Ok(None),
        Err(error) => return Err(error),
    };
    let value: Value = serde_json::from_str(&answer)
        .map_err(|e| CliError::new(format!("docker-credential-{name} get: its answer could not be read: {e}")))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (username, secret) = (text("Username"), text("Secret"));
    Ok(Some(if username == "<token>" {
        Credentials { identity_token: secret, ..Credentials::default() }
    } else {
        Credentials { username, password: secret, ..Credentials::default() }
    }))
}

/// Runs a credential helper: the question on its input, the answer on its output, errors there too.
fn call(name: &str, verb: &str, input: &str) -> Result<String> {
    let program = format!("docker-credential-{name}");
    let fail = |e| CliError::io(format!("running {program} {verb}"), e);
    let mut child =
        Command::new(&program).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(fail)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A helper may answer without reading the question.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(fail)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        return Err(CliError::new(format!("error getting credentials - err: {}, out: `{text}`", output.status)));
    }
    Ok(text)
}

/// Keeps credentials; true if they went to the file in plain sight of its readers.
pub(crate) fn store(config: &Config, registry: &str, credentials: &Credentials) -> Result<bool> {
    if let Some(name) = helper(config, registry) {
        let (user, secret) = match credentials.identity_token.as_str() {
            "" => (credentials.username.as_str(), credentials.password.as_str()),
            token => ("<token>", token),
        };
        call(&name, "store", &json!({"ServerURL": registry, "Username": user, "Secret": secret}).to_string())?;
        return Ok(false);
    }
    let auth = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    let mut entry = json!({"auth": auth});
    if !credentials.identity_token.is_empty() {
        entry = json!({"auth": STANDARD.encode(format!("{}:", credentials.username)), "identitytoken": credentials.identity_token});
    }
    config.edit(|map| {
        if let Value::Object(auths) = map.entry("auths").or_insert_with(|| json!({})) {
            auths.insert(registry.to_owned(), entry);
        }
    })?;
    Ok(true)
}

/// Forgets credentials; false if there were none.
pub(crate) fn erase(config: &Config, registry: &str) -> Result<bool> {
    if let Some(name) = helper(config, registry) {
        call(&name, "erase", registry)?;
        return Ok(true);
    }
    let there = config.map("auths").is_some_and(|auths| auths.contains_key(registry));
    if there {
        config.edit(|map| {
            if let Some(Value::Object(auths)) = map.get_mut("auths") {
                auths.shift_remove(registry);
            }
        })?;
    }
    Ok(there)
}
