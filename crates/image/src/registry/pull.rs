//! Pulls an image: manifest, configuration, and the layers that are not here yet, several at once.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::Bytes;
use droste_model::digest::Digest;
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use http::header::RANGE;
use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::RegistryError;
use super::session::{Call, Fetched, Session, next_piece, refusal};
use super::{Auth, Registry, SharedSink};
use crate::config::ImageConfig;
use crate::error::Context as _;
use crate::extract::Limits;
use crate::forms::Form;
use crate::hash::Hasher;
use crate::manifest::{DOCKER_FOREIGN_LAYER, DOCKER_LAYER, Descriptor, Document, Manifest};
use crate::possession::{Possession, Shown};
use crate::progress::{Counter, Progress};
use crate::store::{Image, Layer, LayerPin, Store};

/// How an image is pulled.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Credentials.
    pub auth: Auth,
    /// The platform; the machine's if none.
    pub platform: Option<Platform>,
    /// Bounds on what one layer may unpack to.
    pub limits: Limits,
    /// What the one who pulls has already, and need not be given by the registry.
    pub possession: Possession,
}

/// A pulled image.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest that the reference has in the registry: of the index, if it is one.
    pub digest: Digest,
}

impl Progress {
    /// The last line of a pull, which the engine sends once it has set the tag.
    pub fn pulled(reference: &Reference, is_newer: bool) -> Self {
        let what = if is_newer { "Downloaded newer image for" } else { "Image is up to date for" };
        Self::status(format!("Status: {what} {}", reference.familiar()))
    }
}

impl Registry {
    /// Pulls what a reference names. Nothing is left behind if it fails or the future is dropped.
    pub async fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        options: &PullOptions,
        sink: SharedSink,
    ) -> Result<Pulled, RegistryError> {
        let (session, fetched) = self.resolve(reference, &options.auth).await?;
        let digest = fetched.digest;
        let tag = reference.digest().map(|digest| digest.to_string());
        let tag = tag.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_default();
        sink(Progress::of(&tag, format!("Pulling from {}", reference.path())));
        let pull = Pull {
            session,
            store: store.clone(),
            reference: reference.clone(),
            options: options.clone(),
            sink: Arc::clone(&sink),
        };
        let image = Arc::new(pull).run(fetched).await?;
        sink(Progress::status(format!("Digest: {digest}")));
        Ok(Pulled { image, digest })
    }
}

struct Pull {
    session: Arc<Session>,
    store: Store,
    reference: Reference,
    options: PullOptions,
    sink: SharedSink,
}

impl Session {
    /// A blob of a repository that is short enough for memory.
    pub(super) async fn small_blob(&self, repository: &str, item: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let path = self.path(repository, &format!("blobs/{}", item.digest));
        self.retried(|| self.document(path.clone(), item)).await
    }
}

impl Pull {
    async fn run(self: Arc<Self>, fetched: Fetched) -> Result<Image, RegistryError> {
        let manifest = self.manifest(fetched).await?;
        if let Some(image) = self.options.possession.image(&self.store, manifest.config.digest) {
            return Ok(image);
        }
        let raw = self.session.small_blob(self.reference.path(), &manifest.config).await?;
        let config = ImageConfig::parse(&raw)?;
        let (named, stated) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if named != stated {
            let reason = format!("the manifest names {named} layers, the configuration {stated}");
            return Err(RegistryError::protocol(&self.reference.familiar(), reason));
        }
        let (layers, forms) = self.layers(&manifest, &config).await?;
        let store = self.store.clone();
        let commit = tokio::task::spawn_blocking(move || store.commit(&raw, layers, None));
        let image = commit.await.map_err(died)??;
        for form in forms {
            // A pull whose notes are lost is none the worse.
            drop(self.store.note_form(form));
        }
        Ok(image)
    }

