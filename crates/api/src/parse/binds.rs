//! `-v`: `SOURCE:TARGET[:MODE]`, `NAME:TARGET[:MODE]` or `TARGET`.

use std::collections::BTreeMap;

use droste_model::mount::{Mount, MountSource, Propagation};
use droste_model::path::{ClientPath, ContainerPath};

use super::mounts::{mount_error, target, volume_name};
use crate::error::{RequestError, Result};

/// The mode letters of `-v`, each kind at most once.
#[derive(Default)]
pub(super) struct Mode {
    writable: Option<bool>,
    label: Option<()>,
    propagation: Option<Propagation>,
    no_copy: Option<()>,
    consistency: Option<()>,
}

impl Mode {
    /// Reads `ro,z,rshared,…`; `None` if a word is unknown or its kind is given twice.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut mode = Mode::default();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let before = match word {
                "rw" => mode.writable.replace(true).map(drop),
                "ro" => mode.writable.replace(false).map(drop),
                "z" | "Z" => mode.label.replace(()),
                "nocopy" => mode.no_copy.replace(()),
                "consistent" | "cached" | "delegated" | "default" => mode.consistency.replace(()),
                other => mode.propagation.replace(Propagation::parse(other)?).map(drop),
            };
            if before.is_some() {
                return None;
            }
        }
        Some(mode)
    }

    /// Whether no letter says what only the container that made a mount can say.
    pub(super) fn suits_volumes_from(&self) -> bool {
        self.propagation.is_none() && self.no_copy.is_none()
    }

    fn read_only(&self) -> bool {
        self.writable == Some(false)
    }
}

/// Docker answers 500 to a wrong `-v`.
fn invalid_spec(raw: &str, reason: Option<String>) -> RequestError {
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    RequestError::server(format!("invalid volume specification: '{raw}'{reason}"))
}

/// Reads one `-v` value.
pub(super) fn bind(raw: &str) -> Result<Mount> {
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, place, mode_text) = match parts[..] {
        ["", ..] => return Err(invalid_spec(raw, None)),
        [place] => ("", place, ""),
        [_, mode] if Mode::parse(mode).is_some() => return Err(invalid_spec(raw, None)),
        [source, place] => (source, place, ""),
        [source, place, mode] => (source, place, mode),
        _ => return Err(invalid_spec(raw, None)),
    };
    let mode = Mode::parse(mode_text).ok_or_else(|| RequestError::server(format!("invalid mode: {mode_text}")))?;
    let path = ClientPath::absolute(source);
    let kind = if path.is_some() { "bind" } else { "volume" };
    let spec_error = |error: RequestError| invalid_spec(raw, Some(error.message));
    let target = target(kind, place).map_err(spec_error)?;
    let source = match path {
        Some(source) => bind_source(source, &mode).map_err(spec_error)?,
        None => volume_source(source, &mode, spec_error)?,
    };
    Ok(mount(source, target, &mode, mode_text, raw))
}

fn bind_source(source: ClientPath, mode: &Mode) -> Result<MountSource> {
    if mode.no_copy.is_some() {
        return Err(mount_error("bind", "field VolumeOptions must not be specified"));
    }
    Ok(MountSource::Bind { source, create: true, non_recursive: false })
}

fn volume_source(name: &str, mode: &Mode, spec_error: impl Fn(RequestError) -> RequestError) -> Result<MountSource> {
    if mode.propagation.is_some() {
        return Err(spec_error(mount_error("volume", "field BindOptions must not be specified")));
    }
    Ok(MountSource::Volume {
        name: (!name.is_empty()).then(|| volume_name(name)).transpose()?,
        no_copy: mode.no_copy.is_some(),
        subpath: None,
        driver: String::new(),
        driver_opts: BTreeMap::new(),
        labels: BTreeMap::new(),
    })
}

fn mount(source: MountSource, target: ContainerPath, mode: &Mode, mode_text: &str, raw: &str) -> Mount {
    Mount {
        source,
        target,
        read_only: mode.read_only(),
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        propagation: mode.propagation.unwrap_or_default(),
        mode: mode_text.to_owned(),
        typed: Some(raw.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read() {
        let host = bind("/src/../a:/dst/:ro,z,rshared").unwrap();
        assert!(matches!(&host.source, MountSource::Bind { source, create: true, .. } if source.as_str() == "/a"));
        assert_eq!((host.target.as_str(), host.read_only, host.propagation), ("/dst", true, Propagation::RShared));
        assert_eq!((host.mode.as_str(), host.typed.as_deref()), ("ro,z,rshared", Some("/src/../a:/dst/:ro,z,rshared")));
        let volume = bind("vol:/b/../c:nocopy").unwrap();
        assert!(
            matches!(&volume.source, MountSource::Volume { name: Some(name), no_copy: true, .. } if name.as_str() == "vol")
        );
        assert_eq!(volume.target.as_str(), "/c");
        assert!(matches!(bind("/b").unwrap().source, MountSource::Volume { name: None, .. }));
        assert!(bind("/tmp:/b:").is_ok() && bind("/tmp:/b:cached").is_ok());
    }

    #[test]
    fn errors_are_dockers() {
        for (raw, message) in [
            ("", "invalid volume specification: ''"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:", "invalid volume specification: '/a:'"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:/b:c:d", "invalid volume specification: '/a:/b:c:d'"),
            ("/a:/b:foo", "invalid mode: foo"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:rshared,shared", "invalid mode: rshared,shared"),
            (
                "a",
                "invalid volume specification: 'a': invalid mount config for type \"volume\": invalid mount path: 'a' mount path must be absolute",
            ),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "/a:/b:nocopy",
                "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                "vv:/b:shared",
                "invalid volume specification: 'vv:/b:shared': invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
            ("x:/b", "create x: volume name is too short, names should be at least two alphanumeric characters"),
            (
                "./a:/b",
                "create ./a: \"./a\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
        ] {
            assert_eq!(bind(raw).unwrap_err().message, message, "{raw}");
        }
    }
}
