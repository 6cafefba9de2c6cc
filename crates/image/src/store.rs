//! The store of images and layers on disk, and what keeps them alive.
//!
//! An image exists from the moment its record is renamed into `images/`; everything it needs is in its place and
//! synced before that, and whatever an interrupted process left elsewhere is removed when the store is opened.
//!
//! Lock rule: one mutex guards the index and the pins; it is a leaf lock, held for look-ups and renames only, never
//! while content is read, written or removed. Whoever needs an image or a layer takes a pin under that mutex before
//! using it, and [`Store::collect`] decides under the same mutex, so a collection can't race with a pull, a load, a
//! commit or a create: either the pin was first and the thing stays, or the thing is gone and the pin is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use droste_model::digest::Digest;
use droste_model::platform::Platform;
use droste_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::error::{Context as _, Error, MOST_LAYERS, Result};
use crate::extract::Limits;
use crate::hash::digest_of;
use crate::layer::{FreshLayer, unpack_layer};
use crate::possession::Shown;
use crate::remove::remove_tree;
use crate::skeleton::{ROOT_DIR, write_layer};

const BLOBS: &str = "blobs/sha256";
const IMAGES: &str = "images";
const LAYERS: &str = "layers";
/// Unfinished work; all of it is removed when the store is opened.
const UNFINISHED: &str = "unfinished";
const LAYER_RECORD: &str = "layer.json";

/// The images and layers of the machine. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    state: Mutex<State>,
    counter: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<Digest, ImageRecord>,
    layers: HashMap<Digest, LayerRecord>,
    next_layer: u64,
    image_pins: HashMap<Digest, usize>,
    /// Configurations of held images, so that many containers of one image share one.
    configs: HashMap<Digest, Weak<ImageConfig>>,
    layer_pins: HashMap<Digest, usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageRecord {
    layers: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LayerRecord {
    diff_id: Digest,
    /// Bytes of its files.
    size: u64,
    /// Length of its plain tar.
    tar_size: u64,
    #[serde(skip)]
    number: u64,
}

/// An image in the store; it stays there as long as this value or a clone lives.
#[derive(Clone, Debug)]
pub struct Image {
    pin: Arc<ImagePin>,
    config: Arc<ImageConfig>,
    layers: Arc<[Digest]>,
    size: u64,
    parent: Option<Digest>,
}

#[derive(Debug)]
struct ImagePin {
    store: Store,
    id: Digest,
}

impl Drop for ImagePin {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        unpin(&mut state.image_pins, self.id);
        if !state.image_pins.contains_key(&self.id) {
            state.configs.remove(&self.id);
        }
    }
}

/// Keeps one layer in the store.
#[derive(Debug)]
pub(crate) struct LayerPin {
    store: Store,
    diff_id: Digest,
}

/// A layer that stays in the store, and is of no use to anybody before they show that they may have it.
#[derive(Debug)]
pub(crate) struct Unshown(LayerPin);

impl Unshown {
    pub(crate) fn shown(self, shown: &Shown) -> Option<LayerPin> {
        (self.0.diff_id == shown.diff_id()).then_some(self.0)
    }
}

impl Drop for LayerPin {
    fn drop(&mut self) {
        unpin(&mut self.store.lock().layer_pins, self.diff_id);
    }
}

fn unpin(pins: &mut HashMap<Digest, usize>, digest: Digest) {
    if let Some(count) = pins.get_mut(&digest) {
        *count -= 1;
        if *count == 0 {
            pins.remove(&digest);
        }
    }
}

/// A layer that an image may be made of.
#[derive(Debug)]
pub(crate) enum Layer {
    /// Unpacked just now.
    Fresh(FreshLayer),
    /// In the store already.
    Held(LayerPin),
}

/// What [`Store::collect`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images that nobody needed.
    pub images: Vec<Digest>,
    /// Layers that no remaining image has.
    pub layers: Vec<Digest>,
    /// Bytes of the layers' files.
    pub bytes: u64,
}

/// The directories of an overlay mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Where `lower` is relative to; whoever mounts changes its directory to here.
    pub layers_dir: PathBuf,
    /// Lower directories, topmost first, relative to `layers_dir`; never empty.
    pub lower: Vec<String>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs's own scratch directory.
    pub work: PathBuf,
}

impl Overlay {
    /// Mount options that keep the writable layer readable for `commit` and `diff`, whatever the kernel's defaults.
    pub const OPTIONS: &'static str = "index=off,redirect_dir=nofollow,metacopy=off";

