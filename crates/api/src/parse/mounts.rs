//! `--mount` and `--tmpfs`, and what all mounts must keep to.

use std::collections::{BTreeMap, BTreeSet};

use droste_model::mount::{Mount, MountSource, Propagation};
use droste_model::name::VolumeName;
use droste_model::path::{ClientPath, ContainerPath};

use crate::error::{RequestError, Result};
use crate::wire;

pub(super) fn mount_error(kind: &str, reason: impl std::fmt::Display) -> RequestError {
    RequestError::invalid(format!("invalid mount config for type {kind:?}: {reason}"))
}

/// Where a mount goes, in Docker's order of refusals.
pub(super) fn target(kind: &str, text: &str) -> Result<ContainerPath> {
    if text.is_empty() {
        return Err(mount_error(kind, "field Target must not be empty"));
    }
    let relative = || mount_error(kind, format!("invalid mount path: '{text}' mount path must be absolute"));
    let path = ContainerPath::absolute(text).ok_or_else(relative)?;
    match path.as_str() {
        "/" => Err(mount_error(kind, "invalid specification: destination can't be '/'")),
        _ => Ok(path),
    }
}

/// A volume's name, with Docker's two texts for a wrong one.
pub fn volume_name(name: &str) -> Result<VolumeName> {
    if name.chars().count() < 2 {
        return Err(RequestError::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    name.parse().map_err(|error| RequestError::invalid(format!("create {name}: {error}")))
}

/// Reads one `--mount`.
pub(super) fn mount(wire: wire::Mount) -> Result<Mount> {
    foreign_options(&wire)?;
    let kind = wire.kind.as_str();
    let place = || target(kind, &wire.target);
    let (target, source) = match kind {
        "bind" => (place()?, bind_source(&wire)?),
        "volume" => (place()?, volume_source(&wire)?),
        "tmpfs" => (place()?, tmpfs_source(&wire)?),
        "image" => (place()?, image_source(&wire)?),
        other => return Err(mount_error(other, "mount type unknown")),
    };
    let bind = wire.bind_options.unwrap_or_default();
    Ok(Mount {
        source,
        target,
        read_only: wire.read_only || kind == "image",
        read_only_non_recursive: bind.read_only_non_recursive,
        read_only_force_recursive: bind.read_only_force_recursive,
        propagation: propagation(kind, &bind.propagation)?,
        mode: String::new(),
        typed: None,
    })
}

/// Options that belong to another type of mount.
fn foreign_options(mount: &wire::Mount) -> Result<()> {
    let options = [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("ImageOptions", mount.image_options.is_some(), "image"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
        ("ClusterOptions", mount.cluster_options.is_some(), "cluster"),
    ];
    match options.iter().find(|(_, given, kind)| *given && *kind != mount.kind) {
        Some((name, ..)) => {
            Err(RequestError::invalid(format!("{name} must not be specified on mount type {:?}", mount.kind)))
        }
        None => Ok(()),
    }
}

fn propagation(kind: &str, text: &str) -> Result<Propagation> {
    if text.is_empty() {
        return Ok(Propagation::default());
    }
    Propagation::parse(text).ok_or_else(|| mount_error(kind, format!("invalid propagation mode: {text}")))
}

fn bind_source(mount: &wire::Mount) -> Result<MountSource> {
    if mount.source.is_empty() {
        return Err(mount_error("bind", "field Source must not be empty"));
    }
    let relative =
        || mount_error("bind", format!("invalid mount path: '{}' mount path must be absolute", mount.source));
    let options = mount.bind_options.as_ref();
    Ok(MountSource::Bind {
        source: ClientPath::absolute(&mount.source).ok_or_else(relative)?,
        create: options.is_some_and(|options| options.create_mountpoint),
        non_recursive: options.is_some_and(|options| options.non_recursive),
    })
}

fn volume_source(mount: &wire::Mount) -> Result<MountSource> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if mount.source.is_empty() && !options.subpath.is_empty() {
        return Err(mount_error("volume", "must not set Subpath when using anonymous volumes"));
    }
    if mount.source.is_empty() && mount.read_only {
        return Err(mount_error("volume", "must not set ReadOnly mode when using anonymous volumes"));
    }
    if !is_local(&options.subpath) {
        return Err(mount_error("volume", "subpath must be a relative path within the volume"));
    }
    let driver = options.driver_config.unwrap_or_default();
    Ok(MountSource::Volume {
        name: (!mount.source.is_empty()).then(|| volume_name(&mount.source)).transpose()?,
        no_copy: options.no_copy,
        subpath: Some(options.subpath).filter(|path| !path.is_empty()),
        driver: driver.name,
        driver_opts: driver.options.unwrap_or_default(),
        labels: options.labels.unwrap_or_default(),
    })
}

/// Whether a relative path stays below where it begins, by text alone.
fn is_local(path: &str) -> bool {
    let mut depth = 0usize;
    !path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| match part {
            "" | "." => true,
            ".." => match depth.checked_sub(1) {
                Some(up) => {
                    depth = up;
                    true
                }
                None => false,
            },
            _ => {
                depth += 1;
                true
            }
        })
}

fn image_source(mount: &wire::Mount) -> Result<MountSource> {
    if mount.source.is_empty() {
        return Err(mount_error("image", "field Source must not be empty"));
    }
    let subpath = mount.image_options.as_ref().map(|options| options.subpath.clone()).unwrap_or_default();
    if !is_local(&subpath) {
        return Err(mount_error("image", "subpath must be a relative path within the image"));
    }
    Ok(MountSource::Image { reference: mount.source.clone(), subpath: Some(subpath).filter(|path| !path.is_empty()) })
}

fn tmpfs_source(mount: &wire::Mount) -> Result<MountSource> {
    if !mount.source.is_empty() {
        return Err(mount_error("tmpfs", "field Source must not be specified"));
    }
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    if options.size_bytes < 0 {
        return Err(mount_error("tmpfs", format!("invalid SizeBytes: {} is negative", options.size_bytes)));
    }
    Ok(MountSource::Tmpfs {
        size: u64::try_from(options.size_bytes).ok().filter(|size| *size > 0),
        mode: Some(options.mode).filter(|mode| *mode != 0),
        options: tmpfs_options(options.options.unwrap_or_default())?,
    })
}

/// Docker lets two flags through here; `--tmpfs` takes more.
fn tmpfs_options(options: Vec<Vec<String>>) -> Result<Vec<String>> {
    let known = |name: &str| matches!(name, "exec" | "noexec");
    let joined = |option: Vec<String>| match &option[..] {
        [name] | [name, _] if known(name) => Ok(option.join("=")),
        [name] | [name, _] => Err(mount_error("tmpfs", format!("invalid option: {name}"))),
        _ => Err(mount_error("tmpfs", "invalid option array length")),
    };
    options.into_iter().map(joined).collect()
}

/// `--tmpfs` targets must be absolute.
pub(super) fn tmpfs(map: &BTreeMap<String, String>) -> Result<()> {
    for place in map.keys() {
        match ContainerPath::absolute(place) {
            Some(path) if path.as_str() == "/" => {
                return Err(RequestError::invalid("invalid specification: destination can't be '/'"));
            }
            Some(_) => {}
            None => {
                return Err(RequestError::invalid(format!(
                    "invalid mount path: '{place}' mount path must be absolute"
                )));
            }
        }
    }
    Ok(())
}

/// No two mounts may go to the same place.
pub(super) fn distinct<'a>(mounts: impl Iterator<Item = &'a Mount>, tmpfs: &BTreeMap<String, String>) -> Result<()> {
    let tmpfs = tmpfs.keys().filter_map(|place| ContainerPath::absolute(place));
    let mut seen = BTreeSet::new();
    for place in mounts.map(|mount| mount.target.clone()).chain(tmpfs) {
        if seen.contains(&place) {
            return Err(RequestError::invalid(format!("Duplicate mount point: {place}")));
        }
        seen.insert(place);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    fn read(json: &str) -> Result<Mount> {
        mount(decode(json.as_bytes())?)
    }

    #[test]
    fn errors_are_dockers() {
        for (json, message) in [
            (r#"{"Type":"nope","Target":"/a"}"#, "invalid mount config for type \"nope\": mount type unknown"),
            (r#"{"Target":"/a"}"#, "invalid mount config for type \"\": mount type unknown"),
            (
                r#"{"Type":"bind","Target":"/a"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"a","Target":"/a"}"#,
                "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":""}"#,
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"/"}"#,
                "invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                r#"{"Type":"tmpfs","Source":"/tmp","Target":"/x"}"#,
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"/x","VolumeOptions":{}}"#,
                "VolumeOptions must not be specified on mount type \"bind\"",
            ),
            (
                r#"{"Type":"bind","Source":"/tmp","Target":"/x","BindOptions":{"Propagation":"foo"}}"#,
                "invalid mount config for type \"bind\": invalid propagation mode: foo",
            ),
            (
                r#"{"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"x"}}"#,
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            (
                r#"{"Type":"volume","Source":"v1","Target":"/x","VolumeOptions":{"Subpath":"a/../../x"}}"#,
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                r#"{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["noexec"],["a","b","c"]]}}"#,
                "invalid mount config for type \"tmpfs\": invalid option array length",
            ),
            (
                r#"{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"Options":[["noexec"],["a","b"]]}}"#,
                "invalid mount config for type \"tmpfs\": invalid option: a",
            ),
        ] {
            assert_eq!(read(json).unwrap_err().message, message, "{json}");
        }
    }

    #[test]
    fn mounts_are_read() {
        let bind =
            read(r#"{"type":"bind","Source":"/a","Target":"/b","Consistency":"cached","ReadOnly":true}"#).unwrap();
        assert!(matches!(bind.source, MountSource::Bind { create: false, .. }) && bind.read_only);
        let tmpfs = read(r#"{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":5,"Mode":448}}"#).unwrap();
        assert_eq!(tmpfs.source, MountSource::Tmpfs { size: Some(5), mode: Some(0o700), options: Vec::new() });
    }
}
