//! Volumes of the `local` driver with options: a file system, or a path of their host's, that is mounted over the
//! volume's folder while a container uses the volume.
//!
//! Everything is looked up on the host that the volume belongs to, at each mount. A path (`o=bind`) is any that the host
//! itself can reach; memory (`tmpfs`) is anybody's. Other file systems are for hosts that have all of the machine's
//! privileges, because they could mount them themselves; such a file system is made in all of the host's namespaces.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use droste_model::id::ContainerId;
use droste_runtime::filesystems::{self, NewFilesystem};
use droste_runtime::namespaces::{BindError, BindOptions};
use droste_runtime::plan::{MountFlags, Propagation};
use droste_runtime::words;

use super::plugin::is_plugins;
use super::{Volume, Volumes, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::{HostState, Power};
use crate::lookup::Resolver;
use crate::privileges;

/// What a container may be given as memory, as `--tmpfs` has it.
const TMPFS_OPTIONS: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];

/// `MOUNT_ATTR_NODIRATIME` and `MOUNT_ATTR_STRICTATIME` of mount_setattr(2).
const NODIRATIME: MountFlags = MountFlags(0x80);
const STRICTATIME: MountFlags = MountFlags(0x20);

/// The option `o`, as mount(8) reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    /// A path and not a file system; true with all that is mounted below it.
    bind: Option<bool>,
    flags: MountFlags,
    /// The flags of mount(2), which Docker shows in its message.
    shown: u64,
    /// For the file system.
    data: Vec<String>,
}

impl Words {
    fn parse(text: &str) -> Self {
        let mut words = Words::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (flag, shown) = match word {
                "ro" => (MountFlags::RDONLY, 0x1),
                "nosuid" => (MountFlags::NOSUID, 0x2),
                "nodev" => (MountFlags::NODEV, 0x4),
                "noexec" => (MountFlags::NOEXEC, 0x8),
                "noatime" => (MountFlags::NOATIME, 0x400),
                "nodiratime" => (NODIRATIME, 0x800),
                "strictatime" => (STRICTATIME, 0x100_0000),
                "bind" => (MountFlags::NONE, 0x1000),
                "rbind" => (MountFlags::NONE, 0x5000),
                "defaults" | "rw" | "suid" | "dev" | "exec" | "atime" | "diratime" | "relatime" | "async" => continue,
                other => {
                    words.data.push(other.to_owned());
                    continue;
                }
            };
            words.flags = words.flags | flag;
            words.shown |= shown;
            match word {
                "bind" | "rbind" => words.bind = Some(word == "rbind"),
                "ro" => words.data.push(word.to_owned()),
                _ => {}
            }
        }
        words
    }

    /// The message's middle: what was to be mounted where. Passwords are not shown.
    fn shown(&self) -> String {
        let hidden = |word: &String| match word.split_once('=') {
            Some(("password", _)) => "password=********".to_owned(),
            _ => word.clone(),
        };
        let data: Vec<String> = self.data.iter().filter(|word| *word != "ro").map(hidden).collect();
        let mut text = String::new();
        if self.shown != 0 {
            text += &format!(", flags: {:#x}", self.shown);
        }
        if !data.is_empty() {
            text += &format!(", data: {}", data.join(","));
        }
        text
    }
}

/// Memory with options that can do nothing but bound it.
fn is_plain_tmpfs(fstype: &str, words: &Words) -> bool {
    let plain =
        |word: &String| word == "ro" || word.split_once('=').is_some_and(|(key, _)| TMPFS_OPTIONS.contains(&key));
    fstype == "tmpfs" && words.data.iter().all(plain)
}

/// Makes what a volume's options name, as a detached mount.
fn make(power: &Power, level: usize, options: &BTreeMap<String, String>) -> Result<io::Result<OwnedFd>> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let (fstype, device, words) = (option("type"), option("device"), Words::parse(option("o")));
    if let Some(recursive) = words.bind {
        return bind(power, device, recursive, words.flags);
    }
    // The kernel makes `proc` for the processes of whoever mounts it, and that is the daemon.
    let allowed =
        level == 0 || is_plain_tmpfs(fstype, &words) || (fstype != "proc" && privileges::is_unbounded(power)?);
    if !allowed {
        return Ok(Err(io::Error::from(rustix::io::Errno::PERM)));
    }
    let wanted =
        NewFilesystem { fstype: fstype.to_owned(), device: device.to_owned(), options: words.data, flags: words.flags };
    power
        .namespaces
        .new_filesystem(&wanted, &|name| Resolver::at(level).first(name))
        .map_err(|error| Error::hidden("the host could not be entered to mount a volume", error))
}