    /// All of the mount's data string, for a process whose directory is `layers_dir`.
    pub fn data(&self) -> String {
        let escape = |path: &Path| {
            let text = path.display().to_string();
            text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
        };
        let (upper, work) = (escape(&self.upper), escape(&self.work));
        format!("lowerdir={},upperdir={upper},workdir={work},{}", self.lower.join(":"), Self::OPTIONS)
    }

    /// The lower directories as absolute paths, topmost first.
    pub fn lower_paths(&self) -> Vec<PathBuf> {
        self.lower.iter().map(|lower| self.layers_dir.join(lower)).collect()
    }
}

impl Store {
    /// Opens the store in `root`, making it if it is new and removing what an interrupted process left behind.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref().to_owned();
        for directory in [BLOBS, IMAGES, LAYERS, UNFINISHED] {
            let path = root.join(directory);
            fs::create_dir_all(&path).at("make", &path)?;
        }
        remove_children(&root.join(UNFINISHED))?;
        let mut state = State::default();
        read_layers(&root.join(LAYERS), &mut state)?;
        read_images(&root, &mut state)?;
        let store = Self { inner: Arc::new(Inner { root, state: Mutex::new(state), counter: AtomicU64::new(0) }) };
        store.empty_layer()?;
        Ok(store)
    }

    /// The image with this id.
    pub fn image(&self, id: Digest) -> Result<Image> {
        let mut state = self.lock();
        let Some(record) = state.images.get(&id).cloned() else {
            return Err(Error::NoSuchImage(id.to_string()));
        };
        let size = record.layers.iter().filter_map(|layer| state.layers.get(layer)).map(|layer| layer.size).sum();
        *state.image_pins.entry(id).or_default() += 1;
        let shared = state.configs.get(&id).and_then(Weak::upgrade);
        drop(state);
        let pin = Arc::new(ImagePin { store: self.clone(), id });
        let config = match shared {
            Some(config) => config,
            None => {
                let config = Arc::new(ImageConfig::parse(&self.read_blob(id)?)?);
                self.lock().configs.insert(id, Arc::downgrade(&config));
                config
            }
        };
        Ok(Image { pin, config, layers: record.layers.into(), size, parent: record.parent })
    }

    /// The ids of all images.
    pub fn images(&self) -> Vec<Digest> {
        self.lock().images.keys().copied().collect()
    }

    /// The ids that begin with these hex digits.
    pub fn find(&self, hex_prefix: &str) -> Vec<Digest> {
        self.lock().images.keys().filter(|id| id.hex().starts_with(hex_prefix)).copied().collect()
    }

    /// Every layer in the store with the bytes of its files.
    pub fn layers(&self) -> Vec<(Digest, u64)> {
        self.lock().layers.values().map(|layer| (layer.diff_id, layer.size)).collect()
    }

    /// Removes the images that are neither in `roots` nor held by an [`Image`], and what only they needed.
    pub fn collect(&self, roots: impl IntoIterator<Item = Digest>) -> Result<Collected> {
        let roots: BTreeSet<Digest> = roots.into_iter().collect();
        let trash = self.unfinished_path();
        fs::create_dir(&trash).at("make", &trash)?;
        let collected = self.unlink_unneeded(&roots, &trash);
        remove_tree(&trash)?;
        collected
    }

    /// Makes the directories of a container's file system in `container_dir`; without an image it begins empty.
    pub fn prepare_root(&self, image: Option<&Image>, container_dir: impl AsRef<Path>) -> Result<Overlay> {
        let container_dir = container_dir.as_ref();
        let (upper, work) = (container_dir.join("diff"), container_dir.join("work"));
        let lower = self.lower_directories(image)?;
        for path in [&upper, &work] {
            fs::create_dir_all(path).at("make", path)?;
        }
        fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .at("change mode of", &upper)?;
        fs::set_permissions(&work, std::os::unix::fs::PermissionsExt::from_mode(0o711)).at("change mode of", &work)?;
        if let Some(topmost) = lower.first() {
            copy_root_attributes(&self.inner.root.join(LAYERS).join(topmost), &upper)?;
        }
        Ok(Overlay { layers_dir: self.inner.root.join(LAYERS), lower, upper, work })
    }

    /// The overlay of a container whose directories [`Store::prepare_root`] has made before.
    pub fn root_of(&self, image: Option<&Image>, container_dir: impl AsRef<Path>) -> Result<Overlay> {
        let container_dir = container_dir.as_ref();
        let lower = self.lower_directories(image)?;
        let (upper, work) = (container_dir.join("diff"), container_dir.join("work"));
        Ok(Overlay { layers_dir: self.inner.root.join(LAYERS), lower, upper, work })
    }

    /// Removes what [`Store::prepare_root`] made; nothing there is no error.
    pub fn remove_root(&self, container_dir: impl AsRef<Path>) -> Result<()> {
        for name in ["work", "diff"] {
            remove_tree(&container_dir.as_ref().join(name))?;
        }
        Ok(())
    }

    /// Where the layers of an image lie, topmost first.
    pub fn directories(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let layers_dir = self.inner.root.join(LAYERS);
        Ok(self.lower_directories(Some(image))?.iter().map(|lower| layers_dir.join(lower)).collect())
    }

    fn lower_directories(&self, image: Option<&Image>) -> Result<Vec<String>> {
        let empty = [digest_of(&[0; 1024])];
        let layers = image.filter(|image| !image.layers.is_empty()).map_or(empty.as_slice(), |image| &image.layers);
        if layers.len() > MOST_LAYERS {
            return Err(Error::TooManyLayers(layers.len()));
        }
        let state = self.lock();
        // overlayfs refuses one directory given twice; the upper of the two says all that both say.
        let mut seen = BTreeSet::new();
        let unique = layers.iter().rev().filter(|layer| seen.insert(**layer));
        unique
            .map(|layer| match state.layers.get(layer) {
                Some(record) => Ok(format!("{}/{ROOT_DIR}", record.number)),
                None => Err(Error::NoSuchImage(format!("layer {layer}"))),
            })
            .collect()
    }

    /// overlayfs wants at least one lower directory, so the empty layer is always there.
    fn empty_layer(&self) -> Result<()> {
        let archive = [0u8; 1024];
        if !self.lock().layers.contains_key(&digest_of(&archive)) {
            let fresh = self.unpack(archive.as_slice(), Limits::default())?;
            write_layer_record(&fresh)?;
            self.adopt(&mut self.lock(), fresh)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole at each step, so a panic elsewhere leaves it usable.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new name for unfinished work.
    pub(crate) fn unfinished_path(&self) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.root.join(UNFINISHED).join(number.to_string())
    }

    /// Keeps a layer that is in the store for someone who has yet to show that they may use it.
    pub(crate) fn keep_layer(&self, diff_id: Digest) -> Option<Unshown> {
        self.pin_layer(diff_id).map(Unshown)
    }

    /// Keeps a layer that is in the store for someone who has shown that they may use it.
    pub(crate) fn hold_layer(&self, shown: &Shown) -> Option<LayerPin> {
        self.pin_layer(shown.diff_id())
    }

    fn pin_layer(&self, diff_id: Digest) -> Option<LayerPin> {
        let mut state = self.lock();
        state.layers.contains_key(&diff_id).then(|| {
            *state.layer_pins.entry(diff_id).or_default() += 1;
            LayerPin { store: self.clone(), diff_id }
        })
    }

    /// Unpacks a layer, compressed or not, aside.
    pub(crate) fn unpack(&self, input: impl Read + Send, limits: Limits) -> Result<FreshLayer> {
        unpack_layer(input, self.unfinished_path(), limits)
    }

    /// Makes an image of a configuration and its layers, which may come in any order. All of them must be given: what
    /// the configuration names and nobody brings is missing, whatever the store has.
    pub(crate) fn commit(&self, raw: &[u8], layers: Vec<Layer>, parent: Option<Digest>) -> Result<Image> {
        let config = ImageConfig::parse(raw)?;
        let (fresh, held) = sort_layers(&config, layers)?;
        let id = digest_of(raw);
        let record = ImageRecord { layers: config.rootfs.diff_ids.clone(), parent };
        let blob = self.write_unfinished(raw)?;
        let text = serde_json::to_vec(&record).map_err(|error| Error::json("image record", &error))?;
        let record_path = self.write_unfinished(&text)?;
        for layer in &fresh {
            write_layer_record(layer)?;
        }
        sync_file_system(&self.inner.root)?;
        let mut state = self.lock();
        for layer in fresh {
            self.adopt(&mut state, layer)?;
        }
        let place = self.blob_path(id);
        fs::rename(&blob, &place).at("rename into", &place)?;
        let place = self.record_path(id);
        fs::rename(&record_path, &place).at("rename into", &place)?;
        state.images.entry(id).or_insert(record);
        *state.image_pins.entry(id).or_default() += 1;
        drop(state);
        let pin = ImagePin { store: self.clone(), id };
        sync_directory(&self.inner.root.join(IMAGES))?;
        drop(held);
        let image = self.image(id)?;
        drop(pin);
        Ok(image)
    }

    /// Moves an unpacked layer to its place; one that is there already wins.
    fn adopt(&self, state: &mut State, layer: FreshLayer) -> Result<()> {
        if state.layers.contains_key(&layer.diff_id) {
            return Ok(());
        }
        let number = state.next_layer;
        let place = self.inner.root.join(LAYERS).join(number.to_string());
        fs::rename(&layer.path, &place).at("rename into", &place)?;
        state.next_layer += 1;
        state.layers.insert(layer.diff_id, record_of(&layer, number));
        layer.keep();
        Ok(())
    }

    /// Length of a layer's plain tar.
    pub(crate) fn tar_size(&self, diff_id: Digest) -> Result<u64> {
        let size = self.lock().layers.get(&diff_id).map(|layer| layer.tar_size);
        size.ok_or_else(|| Error::NoSuchImage(format!("layer {diff_id}")))
    }

    /// Writes a layer's plain tar.
    pub(crate) fn write_layer(&self, diff_id: Digest, out: impl Write) -> Result<u64> {
        write_layer(&self.layer_path(diff_id)?, diff_id, out)
    }

    pub(crate) fn layer_path(&self, diff_id: Digest) -> Result<PathBuf> {
        let number = self.lock().layers.get(&diff_id).map(|layer| layer.number);
        let number = number.ok_or_else(|| Error::NoSuchImage(format!("layer {diff_id}")))?;
        Ok(self.inner.root.join(LAYERS).join(number.to_string()))
    }

    pub(crate) fn write_unfinished(&self, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.unfinished_path();
        fs::write(&path, bytes).at("write", &path)?;
        Ok(path)
    }

    fn read_blob(&self, digest: Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).at("read", &path)?;
        let actual = digest_of(&bytes);
        if actual != digest {
            let what = path.display().to_string();
            return Err(Error::WrongDigest { what, expected: digest, actual });
        }
        Ok(bytes)
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.inner.root.join(BLOBS).join(digest.hex())
    }

    fn record_path(&self, id: Digest) -> PathBuf {
        self.inner.root.join(IMAGES).join(format!("{}.json", id.hex()))
    }

    /// Takes what nobody needs out of the index and its files out of the way.
    fn unlink_unneeded(&self, roots: &BTreeSet<Digest>, trash: &Path) -> Result<Collected> {
        let mut collected = Collected::default();
        let mut state = self.lock();
        let unneeded = state.images.keys().filter(|id| !roots.contains(id) && !state.image_pins.contains_key(id));
        collected.images = unneeded.copied().collect();
        for id in &collected.images {
            for path in [self.record_path(*id), self.blob_path(*id)] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at("remove", &path),
                    _ => {}
                }
            }
            state.images.remove(id);
        }
        let mut needed: BTreeSet<Digest> = state.images.values().flat_map(|image| image.layers.clone()).collect();
        needed.extend(state.layer_pins.keys());
        needed.insert(digest_of(&[0; 1024]));
        let unneeded: Vec<_> =
            state.layers.values().filter(|layer| !needed.contains(&layer.diff_id)).copied().collect();
        for layer in unneeded {
            let place = self.inner.root.join(LAYERS).join(layer.number.to_string());
            fs::rename(&place, trash.join(layer.number.to_string())).at("move away", &place)?;
            state.layers.remove(&layer.diff_id);
            collected.layers.push(layer.diff_id);
            collected.bytes += layer.size;
        }
        Ok(collected)
    }
}

