//! `config.json` as Docker's client keeps it. It is read when the first value is wanted, and rewritten with every key
//! that this client does not know left as it was.

use std::cell::OnceCell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{CliError, Result};

/// The folder of the configuration and its file.
pub(crate) struct Config {
    /// Usually `~/.docker`.
    pub(crate) dir: PathBuf,
    value: OnceCell<Value>,
}

impl Config {
    pub(crate) fn new(dir: Option<&str>) -> Self {
        let dir = dir.filter(|d| !d.is_empty()).map_or_else(default_dir, PathBuf::from);
        Self { dir, value: OnceCell::new() }
    }

    /// The file's content; an unreadable file is reported once and taken for an empty one.
    pub(crate) fn value(&self) -> &Value {
        self.value.get_or_init(|| {
            let path = self.file();
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        eprintln!("WARNING: Error loading config file: {}: {error}", path.display());
                    }
                    return Value::Null;
                }
            };
            serde_json::from_str(&text).unwrap_or_else(|error| {
                eprintln!("WARNING: Error loading config file: {}: {error}", path.display());
                Value::Null
            })
        })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// A text value; empty if it is not there.
    pub(crate) fn str(&self, key: &str) -> &str {
        self.value().get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// A table of values.
    pub(crate) fn map(&self, key: &str) -> Option<&Map<String, Value>> {
        self.value().get(key).and_then(Value::as_object)
    }

    /// Changes the file: read, edited, and put in place of the old one at once.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let mut map = match self.value() {
            Value::Object(map) => map.clone(),
            _ => Map::new(),
        };
        change(&mut map);
        let path = self.file();
        // A link stays one: what it points to is replaced.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let text = indented(&Value::Object(map));
        write_private(&path, text.as_bytes())
    }
}

/// Writes a file that only its owner may read, in place of the old one at once.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = |e| CliError::io(format!("writing {}", path.display()), e);
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(fail)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(fail)?;
    }
    let draft = folder.join(format!(".droste-{}", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    fs::rename(&draft, path).map_err(fail)
}

fn default_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
        return PathBuf::from(dir);
    }
    home().join(".docker")
}

/// The user's home folder.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").filter(|h| !h.is_empty()).map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

/// JSON with tabs, as Docker's client writes its own files.
pub(crate) fn indented(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    if serde::Serialize::serialize(value, &mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(out).unwrap_or_default()
}
