//! Which mounts a container gets: `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes as one list.

use std::collections::{BTreeMap, BTreeSet};

use droste_model::container::{Config, HostConfig};
use droste_model::mount::{Mount, MountSource, Propagation};
use droste_model::name::VolumeName;
use droste_model::path::ContainerPath;

use crate::error::{Error, Result};

/// What a container mounts, each place once, in the order of their depth.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// Volumes that nobody named: new ones, and those of the containers of `--volumes-from`.
    pub anonymous: Vec<VolumeName>,
}

/// What a container takes over from those of `--volumes-from`, in order.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Their mounts.
    pub mounts: Vec<Mount>,
    /// Which of the volumes nobody named.
    pub anonymous: Vec<VolumeName>,
}

/// Joins all that was asked with what comes from other containers.
pub(crate) fn plan(config: &Config, host: &HostConfig, from: Inherited) -> Result<Planned> {
    let mut places: BTreeMap<ContainerPath, Mount> = BTreeMap::new();
    places.extend(from.mounts.into_iter().map(|mount| (mount.target.clone(), mount)));
    let mut own = BTreeSet::new();
    let tmpfs = tmpfs_mounts(host)?;
    let asked = host.binds.iter().flatten().chain(host.mounts.iter().flatten()).chain(&tmpfs);
    for mount in asked {
        if mount.target.as_str() == "/" {
            return Err(Error::invalid("invalid mount: destination can't be '/'"));
        }
        check_read_only(mount)?;
        if !own.insert(mount.target.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        places.insert(mount.target.clone(), with_defaults(mount, host));
    }
    for target in &config.volumes {
        places.entry(target.clone()).or_insert_with(|| anonymous_at(target.clone(), &host.volume_driver));
    }
    name_volumes(places.into_values().collect(), from.anonymous)
}

fn tmpfs_mounts(host: &HostConfig) -> Result<Vec<Mount>> {
    let at = |(target, options): (&String, &String)| {
        let target = ContainerPath::absolute(target)
            .ok_or_else(|| Error::invalid(format!("invalid tmpfs mount {target:?}: the path must be absolute")))?;
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        Ok(mount(target, MountSource::Tmpfs { size: None, mode: None, options }))
    };
    host.tmpfs.iter().flatten().map(at).collect()
}

fn mount(target: ContainerPath, source: MountSource) -> Mount {
    Mount {
        source,
        target,
        read_only: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        propagation: Propagation::default(),
        mode: String::new(),
        typed: None,
    }
}

/// Docker's refusals of contradictions about what is read-only; it finds them at the start.
fn check_read_only(mount: &Mount) -> Result<()> {
    let (only_itself, all) = (mount.read_only_non_recursive, mount.read_only_force_recursive);
    let conflict = match (mount.read_only, only_itself, all) {
        (false, true, _) => "!ReadOnly && BindOptions.ReadOnlyNonRecursive",
        (false, _, true) => "!ReadOnly && BindOptions.ReadOnlyForceRecursive",
        (true, true, true) => "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("mount options conflict: {conflict}")))
}

/// What Docker adds to a volume: the driver of `--volume-driver` where `-v` names it, and the letter `z` where none is.
fn with_defaults(asked: &Mount, host: &HostConfig) -> Mount {
    let mut mount = asked.clone();
    if let MountSource::Volume { driver, .. } = &mut mount.source {
        if driver.is_empty() && mount.typed.is_some() {
            driver.clone_from(&host.volume_driver);
        }
        if mount.mode.is_empty() && matches!(driver.as_str(), "" | crate::volumes::LOCAL) {
            "z".clone_into(&mut mount.mode);
        }
    }
    mount
}

fn anonymous_at(target: ContainerPath, driver: &str) -> Mount {
    let source = MountSource::Volume {
        name: None,
        no_copy: false,
        subpath: None,
        driver: driver.to_owned(),
        driver_opts: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    mount(target, source)
}

fn is_of(mount: &Mount, volume: &VolumeName) -> bool {
    matches!(&mount.source, MountSource::Volume { name: Some(name), .. } if name == volume)
}

/// Gives names to volumes without one. Parents come before what lies in them, because paths sort so.
fn name_volumes(mut mounts: Vec<Mount>, mut anonymous: Vec<VolumeName>) -> Result<Planned> {
    anonymous.retain(|name| mounts.iter().any(|mount| is_of(mount, name)));
    for mount in &mut mounts {
        if let MountSource::Volume { name: name @ None, .. } = &mut mount.source {
            let made = crate::volumes::new_name()?;
            anonymous.push(made.clone());
            *name = Some(made);
        }
    }
    Ok(Planned { mounts, anonymous })
}

/// Reads `CONTAINER[:ro|rw]` of `--volumes-from`; true for read-only.
pub(crate) fn volumes_from(text: &str) -> Result<(&str, bool)> {
    let invalid = |mode: &str| Error::invalid(format!("invalid mode: {mode}"));
    match text.split_once(':') {
        None if text.is_empty() => Err(Error::invalid("malformed volumes-from specification: cannot be empty")),
        None => Ok((text, false)),
        Some((name, mode)) => {
            let words: BTreeSet<&str> = mode.split(',').collect();
            let known = words.iter().all(|word| matches!(*word, "ro" | "rw" | "z" | "Z" | "nocopy"));
            let clear = known && !(words.contains("ro") && words.contains("rw"));
            if clear { Ok((name, words.contains("ro"))) } else { Err(invalid(mode)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ContainerPath {
        ContainerPath::absolute(text).unwrap()
    }

    fn bind(target: &str) -> Mount {
        let source = droste_model::path::ClientPath::absolute("/src").unwrap();
        mount(path(target), MountSource::Bind { source, create: true, non_recursive: false })
    }

    #[test]
    fn own_mounts_replace_inherited_ones_and_the_images_volumes() {
        let config = Config { volumes: [path("/a"), path("/b")].into(), ..Config::default() };
        let host = HostConfig { binds: Some(vec![bind("/a")]), ..HostConfig::default() };
        let planned = plan(&config, &host, Inherited { mounts: vec![bind("/c")], anonymous: vec![] }).unwrap();
        let targets: Vec<&str> = planned.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/a", "/b", "/c"]);
        assert_eq!(planned.anonymous.len(), 1);
    }

    #[test]
    fn a_place_is_asked_for_once() {
        let host = HostConfig {
            binds: Some(vec![bind("/a")]),
            tmpfs: Some([("/a".to_owned(), String::new())].into()),
            ..HostConfig::default()
        };
        let error = plan(&Config::default(), &host, Inherited::default()).unwrap_err();
        assert_eq!(error.to_string(), "Duplicate mount point: /a");
    }

    #[test]
    fn volumes_from_takes_modes() {
        assert_eq!(volumes_from("x").unwrap(), ("x", false));
        assert_eq!(volumes_from("x:ro,z").unwrap(), ("x", true));
        assert!(volumes_from("x:what").is_err() && volumes_from("").is_err() && volumes_from("x:ro,rw").is_err());
    }
}