impl Image {
    /// The digest of its configuration.
    pub fn id(&self) -> Digest {
        self.pin.id
    }

    /// What it says of itself.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its configuration byte for byte.
    pub fn raw_config(&self) -> Result<Vec<u8>> {
        self.pin.store.read_blob(self.id())
    }

    /// The platform it is for.
    pub fn platform(&self) -> Platform {
        self.config.platform()
    }

    /// When it was made; the epoch if it does not say.
    pub fn created(&self) -> Timestamp {
        self.config.created_at().unwrap_or_else(|| Timestamp::from_secs(0))
    }

    /// Bytes of its layers' files.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The image that it was committed on, if it was made here; that one may be gone.
    pub fn parent(&self) -> Option<Digest> {
        self.parent
    }

    /// The digests of its layers' plain tars, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// Bytes of the files of each layer, lowest first.
    pub fn layer_sizes(&self) -> Vec<u64> {
        let state = self.pin.store.lock();
        self.layers.iter().map(|layer| state.layers.get(layer).map_or(0, |layer| layer.size)).collect()
    }

    /// The names that Docker gives to the stacks of layers from the lowest up to each.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter() {
            let next = chain.last().map_or(*layer, |below| digest_of(format!("{below} {layer}").as_bytes()));
            chain.push(next);
        }
        chain
    }

    pub(crate) fn store(&self) -> &Store {
        &self.pin.store
    }

    /// Its layers, for an image that is made on top of it: whoever has an image has its layers.
    pub(crate) fn hold_layers(&self) -> Vec<LayerPin> {
        self.layers.iter().filter_map(|diff_id| self.pin.store.pin_layer(*diff_id)).collect()
    }
}