fn bind(power: &Power, device: &str, recursive: bool, flags: MountFlags) -> Result<io::Result<OwnedFd>> {
    let entered = |error: &dyn std::fmt::Display| Error::hidden("the host's root could not be entered", error);
    if !device.starts_with('/') {
        return Ok(Err(rustix::io::Errno::NOENT.into()));
    }
    // What is mounted below may be there to hide something: a host that could not unmount it takes it, too.
    let non_recursive = !recursive && privileges::is_unbounded(power)?;
    let options = BindOptions { non_recursive, ..BindOptions::default() };
    let view = power.namespaces.view().map_err(|error| entered(&error))?;
    let found = match view.open_bind_source(Path::new(device), options) {
        Ok(found) => found.mount,
        Err(BindError::Missing { .. }) => return Ok(Err(rustix::io::Errno::NOENT.into())),
        Err(BindError::Open { source, .. }) => return Ok(Err(source)),
        Err(error) => return Err(entered(&error)),
    };
    let set = |found: &OwnedFd| {
        droste_runtime::sys::mount::set_attributes(found.as_fd(), flags, Some(Propagation::Private), false)
    };
    Ok(set(&found).map(|()| found))
}

/// Whether a volume is mounted over its folder while it is used.
fn is_mounted_when_used(volume: &Volume) -> bool {
    let given = |name: &str| volume.record.options.as_ref().is_some_and(|o| o.get(name).is_some_and(|v| !v.is_empty()));
    !is_plugins(volume) && (given("device") || given("type"))
}

impl Volumes {
    /// Readies a volume's files for a user. Blocking.
    pub(crate) fn mount(&self, host: &HostState, volume: &Volume, user: &str) -> Result<()> {
        let mut users = lock(&volume.users);
        if is_plugins(volume) {
            self.mount_in_plugin(host, volume, user)?;
        } else if is_mounted_when_used(volume) {
            self.mount_options(host, volume)?;
        }
        users.insert(user.to_owned());
        Ok(())
    }

    fn mount_options(&self, host: &HostState, volume: &Volume) -> Result<()> {
        let place = self.path(&host.id, &volume.record.name);
        if filesystems::is_mounted(&place) {
            return Ok(());
        }
        let none = BTreeMap::new();
        let options = volume.record.options.as_ref().unwrap_or(&none);
        let shown = self.shown_path(host, &volume.record.name).display().to_string();
        let before = format!("error while mounting volume '{shown}': ");
        let device = options.get("device").map_or("", String::as_str);
        if device.is_empty() {
            return Err(Error::internal(format!("{before}missing device in volume options")));
        }
        let made = make(&host.power()?, host.level, options)?;
        made.and_then(|mount| filesystems::attach(mount.as_fd(), &place)).map_err(|error| {
            let middle = Words::parse(options.get("o").map_or("", String::as_str)).shown();
            Error::internal(format!(
                "{before}failed to mount local volume: mount {device}:{shown}{middle}: {}",
                words(&error)
            ))
        })
    }

    /// Takes note of a user that a daemon before this one had readied a volume for.
    pub(crate) fn adopt(&self, volume: &Volume, user: &ContainerId) {
        lock(&volume.users).insert(user.to_string());
    }

    /// Lets go of a volume's files; its last user unmounts them. Blocking.
    pub(crate) fn unmount(&self, host: &HostState, volume: &Volume, user: &str) {
        let mut users = lock(&volume.users);
        let was = users.remove(user);
        if is_plugins(volume) && was {
            self.unmount_in_plugin(host, volume, user);
        }
        if users.is_empty() && is_mounted_when_used(volume) {
            self.unmount_files(host, volume);
        }
    }

    fn unmount_files(&self, host: &HostState, volume: &Volume) {
        if let Err(error) = filesystems::detach(&self.path(&host.id, &volume.record.name)) {
            tracing::warn!(volume = %volume.record.name, %error, "it was not unmounted");
        }
    }

    /// Unmounts what no container uses any more, when a new daemon has found all that run. Blocking.
    pub(crate) fn unmount_unused(&self, engine: &Engine) {
        for ((host, _), volume) in lock(&self.table).iter() {
            let unused = is_mounted_when_used(volume) && lock(&volume.users).is_empty();
            if let Some(host) = engine.host(host).filter(|_| unused) {
                self.unmount_files(&host, volume);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flags_or_data() {
        let words = Words::parse("bind,ro,nosuid,,defaults");
        assert_eq!((words.bind, words.shown), (Some(false), 0x1003));
        assert_eq!(words.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(words.shown(), ", flags: 0x1003");
        let words = Words::parse("username=u,password=secret,vers=3.0");
        assert_eq!(words.shown(), ", data: username=u,password=********,vers=3.0");
        assert_eq!(Words::parse("rbind").bind, Some(true));
        assert_eq!(Words::parse("").shown(), "");
    }

    #[test]
    fn memory_is_anybodys_and_other_file_systems_are_not() {
        for (fstype, o, plain) in [
            ("tmpfs", "", true),
            ("tmpfs", "size=1m,uid=5,mode=700,ro", true),
            ("tmpfs", "mpol=bind:0", false),
            ("tmpfs", "huge=always", false),
            ("proc", "", false),
            ("ext4", "", false),
            ("overlay", "lowerdir=/a:/b", false),
        ] {
            assert_eq!(is_plain_tmpfs(fstype, &Words::parse(o)), plain, "{fstype} {o}");
        }
    }
}
