//! Loads images from an archive: `docker save`'s format, an OCI layout, or both in one.
//!
//! The archive is read once, from front to back. Layers are unpacked as they pass, before the documents that name
//! them are seen; only the small documents are kept in memory. What no document names is removed again.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};

use droste_model::digest::Digest;
use droste_model::platform::Platform;
use droste_model::reference::Reference;

use crate::config::{ImageConfig, LONGEST};
use crate::decompress::{Compression, decompress, peek};
use crate::error::{Error, Result};
use crate::extract::{Limits, clean_name, split_path};
use crate::hash::{HashReader, digest_of};
use crate::layer::FreshLayer;
use crate::manifest::{Descriptor, Document, SavedImage};
use crate::possession::Shown;
use crate::progress::{Counter, Sink};
use crate::store::{Image, Layer, LayerPin, Store, Unshown};
use crate::tar::read::{Plain, TarError, TarReader};
use crate::tar::{Entry, Kind};

/// More bytes of documents than this in one archive are refused.
const MOST_DOCUMENTS: u64 = 64 << 20;
/// Indexes within indexes deeper than this are refused.
const DEEPEST: usize = 4;

/// How an archive is to be loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Bounds on what one layer may unpack to.
    pub limits: Limits,
    /// Load images for this platform only.
    pub platform: Option<Platform>,
}

/// An image from an archive.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The tags that the archive gives to it.
    pub references: Vec<Reference>,
}

/// Loads all images of an archive, which may be compressed. Blocking.
pub fn load(store: &Store, input: impl Read + Send, options: &LoadOptions, sink: Sink<'_>) -> Result<Vec<Loaded>> {
    let (_, plain) = decompress(input).map_err(Error::stream)?;
    let mut loader = Loader {
        store,
        options,
        sink,
        documents: HashMap::new(),
        document_bytes: 0,
        layers: HashMap::new(),
        links: HashMap::new(),
        fresh: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    let mut tar = TarReader::new(Plain(BufReader::with_capacity(256 << 10, plain)));
    while let Some(entry) = tar.next()? {
        loader.entry(&mut tar, &entry)?;
    }
    loader.images()
}

type Outer<R> = TarReader<Plain<BufReader<R>>>;

struct Loader<'a> {
    store: &'a Store,
    options: &'a LoadOptions,
    sink: Sink<'a>,
    documents: HashMap<Vec<u8>, Vec<u8>>,
    document_bytes: u64,
    /// By entry name: the layer's diff id, or why it is none, which counts only if an image names it.
    layers: HashMap<Vec<u8>, Result<Digest>>,
    links: HashMap<Vec<u8>, Vec<u8>>,
    fresh: BTreeMap<Digest, FreshLayer>,
    /// Layers of the store whose bytes were in the archive.
    held: BTreeMap<Digest, LayerPin>,
}