/// Checks that all layers of a configuration are given; says which to adopt and which to hold meanwhile.
fn sort_layers(config: &ImageConfig, layers: Vec<Layer>) -> Result<(Vec<FreshLayer>, Vec<LayerPin>)> {
    let wanted = &config.rootfs.diff_ids;
    if wanted.len() > MOST_LAYERS {
        return Err(Error::TooManyLayers(wanted.len()));
    }
    let (mut fresh, mut held): (Vec<FreshLayer>, Vec<LayerPin>) = (Vec::new(), Vec::new());
    for layer in layers {
        match layer {
            Layer::Fresh(layer) if wanted.contains(&layer.diff_id) => fresh.push(layer),
            Layer::Fresh(_) => {}
            Layer::Held(pin) => held.push(pin),
        }
    }
    for diff_id in wanted {
        let given =
            fresh.iter().any(|layer| layer.diff_id == *diff_id) || held.iter().any(|pin| pin.diff_id == *diff_id);
        if !given {
            return Err(Error::InvalidArchive(format!("layer {diff_id} of the image is missing")));
        }
    }
    Ok((fresh, held))
}

fn record_of(layer: &FreshLayer, number: u64) -> LayerRecord {
    LayerRecord { diff_id: layer.diff_id, size: layer.size, tar_size: layer.tar_size, number }
}