    async fn manifest(&self, fetched: Fetched) -> Result<Manifest, RegistryError> {
        let index = match fetched.document {
            Document::Manifest(manifest) => return Ok(*manifest),
            Document::Index(index) => index,
        };
        let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
        let none = || RegistryError::NoMatchingPlatform(wanted.to_string());
        let chosen = index.choose(&wanted).ok_or_else(none)?;
        let path = self.session.path(self.reference.path(), &format!("manifests/{}", chosen.digest));
        let raw = self.session.retried(|| self.session.document(path.clone(), chosen)).await?;
        match Document::parse(&chosen.media_type, &raw)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => {
                Err(RegistryError::protocol(&self.session.endpoint.url(&path), "an index in an index"))
            }
        }
    }

    /// All layers of the image, from the store where they are there and may be used; and the forms that came.
    async fn layers(
        self: &Arc<Self>,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<(Vec<Layer>, Vec<Form>), RegistryError> {
        let mut layers = Vec::new();
        let mut wanted = Vec::new();
        let mut announced = BTreeSet::new();
        let held = self.options.possession.layers(&self.store);
        for (item, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let id = item.digest.short();
            let own = held.shown(*diff_id).and_then(|shown| self.store.hold_layer(&shown));
            if let Some(pin) = if own.is_some() { own } else { self.readable(item, *diff_id).await? } {
                layers.push(Layer::Held(pin));
                (self.sink)(Progress::of(&id, "Already exists"));
            } else if announced.insert((item.digest, *diff_id)) {
                (self.sink)(Progress::of(&id, "Pulling fs layer"));
                wanted.push((item.clone(), *diff_id));
            }
        }
        for (item, _) in wanted.iter().skip(self.session.settings.downloads) {
            (self.sink)(Progress::of(&item.digest.short(), "Waiting"));
        }
        let downloads = Arc::new(Semaphore::new(self.session.settings.downloads.max(1)));
        let unpacks = Arc::new(Semaphore::new(2));
        // Dropped with this future, which ends the tasks.
        let mut tasks = JoinSet::new();
        for (item, diff_id) in wanted {
            let (pull, downloads, unpacks) = (Arc::clone(self), Arc::clone(&downloads), Arc::clone(&unpacks));
            tasks.spawn(async move {
                let form = pull.form(&item, diff_id);
                pull.layer(item, diff_id, &downloads, &unpacks).await.map(|layer| (layer, form))
            });
        }
        let mut forms = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let (layer, form) = done.map_err(died)??;
            layers.push(layer);
            forms.extend(form);
        }
        Ok((layers, forms))
    }

    /// A layer that this registry gave before, if it proves by its certificate to be the same one and lets us read it.
    async fn readable(&self, item: &Descriptor, diff_id: Digest) -> Result<Option<LayerPin>, RegistryError> {
        if !self.session.endpoint.is_proven() {
            return Ok(None);
        }
        let registry = self.reference.domain();
        let forms = self.store.forms(diff_id);
        let shown = forms.iter().find_map(|form| Shown::by_registry(form, registry, item.digest));
        let Some((shown, kept)) = shown.zip(self.store.keep_layer(diff_id)) else { return Ok(None) };
        let readable = self.session.has_blob(self.reference.path(), item.digest).await?;
        Ok(if readable { kept.shown(&shown) } else { None })
    }

    /// What there is to note of a layer that came; only gzip serves later pushes.
    fn form(&self, item: &Descriptor, diff_id: Digest) -> Option<Form> {
        let is_gzip = item.media_type == DOCKER_LAYER || item.media_type.ends_with("+gzip");
        is_gzip.then(|| Form {
            diff_id,
            registry: self.reference.domain().to_owned(),
            repository: self.reference.path().to_owned(),
            digest: item.digest,
            size: item.size,
        })
    }

    async fn layer(
        self: Arc<Self>,
        item: Descriptor,
        diff_id: Digest,
        downloads: &Semaphore,
        unpacks: &Semaphore,
    ) -> Result<Layer, RegistryError> {
        if item.media_type == DOCKER_FOREIGN_LAYER {
            let what = item.digest.to_string();
            return Err(RegistryError::protocol(&what, "a foreign layer, which only Windows has"));
        }
        let id = item.digest.short();
        let file = {
            let _turn = downloads.acquire().await;
            self.download(&item).await?
        };
        (self.sink)(Progress::of(&id, "Download complete"));
        if let Some(pin) = self.unpacked_before(item.digest, diff_id) {
            (self.sink)(Progress::of(&id, "Pull complete"));
            return Ok(Layer::Held(pin));
        }
        let _turn = unpacks.acquire().await;
        let (pull, size) = (Arc::clone(&self), item.size);
        let unpack = tokio::task::spawn_blocking(move || {
            let sink = |progress: Progress| (pull.sink)(progress);
            let counted = Counted { file, counter: Counter::new(&sink, &id, "Extracting", size) };
            let fresh = pull.store.unpack(counted, pull.options.limits)?;
            if fresh.diff_id != diff_id {
                let (what, actual) = (format!("layer {id} unpacked"), fresh.diff_id);
                return Err(RegistryError::WrongDigest { what, expected: diff_id, actual });
            }
            (pull.sink)(Progress::of(&id, "Pull complete"));
            Ok(Layer::Fresh(fresh))
        });
        unpack.await.map_err(died)?
    }

    /// The layer that bytes with this digest are known to unpack to, if that is the one.
    fn unpacked_before(&self, came: Digest, diff_id: Digest) -> Option<LayerPin> {
        let forms = self.store.forms(diff_id);
        let shown = forms.iter().find_map(|form| Shown::by_form(form, came))?;
        self.store.hold_layer(&shown)
    }

    /// Downloads a layer to a file without a name, going on where a cut transfer stopped.
    async fn download(&self, item: &Descriptor) -> Result<File, RegistryError> {
        let path = self.store.unfinished_path();
        let file = File::options().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        std::fs::remove_file(&path).at("remove", &path)?;
        let mut transfer = Transfer { file, hasher: Hasher::new() };
        let mut tries = 0;
        loop {
            tries += 1;
            match self.transfer(item, &mut transfer).await {
                Ok(()) => break,
                Err(error) if error.is_transient() && tries < self.session.settings.attempts => {
                    tokio::time::sleep(std::time::Duration::from_millis(100 << tries.min(6))).await;
                }
                Err(error) => return Err(error),
            }
        }
        (self.sink)(Progress::of(&item.digest.short(), "Verifying Checksum"));
        let Transfer { mut file, hasher } = transfer;
        let actual = hasher.finish();
        if actual != item.digest {
            let what = format!("layer {}", item.digest.short());
            return Err(RegistryError::WrongDigest { what, expected: item.digest, actual });
        }
        file.seek(SeekFrom::Start(0)).at("rewind", &path)?;
        Ok(file)
    }

    async fn transfer(&self, item: &Descriptor, transfer: &mut Transfer) -> Result<(), RegistryError> {
        let what = format!("layer {}", item.digest.short());
        let have = transfer.hasher.length();
        if have == item.size && have > 0 {
            return Ok(());
        }
        let path = self.session.path(self.reference.path(), &format!("blobs/{}", item.digest));
        let mut call = Call::new(Method::GET, path);
        if have > 0 {
            call = call.header(RANGE, format!("bytes={have}-"));
        }
        let response = self.session.call(&call).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if have > 0 => {}
            StatusCode::OK => transfer.restart()?,
            _ => return Err(refusal(response, self.session.settings.stall).await.into_error()),
        }
        let mut body = response.into_body();
        let sink = |progress: Progress| (self.sink)(progress);
        let mut counter = Counter::new(&sink, &item.digest.short(), "Downloading", item.size);
        counter.add(transfer.hasher.length());
        while let Some(piece) = next_piece(&mut body, self.session.settings.stall, &what).await? {
            transfer.add(&piece)?;
            counter.add(piece.len() as u64);
            let actual = transfer.hasher.length();
            if actual > item.size {
                return Err(RegistryError::WrongSize { what, expected: item.size, actual });
            }
        }
        match transfer.hasher.length() {
            length if length < item.size => {
                let reason = format!("{length} of {} bytes came", item.size);
                Err(RegistryError::Cut { what, reason })
            }
            _ => Ok(()),
        }
    }
}

/// A download in progress.
struct Transfer {
    file: File,
    hasher: Hasher,
}

impl Transfer {
    fn restart(&mut self) -> Result<(), RegistryError> {
        self.hasher = Hasher::new();
        self.file.set_len(0).at("truncate", "a download")?;
        self.file.seek(SeekFrom::Start(0)).at("rewind", "a download")?;
        Ok(())
    }

    fn add(&mut self, piece: &Bytes) -> Result<(), RegistryError> {
        // Into the page cache; a piece is a few kilobytes, shorter than handing it to another thread takes.
        self.file.write_all(piece).at("write", "a download")?;
        self.hasher.update(piece);
        Ok(())
    }
}

struct Counted<'a> {
    file: File,
    counter: Counter<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.counter.add(count as u64);
        Ok(count)
    }
}

/// A task of ours that panicked.
pub(super) fn died(error: impl std::fmt::Display) -> RegistryError {
    RegistryError::protocol("a task of the registry client", error.to_string())
}
