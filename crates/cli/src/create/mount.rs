//! `--volume`, `--mount` and `--use-api-socket`.

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::endpoint::DOCKER_SOCKET;
use crate::values::{csv, parse_bool, parse_bytes};

/// What `--volume` says.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    pub(crate) binds: Vec<String>,
    /// Paths that get a volume without a name.
    pub(crate) anonymous: Vec<String>,
}

/// Reads `--volume`; a relative source is one below the working folder.
pub(crate) fn volumes(flags: &Parsed) -> Result<Volumes> {
    let mut out = Volumes::default();
    for given in flags.all("volume") {
        match given.split_once(':') {
            Some((source, rest)) if source.starts_with('.') => {
                out.binds.push(format!("{}:{rest}", absolute(source)?));
            }
            Some(_) => out.binds.push(given.clone()),
            None => out.anonymous.push(given.clone()),
        }
    }
    out.binds.sort();
    out.binds.dedup();
    out.anonymous.sort();
    out.anonymous.dedup();
    Ok(out)
}

/// A path made absolute and free of `.` and `..`, without a look at the file system.
pub(crate) fn absolute(path: &str) -> Result<String> {
    let here = std::env::current_dir().map_err(|e| CliError::io("finding the working folder", e))?;
    let mut out = std::path::PathBuf::new();
    for part in here.join(path).components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    Ok(out.to_string_lossy().into_owned())
}

/// Reads `--mount` and `--use-api-socket`.
pub(crate) fn mounts(flags: &Parsed) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for given in flags.all("mount") {
        all.push(parse(given).map_err(CliError::Message)?);
    }
    if flags.on("use-api-socket") {
        all.push(json!({"Type": "bind", "Source": DOCKER_SOCKET, "Target": DOCKER_SOCKET, "BindOptions": {}}));
    }
    Ok(all)
}

#[derive(Default)]
struct Parts {
    mount: Map<String, Value>,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    driver: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
}

/// Reads one `--mount`.
pub(crate) fn parse(given: &str) -> std::result::Result<Value, String> {
    let mut parts = Parts::default();
    let mut kind = "volume".to_owned();
    for field in csv(given) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let value = match (key.as_str(), value) {
            ("readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive", None) => "true",
            (_, Some(value)) => value,
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
        };
        if key == "type" {
            kind = value.to_lowercase();
            continue;
        }
        set(&mut parts, &key, value)?;
    }
    finish(parts, &kind)
}

fn set(parts: &mut Parts, key: &str, value: &str) -> std::result::Result<(), String> {
    let switch = || parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}"));
    match key {
        "source" | "src" => {
            let relative = value.starts_with("./") || value.starts_with("../") || matches!(value, "." | "..");
            let source = if relative { absolute(value).map_err(|e| e.to_string())? } else { value.to_owned() };
            parts.mount.insert("Source".to_owned(), source.into());
        }
        "target" | "dst" | "destination" => {
            parts.mount.insert("Target".to_owned(), value.into());
        }
        "readonly" | "ro" => {
            parts.mount.insert("ReadOnly".to_owned(), switch()?.into());
        }
        "consistency" => {
            parts.mount.insert("Consistency".to_owned(), value.to_lowercase().into());
        }
        "bind-propagation" => {
            parts.bind.insert("Propagation".to_owned(), value.to_lowercase().into());
        }
        "bind-nonrecursive" => {
            parts.bind.insert("NonRecursive".to_owned(), switch()?.into());
        }
        "bind-recursive" => recursive(parts, value)?,
        "volume-subpath" => {
            parts.volume.insert("Subpath".to_owned(), value.into());
        }
        "volume-nocopy" => {
            parts.volume.insert("NoCopy".to_owned(), switch()?.into());
        }
        "volume-label" => pair(&mut parts.volume, "Labels", value),
        "volume-driver" => {
            parts.driver.insert("Name".to_owned(), value.into());
        }
        "volume-opt" => pair(&mut parts.driver, "Options", value),
        "tmpfs-size" => {
            let size = parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            parts.tmpfs.insert("SizeBytes".to_owned(), size.into());
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            parts.tmpfs.insert("Mode".to_owned(), mode.into());
        }
        "image-subpath" => {
            parts.image.insert("Subpath".to_owned(), value.into());
        }
        other => return Err(format!("unexpected key '{other}' in '{other}={value}'")),
    }
    Ok(())
}

fn recursive(parts: &mut Parts, value: &str) -> std::result::Result<(), String> {
    let name = match value {
        "enabled" => return Ok(()),
        "disabled" => "NonRecursive",
        "writable" => "ReadOnlyNonRecursive",
        "readonly" => "ReadOnlyForceRecursive",
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    };
    parts.bind.insert(name.to_owned(), true.into());
    Ok(())
}

fn pair(map: &mut Map<String, Value>, name: &str, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if let Value::Object(inner) = map.entry(name.to_owned()).or_insert_with(|| json!({})) {
        inner.insert(key.to_owned(), value.into());
    }
}

fn finish(mut parts: Parts, kind: &str) -> std::result::Result<Value, String> {
    let mut mount = Map::new();
    mount.insert("Type".to_owned(), kind.into());
    for name in ["Source", "Target", "ReadOnly", "Consistency"] {
        if let Some(value) = parts.mount.remove(name).filter(|v| *v != Value::Bool(false)) {
            mount.insert(name.to_owned(), value);
        }
    }
    if !parts.driver.is_empty() {
        parts.volume.insert("DriverConfig".to_owned(), parts.driver.into());
    }
    if !mount.contains_key("Target") {
        return Err("target is required".to_owned());
    }
    let read_only = mount.contains_key("ReadOnly");
    let private = parts.bind.get("Propagation") == Some(&"rprivate".into());
    if parts.bind.contains_key("ReadOnlyNonRecursive") && !read_only {
        return Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned());
    }
    if parts.bind.contains_key("ReadOnlyForceRecursive") {
        if !read_only {
            return Err(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned()
            );
        }
        if !private {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .to_owned(),
            );
        }
    }
    let families = [
        ("bind", "BindOptions", parts.bind),
        ("volume", "VolumeOptions", parts.volume),
        ("image", "ImageOptions", parts.image),
        ("tmpfs", "TmpfsOptions", parts.tmpfs),
    ];
    for (family, field, options) in families {
        if options.is_empty() {
            continue;
        }
        if family != kind {
            return Err(format!("cannot mix '{family}-*' options with mount type '{kind}'"));
        }
        mount.insert(field.to_owned(), options.into());
    }
    Ok(Value::Object(mount))
}
