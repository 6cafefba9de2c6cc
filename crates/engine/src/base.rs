//! The lowest layer of every container: the mount points that a start needs and an image may lack.
//!
//! It is one read-only directory for all. Without it, starting a container would write those mount points into the
//! container's own layer, where `docker diff` and `docker commit` would find them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use droste_runtime::filesystems;
use droste_runtime::plan::{Overlay, OverlayUpper};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::launch::text;
use crate::volumes;

use rustix::io::Errno;

/// The layer's directory, from the directory of the image layers.
const FROM_LAYERS: &str = "../base";

const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];

/// `/.dockerenv` is by what programs find out that they run in a container.
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes the layer below the data root, if it is not there.
pub(crate) fn make(data_root: &Path) -> Result<()> {
    let base = data_root.join("base");
    fill(&base).map_err(|error| Error::internal(format!("make {}: {error}", base.display())))
}

fn fill(base: &Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(base.join(directory))?;
    }
    fs::set_permissions(base, fs::Permissions::from_mode(0o755))?;
    for file in FILES {
        let file = fs::File::options().create(true).truncate(false).write(true).open(base.join(file))?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    match symlink("/proc/mounts", base.join("etc/mtab")) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

impl Engine {
    /// The layers of a container's root, the base below all of them.
    pub(crate) fn layers_of(&self, container: &Container) -> Result<droste_image::Overlay, droste_image::Error> {
        let mut overlay = self.images.root_of(container.image.as_ref(), self.container_dir(&container.id))?;
        overlay.lower.push(FROM_LAYERS.to_owned());
        Ok(overlay)
    }

    /// The overlay that is a container's root, for whoever mounts it.
    pub(crate) fn overlay(&self, container: &Container) -> Result<Overlay> {
        let layers =
            self.layers_of(container).map_err(|error| Error::hidden("the container's root is damaged", error))?;
        Ok(Overlay {
            layers_dir: text(&layers.layers_dir),
            lowers: layers.lower,
            upper: Some(OverlayUpper { upper: text(&layers.upper), work: text(&layers.work) }),
        })
    }

    /// The file system of an image that a container mounts, or what lies in it at `subpath`, as a detached mount that
    /// can't be written. Blocking.
    pub(crate) fn open_image(
        &self,
        container: &Container,
        image: &droste_image::Image,
        subpath: Option<&str>,
    ) -> Result<OwnedFd> {
        let failed = |error: &dyn std::fmt::Display| Error::hidden("an image could not be mounted", error);
        let folder = self.container_dir(&container.id);
        let layers = self.images.root_of(Some(image), &folder).map_err(|error| failed(&error))?;
        let inner = |name: &str| self.folder_in(container, name).map_err(|error| failed(&error));
        let (place, empty) = (inner("merged")?, inner("empty")?);
        let mut lowers = layers.lower;
        // An overlay without an upper directory is of two directories at least.
        lowers.push(text(&empty));
        let overlay = Overlay { layers_dir: text(&layers.layers_dir), lowers, upper: None };
        let mounted = filesystems::detached_overlay(&overlay, &place, subpath).map_err(|error| failed(&error))?;
        let base = format!("/{}", image.id());
        mounted.map_err(|error| match () {
            _ if is(&error, &[Errno::NOENT, Errno::NOTDIR]) => volumes::no_subpath(&base, subpath.unwrap_or_default()),
            _ if is(&error, &[Errno::XDEV]) => volumes::escaping_subpath(&base, subpath.unwrap_or_default()),
            _ => failed(&error),
        })
    }
}

fn is(error: &io::Error, kinds: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| kinds.contains(&errno))
}
