//! Unpacks one layer into a directory of its own, from which its tar can be given back.
//!
//! A layer is named by the digest of its plain tar (its diff id). What it looks like on disk does not depend on the
//! layers below it, so that one directory serves every image that has the layer in whatever place.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use droste_model::digest::Digest;
use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};

use crate::decompress::decompress;
use crate::error::{Context as _, Error, Result};
use crate::extract::{Limits, Rules, extract};
use crate::remove::remove_tree;
use crate::skeleton::{FILE_NAME, LayerSource, ROOT_DIR, Recorder};
use crate::tar::read::TarReader;

/// A layer that is unpacked but not yet part of the store; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct FreshLayer {
    pub(crate) path: PathBuf,
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Length of its plain tar.
    pub(crate) tar_size: u64,
    kept: bool,
}

impl FreshLayer {
    /// Leaves the directory where it was moved to.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FreshLayer {
    fn drop(&mut self) {
        if !self.kept {
            // Failing that, the next opening of the store removes it.
            let _ = remove_tree(&self.path);
        }
    }
}

/// Unpacks a layer, compressed or not, into the new directory `path`.
pub(crate) fn unpack_layer(input: impl Read + Send, path: PathBuf, limits: Limits) -> Result<FreshLayer> {
    let mut fresh = FreshLayer { path, diff_id: Digest::from_bytes([0; 32]), size: 0, tar_size: 0, kept: false };
    let root = make_directories(&fresh.path)?;
    let (_, plain) = decompress(input).map_err(Error::stream)?;
    let skeleton = File::create_new(fresh.path.join(FILE_NAME)).at("create", fresh.path.join(FILE_NAME))?;
    let directory = openat(CWD, &fresh.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("open", &fresh.path)?;
    // Headers come on top of the files' bytes: allow for a few blocks for each entry.
    let stream_limit = limits.bytes.saturating_add(limits.entries.saturating_mul(4096));
    let mut tar = TarReader::new(LayerSource::new(plain, skeleton, stream_limit));
    let rules = Rules { limits, whiteouts: true, ..Rules::default() };
    let unpacked = extract(root.as_fd(), &mut tar, &rules, &mut Recorder::new(directory))?;
    (fresh.diff_id, fresh.tar_size) = tar.finish()?.finish().map_err(Error::stream)?;
    fresh.size = unpacked.bytes;
    Ok(fresh)
}

fn make_directories(path: &Path) -> Result<rustix::fd::OwnedFd> {
    std::fs::create_dir(path).at("make", path)?;
    let root = path.join(ROOT_DIR);
    std::fs::create_dir(&root).at("make", &root)?;
    let fd =
        openat(CWD, &root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", &root)?;
    fchmod(&fd, Mode::from_raw_mode(0o755)).at("change mode of", &root)?;
    Ok(fd)
}
