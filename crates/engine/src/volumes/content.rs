//! A volume's first content: what the image has at the place where an empty volume is mounted.
//!
//! Copying is marked beside the files. A copy that was cut off leaves the mark, and whoever mounts the volume next
//! copies again.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use droste_model::mount::MountSource;

use super::Pin;
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Message, Result};
use crate::files::{self, Copy};
use crate::random;

/// The mark of a copy that is not finished.
const MARK: &str = "filling";

fn failed(error: impl std::fmt::Display) -> Error {
    Error::hidden("failed to populate volume", error)
}

/// The same error with Docker's words before it.
fn populating(error: Error) -> Error {
    let text = |message: Message| message.after("failed to populate volume: ");
    match error {
        Error::Invalid(message) => Error::Invalid(text(message)),
        Error::Internal(message) => Error::Internal(text(message)),
        other => other,
    }
}

/// A volume that may have to be filled.
struct Candidate {
    volume: Volume,
    target: String,
    subpath: Option<String>,
}

enum Volume {
    /// It is there.
    Old(Pin),
    /// It comes with the container; its folder is made.
    New(PathBuf),
}

fn candidates(engine: &Engine, container: &Container) -> Vec<Candidate> {
    let (host, mounts) = (&container.host, container.record().mounts.clone());
    let one = |mount: &droste_model::mount::Mount| {
        let MountSource::Volume { name: Some(name), no_copy: false, subpath, .. } = &mount.source else { return None };
        let volume = match engine.volumes.find(&host.id, name) {
            Some(pin) => Volume::Old(pin),
            None => Volume::New(engine.volumes.path(&host.id, name)),
        };
        Some(Candidate { volume, target: mount.target.to_string(), subpath: subpath.clone() })
    };
    mounts.iter().filter_map(one).collect()
}

/// Copies what the image has into the empty volumes of a container that is being made. Blocking.
pub(crate) fn fill(engine: &Engine, container: &Container) -> Result<()> {
    let mut candidates = candidates(engine, container);
    if candidates.is_empty() {
        return Ok(());
    }
    let in_image = files::directories(engine, container, candidates.iter().map(|one| one.target.clone()).collect())?;
    candidates.retain(|candidate| in_image.contains(&candidate.target));
    let user = random::uuid()?;
    let mut opened = Vec::new();
    let outcome = candidates.iter().try_for_each(|candidate| {
        opened.extend(open(engine, container, candidate, &user)?);
        Ok(())
    });
    let outcome = outcome.and_then(|()| copy(engine, container, opened));
    for candidate in &candidates {
        if let Volume::Old(pin) = &candidate.volume {
            engine.volumes.unmount(&container.host, pin, &user);
        }
    }
    outcome
}

/// An empty volume, open, and its mark.
type Opened = (Copy, PathBuf);

/// Opens a candidate; nothing if it needs no content.
fn open(engine: &Engine, container: &Container, candidate: &Candidate, user: &str) -> Result<Option<Opened>> {
    let host = &container.host;
    let (root, subpath) = match &candidate.volume {
        Volume::New(path) => (path.clone(), None),
        Volume::Old(pin) => {
            engine.volumes.mount(host, pin, user).map_err(populating)?;
            (engine.volumes.path(&host.id, &pin.record.name), candidate.subpath.as_deref())
        }
    };
    let mark = root.with_file_name(MARK);
    let folder = match (subpath, &candidate.volume) {
        (Some(subpath), Volume::Old(pin)) => match engine.volumes.open(engine, host, pin, Some(subpath)) {
            // The start says that it is missing, if it still is.
            Err(Error::NotFound(_)) => return Ok(None),
            opened => opened.map_err(populating)?,
        },
        _ => std::fs::File::open(&root).map_err(failed)?.into(),
    };
    let Some(folder) = directory(&folder).map_err(failed)? else { return Ok(None) };
    if !mark.exists() && !is_empty(&folder).map_err(failed)? {
        return Ok(None);
    }
    Ok(Some((Copy { from: candidate.target.clone(), to: folder }, mark)))
}

/// The same directory, to read; nothing for a file.
fn directory(found: &OwnedFd) -> std::io::Result<Option<OwnedFd>> {
    use rustix::fs::{Mode, OFlags, openat};
    match openat(found, ".", OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn is_empty(folder: &OwnedFd) -> std::io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy(engine: &Engine, container: &Container, opened: Vec<Opened>) -> Result<()> {
    if opened.is_empty() {
        return Ok(());
    }
    let (copies, marks): (Vec<Copy>, Vec<PathBuf>) = opened.into_iter().unzip();
    marks.iter().try_for_each(|mark| std::fs::write(mark, []).map_err(failed))?;
    files::copy_up(engine, container, copies)?;
    for mark in marks {
        match std::fs::remove_file(mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}
