//! A volume's first content: what the image has at the place where an empty volume is mounted.
//!
//! Copying is marked beside the files. A copy that was cut off leaves the mark, and whoever mounts the volume next
//! copies again.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use droste_model::mount::{Mount, MountSource};

use super::Volume;
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
    volume: Arc<Volume>,
    target: String,
    subpath: Option<String>,
}

fn candidates(container: &Container, volumes: &[Arc<Volume>]) -> Vec<Candidate> {
    let mounts = container.record().mounts.clone();
    let one = |mount: &Mount| {
        let MountSource::Volume { name: Some(name), no_copy: false, subpath, .. } = &mount.source else { return None };
        let volume = volumes.iter().find(|volume| volume.record.name == *name)?;
        let (target, subpath) = (mount.target.to_string(), subpath.clone());
        Some(Candidate { volume: Arc::clone(volume), target, subpath })
    };
    mounts.iter().filter_map(one).collect()
}

/// Copies what the image has into the empty ones of the volumes of a container that is being made. Blocking.
pub(crate) fn fill(engine: &Engine, container: &Container, volumes: &[Arc<Volume>]) -> Result<()> {
    let mut candidates = candidates(container, volumes);
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
        engine.volumes.unmount(&container.host, &candidate.volume, &user);
    }
    outcome
}

/// An empty volume, open, and its mark.
type Opened = (Copy, PathBuf);

/// Opens a candidate; nothing if it needs no content.
fn open(engine: &Engine, container: &Container, candidate: &Candidate, user: &str) -> Result<Option<Opened>> {
    let (host, volume) = (&container.host, &candidate.volume);
    let mark = engine.volumes.folder(&host.id, &volume.record.name).join(MARK);
    engine.volumes.mount(host, volume, user).map_err(populating)?;
    let folder = match engine.volumes.open(engine, host, volume, candidate.subpath.as_deref()) {
        // The start says that it is missing, if it still is.
        Err(Error::NotFound(_)) => return Ok(None),
        opened => opened.map_err(populating)?,
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