impl Loader<'_> {
    fn entry<R: Read + Send>(&mut self, tar: &mut Outer<R>, entry: &Entry) -> Result<()> {
        if entry.name.starts_with(b"/") {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            return Err(Error::RefusedEntry { name, reason: "an absolute name in an image archive" });
        }
        let name = clean_name(&entry.name)?;
        match entry.kind {
            Kind::Directory => Ok(()),
            Kind::File => self.file(tar, entry, name),
            Kind::Symlink => {
                let beside = [split_path(&name).0, b"/", &entry.link].concat();
                self.links.insert(name, clean_name(&beside)?);
                Ok(())
            }
            Kind::HardLink => {
                self.links.insert(name, clean_name(&entry.link)?);
                Ok(())
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let name = String::from_utf8_lossy(&name).into_owned();
                Err(Error::RefusedEntry { name, reason: "a device in an image archive" })
            }
        }
    }

    fn file<R: Read + Send>(&mut self, tar: &mut Outer<R>, entry: &Entry, name: Vec<u8>) -> Result<()> {
        if let Some(kept) = blob_digest(&name).and_then(|digest| self.store.keep_layer(digest)) {
            let result = self.known_layer(tar, &name, kept)?;
            self.layers.insert(name, result);
            return Ok(());
        }
        let (start, reader) = peek(ContentReader { tar }, 512).map_err(Error::stream)?;
        if name.ends_with(b".tar") || looks_like_layer(&start) {
            return self.layer(start, reader, entry, name);
        }
        if entry.size > LONGEST {
            // Nothing that an image needs is that long and no layer; an image that names it will say so.
            return Ok(());
        }
        self.document_bytes += entry.size;
        if self.document_bytes > MOST_DOCUMENTS {
            return Err(Error::TooLarge { limit: MOST_DOCUMENTS, unit: "bytes of documents" });
        }
        let mut bytes = start;
        let mut reader = reader;
        reader.read_to_end(&mut bytes).map_err(Error::stream)?;
        if let Some(expected) = blob_digest(&name) {
            check_digest(&name, expected, digest_of(&bytes))?;
        }
        self.documents.insert(name, bytes);
        Ok(())
    }

    /// A plain layer that the store has: it need not be unpacked again, but all of it must be in the archive. Its
    /// digest is known to others than those who may have it.
    fn known_layer<R: Read + Send>(
        &mut self,
        tar: &mut Outer<R>,
        name: &[u8],
        kept: Unshown,
    ) -> Result<Result<Digest>> {
        let mut hashed = HashReader::new(ContentReader { tar });
        io::copy(&mut hashed, &mut io::sink()).map_err(Error::stream)?;
        let actual = hashed.hasher.finish();
        let Some(pin) = kept.shown(&Shown::by_bytes(actual)) else {
            let expected = blob_digest(name).unwrap_or(actual);
            return Ok(check_digest(name, expected, actual).map(|()| actual));
        };
        self.held.insert(actual, pin);
        Ok(Ok(actual))
    }

    fn layer<R: Read + Send>(
        &mut self,
        start: Vec<u8>,
        reader: ContentReader<'_, R>,
        entry: &Entry,
        name: Vec<u8>,
    ) -> Result<()> {
        let shown = blob_digest(&name).map_or_else(|| short_name(&name), |digest| digest.short());
        let compressed = Compression::sniff(&start) != Compression::None;
        let counted = Counted {
            inner: io::Cursor::new(start).chain(reader),
            counter: Counter::new(self.sink, &shown, "Loading layer", entry.size),
        };
        // A plain layer's own digest is that of the stream; only a compressed one needs a second hash.
        let result = match blob_digest(&name) {
            Some(expected) if compressed => self.verified_layer(counted, &name, expected),
            expected => self.store.unpack(counted, self.options.limits).and_then(|fresh| {
                expected.map_or(Ok(()), |expected| check_digest(&name, expected, fresh.diff_id)).map(|()| fresh)
            }),
        };
        let diff_id = match result {
            Ok(fresh) => {
                let diff_id = fresh.diff_id;
                self.fresh.entry(diff_id).or_insert(fresh);
                Ok(diff_id)
            }
            Err(error @ (Error::Io { .. } | Error::TooLarge { .. } | Error::ReadStream(_))) => return Err(error),
            Err(error) => Err(error),
        };
        self.layers.insert(name, diff_id);
        Ok(())
    }

    fn verified_layer(&self, input: impl Read + Send, name: &[u8], expected: Digest) -> Result<FreshLayer> {
        let mut hashed = HashReader::new(input);
        let fresh = self.store.unpack(&mut hashed, self.options.limits)?;
        io::copy(&mut hashed, &mut io::sink()).map_err(Error::stream)?;
        check_digest(name, expected, hashed.hasher.finish())?;
        Ok(fresh)
    }

    fn images(mut self) -> Result<Vec<Loaded>> {
        let loaded = if let Some(raw) = self.documents.get(b"manifest.json".as_slice()) {
            let items: Vec<SavedImage> =
                serde_json::from_slice(raw).map_err(|error| Error::json("manifest.json", &error))?;
            self.saved_images(items)?
        } else if let Some(raw) = self.documents.get(b"index.json".as_slice()) {
            let raw = raw.clone();
            self.oci_images(&raw)?
        } else {
            let reason = "neither manifest.json (docker save) nor index.json (OCI layout) is in it";
            return Err(Error::InvalidArchive(reason.to_owned()));
        };
        match &self.options.platform {
            Some(platform) if loaded.is_empty() => Err(Error::NoMatchingPlatform(platform.to_string())),
            _ => Ok(loaded),
        }
    }

    fn saved_images(&mut self, items: Vec<SavedImage>) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        for item in items {
            let references = item.repo_tags.unwrap_or_default();
            let references = references.iter().map(|tag| parse_tag(tag)).collect::<Result<Vec<_>>>()?;
            let raw = self.document(item.config.as_bytes(), "image configuration")?;
            let names = item.layers.into_iter().map(String::into_bytes).collect();
            loaded.extend(self.commit(&raw, names)?.map(|image| Loaded { image, references }));
        }
        Ok(loaded)
    }

    fn oci_images(&mut self, raw: &[u8]) -> Result<Vec<Loaded>> {
        let Document::Index(index) = Document::parse(crate::manifest::OCI_INDEX, raw)? else {
            return Err(Error::InvalidArchive("index.json is no index".to_owned()));
        };
        let mut loaded: Vec<Loaded> = Vec::new();
        for item in index.images() {
            let references: Vec<Reference> = oci_name(item).into_iter().collect();
            let Some(image) = self.oci_image(item, DEEPEST)? else { continue };
            match loaded.iter_mut().find(|other| other.image.id() == image.id()) {
                Some(other) => other.references.extend(references),
                None => loaded.push(Loaded { image, references }),
            }
        }
        Ok(loaded)
    }

    fn oci_image(&mut self, item: &Descriptor, depth: usize) -> Result<Option<Image>> {
        let raw = self.document(&blob_name(item.digest), "manifest")?;
        match Document::parse(&item.media_type, &raw)? {
            Document::Manifest(manifest) => {
                let config = self.document(&blob_name(manifest.config.digest), "image configuration")?;
                self.commit(&config, manifest.layers.iter().map(|layer| blob_name(layer.digest)).collect())
            }
            Document::Index(_) if depth == 0 => Err(Error::InvalidArchive("indexes are nested too deeply".to_owned())),
            Document::Index(index) => {
                let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
                // An archive may hold only some of the platforms that its index names.
                let present = |item: &Descriptor| self.documents.contains_key(&blob_name(item.digest));
                let manifests = index.manifests.into_iter().filter(present).collect();
                match (crate::manifest::Index { manifests, ..index }).choose(&wanted) {
                    Some(chosen) => self.oci_image(chosen, depth - 1),
                    None if self.options.platform.is_some() => Ok(None),
                    None => Err(Error::NoMatchingPlatform(wanted.to_string())),
                }
            }
        }
    }

    /// Makes the image; `None` if it is for another platform than was asked for.
    fn commit(&mut self, raw: &[u8], names: Vec<Vec<u8>>) -> Result<Option<Image>> {
        let config = ImageConfig::parse(raw)?;
        if self.options.platform.as_ref().is_some_and(|wanted| !wanted.matches(&config.platform())) {
            return Ok(None);
        }
        let wanted = &config.rootfs.diff_ids;
        if wanted.len() != names.len() {
            let (named, stated) = (names.len(), wanted.len());
            let reason = format!("invalid manifest, layers length mismatch: expected {stated}, got {named}");
            return Err(Error::InvalidArchive(reason));
        }
        let mut layers = Vec::new();
        for (name, expected) in names.iter().zip(wanted) {
            let actual = self.layer_named(name)?;
            check_digest(name, *expected, actual)?;
            layers.extend(self.fresh.remove(&actual).map(Layer::Fresh));
            layers.extend(self.held.remove(&actual).map(Layer::Held));
        }
        let image = self.store.commit(raw, layers, None)?;
        // What was shown for this image serves the archive's next one, too.
        let pins = image.layers().iter().copied().zip(image.hold_layers());
        self.held.extend(pins);
        Ok(Some(image))
    }

    fn layer_named(&mut self, name: &[u8]) -> Result<Digest> {
        let name = self.follow(name);
        match self.layers.get(&name) {
            Some(Ok(diff_id)) => Ok(*diff_id),
            Some(Err(_)) => match self.layers.remove(&name) {
                Some(Err(error)) => Err(error),
                _ => Err(missing("layer", &name)),
            },
            None => Err(missing("layer", &name)),
        }
    }

    fn document(&self, name: &[u8], what: &str) -> Result<Vec<u8>> {
        let name = self.follow(name);
        self.documents.get(&name).cloned().ok_or_else(|| missing(what, &name))
    }

    fn follow(&self, name: &[u8]) -> Vec<u8> {
        let mut name = name.to_vec();
        for _ in 0..DEEPEST {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }
}

