//! Makes images here: from a container's writable layer (`commit`) or from an archive of a root (`import`).

use std::io::Read;
use std::path::Path;

use droste_model::container::Config;
use droste_model::platform::Platform;
use droste_model::time::Timestamp;

use crate::config::{History, ImageConfig};
use crate::error::{Context as _, Result};
use crate::extract::Limits;
use crate::hash::digest_of;
use crate::pack::{PackOptions, pack};
use crate::store::{Image, Layer, Store};

/// What a new image says of itself.
#[derive(Debug, Clone, Default)]
pub struct MakeOptions {
    /// What its containers run, with all changes applied.
    pub config: Config,
    /// Who made it.
    pub author: String,
    /// What was said at its making.
    pub comment: String,
    /// The container that it was made of, if one.
    pub container: String,
    /// What its history shows as the instruction.
    pub created_by: String,
}

/// Makes an image of what a container changed, on top of the image that it was made from.
///
/// The container must be paused or stopped for a consistent copy. Blocking.
pub fn commit(store: &Store, base: Option<&Image>, upper: &Path, options: &MakeOptions) -> Result<Image> {
    let root = std::fs::File::open(upper).at("open", upper)?;
    let (reader, writer) = std::io::pipe().at("make a pipe for", upper)?;
    let fresh = std::thread::scope(|scope| {
        let pack_options = PackOptions { name: Vec::new(), whiteouts: true };
        let packing = scope.spawn(move || {
            use std::os::fd::AsFd;
            pack(root.as_fd(), b".", &pack_options, std::io::BufWriter::with_capacity(64 << 10, writer))
        });
        let fresh = store.unpack(reader, Limits::default());
        let packed = packing.join().map_err(|_| std::io::Error::other("the packing thread died")).at("pack", upper)?;
        // When unpacking fails first, packing fails only for want of a reader.
        let fresh = fresh?;
        packed.map(|()| fresh)
    })?;
    let mut config = base.map_or_else(|| new_config(None), |base| base.config().clone());
    let is_empty = fresh.diff_id == digest_of(&[0; 1024]);
    describe(&mut config, options, is_empty);
    if !is_empty {
        config.rootfs.diff_ids.push(fresh.diff_id);
    }
    let mut layers: Vec<Layer> =
        base.map(Image::hold_layers).unwrap_or_default().into_iter().map(Layer::Held).collect();
    layers.push(Layer::Fresh(fresh));
    store.commit(&config.to_bytes()?, layers, base.map(Image::id))
}

/// Makes an image with one layer: the content of an archive, which may be compressed. Blocking.
pub fn import(
    store: &Store,
    input: impl Read + Send,
    platform: Option<&Platform>,
    limits: Limits,
    options: &MakeOptions,
) -> Result<Image> {
    let fresh = store.unpack(input, limits)?;
    let mut config = new_config(platform);
    describe(&mut config, options, false);
    config.rootfs.diff_ids.push(fresh.diff_id);
    store.commit(&config.to_bytes()?, vec![Layer::Fresh(fresh)], None)
}

fn new_config(platform: Option<&Platform>) -> ImageConfig {
    let platform = platform.cloned().unwrap_or_else(Platform::host);
    ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..ImageConfig::default()
    }
}

fn describe(config: &mut ImageConfig, options: &MakeOptions, empty_layer: bool) {
    let created = Some(Timestamp::now().to_string());
    config.author.clone_from(&options.author);
    config.comment.clone_from(&options.comment);
    config.container.clone_from(&options.container);
    config.config = options.config.clone();
    config.created.clone_from(&created);
    config.docker_version = String::new();
    config.history.push(History {
        created,
        author: options.author.clone(),
        created_by: options.created_by.clone(),
        comment: options.comment.clone(),
        empty_layer,
    });
}
