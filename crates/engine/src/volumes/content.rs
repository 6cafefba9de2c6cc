//! A volume's first content: what the image has at the place where an empty volume is mounted.
//!
//! Copying is marked beside the files. A copy that was cut off leaves the mark, and whoever mounts the volume next
//! copies again.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use droste_model::mount::MountSource;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::{self, Copy};

/// The mark of a copy that is not finished.
const MARK: &str = "filling";

fn failed(error: impl std::fmt::Display) -> Error {
    Error::hidden("failed to populate volume", error)
}

fn is_empty(folder: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

/// Copies what the image has into the empty volumes of a container that is being made. Blocking.
pub(crate) fn fill(engine: &Engine, container: &Container) -> Result<()> {
    let mounts = container.record().mounts.clone();
    let (mut copies, mut marks): (Vec<Copy>, Vec<PathBuf>) = Default::default();
    for mount in &mounts {
        let MountSource::Volume { name: Some(name), no_copy: false, subpath: None, .. } = &mount.source else {
            continue;
        };
        let folder = engine.volumes.path(&container.host.id, name);
        let mark = folder.with_file_name(MARK);
        if mark.exists() || is_empty(&folder).map_err(failed)? {
            let volume: OwnedFd = std::fs::File::open(&folder).map_err(failed)?.into();
            std::fs::write(&mark, []).map_err(failed)?;
            copies.push(Copy { from: mount.target.to_string(), to: volume });
            marks.push(mark);
        }
    }
    if copies.is_empty() {
        return Ok(());
    }
    files::copy_up(engine, container, copies)?;
    marks.iter().try_for_each(|mark| std::fs::remove_file(mark).map_err(failed))
}