fn write_layer_record(layer: &FreshLayer) -> Result<()> {
    let record = record_of(layer, 0);
    let text = serde_json::to_vec(&record).map_err(|error| Error::json("layer record", &error))?;
    let path = layer.path.join(LAYER_RECORD);
    fs::write(&path, text).at("write", &path)
}

/// A container's root directory looks like its image's.
fn copy_root_attributes(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(from).at("look up", from)?;
    std::os::unix::fs::chown(to, Some(found.uid()), Some(found.gid())).at("change owner of", to)?;
    fs::set_permissions(to, found.permissions()).at("change mode of", to)
}

fn remove_children(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).at("list", directory)? {
        remove_tree(&entry.at("list", directory)?.path())?;
    }
    Ok(())
}

fn sync_file_system(root: &Path) -> Result<()> {
    let directory = File::open(root).at("open", root)?;
    rustix::fs::syncfs(&directory).at("sync the file system of", root)
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).at("sync", path)
}

fn read_layers(directory: &Path, state: &mut State) -> Result<()> {
    for entry in fs::read_dir(directory).at("list", directory)? {
        let path = entry.at("list", directory)?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
        let record = fs::read(path.join(LAYER_RECORD)).ok();
        let record = record.and_then(|raw| serde_json::from_slice::<LayerRecord>(&raw).ok());
        match (number, record) {
            (Some(number), Some(record)) if !state.layers.contains_key(&record.diff_id) => {
                state.next_layer = state.next_layer.max(number + 1);
                state.layers.insert(record.diff_id, LayerRecord { number, ..record });
            }
            // Layers are whole when they are renamed to here; anything else is no layer.
            _ => remove_tree(&path)?,
        }
    }
    Ok(())
}

fn read_images(root: &Path, state: &mut State) -> Result<()> {
    let directory = root.join(IMAGES);
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        let id = path.file_stem().and_then(|stem| Digest::from_hex(stem.to_str()?).ok());
        let raw = fs::read(&path).at("read", &path)?;
        let record = serde_json::from_slice::<ImageRecord>(&raw).ok();
        let whole = |record: &ImageRecord| record.layers.iter().all(|layer| state.layers.contains_key(layer));
        match (id, record) {
            (Some(id), Some(record)) if whole(&record) && root.join(BLOBS).join(id.hex()).exists() => {
                state.images.insert(id, record);
            }
            _ => fs::remove_file(&path).at("remove", &path)?,
        }
    }
    let blobs = root.join(BLOBS);
    for entry in fs::read_dir(&blobs).at("list", &blobs)? {
        let path = entry.at("list", &blobs)?.path();
        let id = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?).ok());
        if !id.is_some_and(|id| state.images.contains_key(&id)) {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}