fn missing(what: &str, name: &[u8]) -> Error {
    Error::InvalidArchive(format!("{what} {:?} is missing", String::from_utf8_lossy(name)))
}

fn check_digest(name: &[u8], expected: Digest, actual: Digest) -> Result<()> {
    let what = || String::from_utf8_lossy(name).into_owned();
    if expected == actual { Ok(()) } else { Err(Error::WrongDigest { what: what(), expected, actual }) }
}

fn parse_tag(tag: &str) -> Result<Reference> {
    tag.parse().map_err(|error| Error::InvalidArchive(format!("invalid tag {tag:?}: {error}")))
}

fn blob_name(digest: Digest) -> Vec<u8> {
    format!("blobs/sha256/{}", digest.hex()).into_bytes()
}

fn blob_digest(name: &[u8]) -> Option<Digest> {
    Digest::from_hex(std::str::from_utf8(name.strip_prefix(b"blobs/sha256/")?).ok()?).ok()
}

/// What a layer without a digest in its name is called in progress messages.
fn short_name(name: &[u8]) -> String {
    let directory = split_path(name).0;
    let name = if directory.is_empty() { name } else { directory };
    String::from_utf8_lossy(name).chars().take(12).collect()
}

/// The tag that an OCI layout gives: a full name of containerd's, or a reference name that is more than a tag.
fn oci_name(item: &Descriptor) -> Option<Reference> {
    let full = item.annotations.get("io.containerd.image.name");
    let short = item.annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    full.or(short).and_then(|name| name.parse().ok())
}

fn looks_like_layer(start: &[u8]) -> bool {
    Compression::sniff(start) != Compression::None
        || start.get(257..262) == Some(b"ustar".as_slice())
        || start.len() == 512 && start.iter().all(|byte| *byte == 0)
}

/// The content of the archive's current entry.
struct ContentReader<'a, R> {
    tar: &'a mut Outer<R>,
}

impl<R: Read> Read for ContentReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.content(buffer).map_err(|error| match error {
            TarError::Read(error) => error,
            TarError::CutShort => io::ErrorKind::UnexpectedEof.into(),
            error @ TarError::Header(_) => io::Error::other(Error::from(error)),
        })
    }
}

struct Counted<'a, R> {
    inner: R,
    counter: Counter<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.counter.add(count as u64);
        Ok(count)
    }
}
