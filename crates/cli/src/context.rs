//! Contexts: named daemons in Docker's own store (`contexts/meta/<sha256>/meta.json`, `contexts/tls/<sha256>/docker/`),
//! and the choice of the daemon that a command speaks to.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::Globals;
use crate::config::{Config, write_private};
use crate::error::{CliError, Result, io_text};
use crate::net::endpoint::Endpoint;
use crate::net::tls::TlsFiles;

/// The name of the context that is always there.
pub(crate) const DEFAULT: &str = "default";

/// The store below a configuration folder.
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(config: &Config) -> Self {
        Self { root: config.dir.join("contexts") }
    }

    pub(crate) fn meta_file(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(folder(name)).join("meta.json")
    }

    pub(crate) fn meta_folder(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(folder(name))
    }

    pub(crate) fn tls_folder(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(folder(name))
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.meta_file(name).exists()
    }

    /// A context's description.
    pub(crate) fn load(&self, name: &str) -> Result<Value> {
        let path = self.meta_file(name);
        let text = fs::read(&path).map_err(|e| {
            CliError::new(format!("context {name:?}: context not found: open {}: {}", path.display(), io_text(&e)))
        })?;
        let wrong = |why: String| CliError::new(format!("context {name:?}: reading {}: {why}", path.display()));
        let read: serde_json::Map<String, Value> = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        let parts = ["Metadata", "Endpoints"]
            .into_iter()
            .find(|key| !read.get(*key).is_none_or(|v| v.is_object() || v.is_null()));
        match parts {
            Some(key) => Err(wrong(format!("{key:?} is not an object"))),
            None => Ok(Value::Object(read)),
        }
    }

    pub(crate) fn save(&self, meta: &Value) -> Result<()> {
        let name = meta["Name"].as_str().unwrap_or_default();
        write_private(&self.meta_file(name), meta.to_string().as_bytes())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        for path in [self.meta_folder(name), self.tls_folder(name)] {
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CliError::io(format!("removing {}", path.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every stored context, by name.
    pub(crate) fn list(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.root.join("meta")) else { return Vec::new() };
        let mut all: Vec<Value> = entries
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("meta.json")).ok())
            .filter_map(|text| serde_json::from_slice(&text).ok())
            .collect();
        all.sort_by_key(|meta: &Value| meta["Name"].as_str().unwrap_or_default().to_owned());
        all
    }

    /// The TLS files that a context brings.
    pub(crate) fn tls_files(&self, name: &str, skip_verify: bool) -> Option<TlsFiles> {
        let folder = self.tls_folder(name).join("docker");
        let file = |file: &str| Some(folder.join(file)).filter(|p| p.exists());
        let files = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), skip_verify };
        (files.ca.is_some() || files.cert.is_some() || skip_verify).then_some(files)
    }
}

fn folder(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A context's description as it is stored.
pub(crate) fn metadata(name: &str, description: &str, host: &str, skip_verify: bool) -> Value {
    let mut inner = serde_json::Map::new();
    if !description.is_empty() {
        inner.insert("Description".to_owned(), description.into());
    }
    json!({
        "Name": name,
        "Metadata": inner,
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip_verify}},
    })
}

/// The name of the context in force: `--context`, then nothing if a host is named, then `DOCKER_CONTEXT`,
/// then `currentContext`.
pub(crate) fn current_name(globals: &Globals, config: &Config) -> String {
    if let Some(name) = globals.context.as_deref().filter(|n| !n.is_empty()) {
        return name.to_owned();
    }
    if globals.host.is_some() || variable("DOCKER_HOST").is_some() {
        return DEFAULT.to_owned();
    }
    if let Some(name) = variable("DOCKER_CONTEXT") {
        return name;
    }
    match config.str("currentContext") {
        "" => DEFAULT.to_owned(),
        name => name.to_owned(),
    }
}

/// The daemon that commands speak to.
pub(crate) fn endpoint(globals: &Globals, config: &Config) -> Result<Endpoint> {
    let name = current_name(globals, config);
    if name != DEFAULT {
        let store = Store::new(config);
        let meta = store.load(&name).map_err(unresolved)?;
        let docker = &meta["Endpoints"]["docker"];
        let host = docker["Host"].as_str().unwrap_or_default();
        let tls = store.tls_files(&name, docker["SkipTLSVerify"].as_bool().unwrap_or(false));
        return if host.is_empty() { Ok(Endpoint::default_local()) } else { Endpoint::parse(host, tls) };
    }
    match globals.host.clone().or_else(|| variable("DOCKER_HOST")) {
        Some(host) => Endpoint::parse(&host, globals_tls(globals, config)?).map_err(unresolved),
        None => Ok(Endpoint::default_local()),
    }
}

/// Why it is not known which daemon to use.
pub(crate) fn unresolved(why: impl std::fmt::Display) -> CliError {
    CliError::new(format!("Failed to initialize: unable to resolve docker endpoint: {why}"))
}

fn globals_tls(globals: &Globals, config: &Config) -> Result<Option<TlsFiles>> {
    let verify = globals.tlsverify.unwrap_or_else(|| variable("DOCKER_TLS_VERIFY").is_some());
    let on = verify || globals.tls.unwrap_or_else(|| variable("DOCKER_TLS").is_some());
    if !on {
        return Ok(None);
    }
    let folder = variable("DOCKER_CERT_PATH").map_or_else(|| config.dir.clone(), PathBuf::from);
    let file = |given: &Option<String>, name: &str| match given {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(folder.join(name)).filter(|p| p.exists()),
    };
    // Whoever is to be verified is verified against this file, and not against what the machine trusts.
    let ca = globals.tlscacert.as_ref().map_or_else(|| folder.join("ca.pem"), PathBuf::from);
    if verify && !ca.exists() {
        return Err(unresolved(format!("open {}: no such file or directory", ca.display())));
    }
    Ok(Some(TlsFiles {
        ca: file(&globals.tlscacert, "ca.pem"),
        cert: file(&globals.tlscert, "cert.pem"),
        key: file(&globals.tlskey, "key.pem"),
        skip_verify: !verify,
    }))
}

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_is_no_object_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { root: folder.path().to_owned() };
        fs::create_dir_all(store.meta_folder("c")).unwrap();
        for (text, says) in
            [("\"words\"", "invalid type: string"), ("{\"Endpoints\": 5}", "\"Endpoints\" is not an object")]
        {
            fs::write(store.meta_file("c"), text).unwrap();
            let error = store.load("c").expect_err(says).to_string();
            assert!(error.starts_with("context \"c\": reading ") && error.contains(says), "{error}");
        }
        fs::write(store.meta_file("c"), "{\"Metadata\": null}").unwrap();
        assert!(store.load("c").is_ok());
    }
}
