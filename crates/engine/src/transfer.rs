//! Images on the way in and out of a host: load, save, import, commit.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use droste_image::registry::{Incoming, RegistryError};
use droste_image::{Image, Limits, LoadOptions, MakeOptions, Progress};
use droste_model::container::Config;
use droste_model::event::EventType;
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use tokio::sync::mpsc;

use crate::error::{Error, Message, Result};
use crate::files::{ChannelWriter, runs};
use crate::host::Host;
use crate::lifecycle::to_the_end;
use crate::options::{CommitOptions, Download, ImportOptions, Upload};
use crate::registry::registry_error;

/// Bytes between two messages of how far a download is.
const STEP: u64 = 512 << 10;

/// Takes progress messages of long work.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A failure of the image crate as a client reads it.
pub(crate) fn image_error(error: droste_image::Error) -> Error {
    match error {
        droste_image::Error::Io { .. } => Error::hidden("the image store failed", error),
        droste_image::Error::NoSuchImage(_) => Error::NotFound(Message::new(error.to_string())),
        error => Error::invalid(error.to_string()),
    }
}

impl Host {
    /// What a client is told of an archive that could not be unpacked into the room that its host has.
    pub(crate) fn unpack_error(&self, room: Limits, error: droste_image::Error) -> Error {
        self.state.account.no_room(room, &error).unwrap_or_else(|| image_error(error))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::hidden("the work was broken off", error))?
}

fn said(text: String) -> Progress {
    Progress { status: text, ..Progress::default() }
}

fn fetch_error(error: RegistryError) -> Error {
    let text = || Message::new(error.to_string());
    match &error {
        RegistryError::Server { status: 404, .. } => Error::NotFound(text()),
        RegistryError::Server { status: 401, .. } => Error::Unauthorized(text()),
        RegistryError::Server { status: 403, .. } => Error::Forbidden(text()),
        RegistryError::Server { status: 400..500, .. } => Error::invalid(error.to_string()),
        _ => registry_error(error),
    }
}

/// What comes from a URL as a body to be read by a thread, and the work that fetches it.
fn download(mut incoming: Incoming, sink: ProgressSink) -> (Upload, impl Future<Output = ()>) {
    let (sender, pieces) = mpsc::channel(4);
    let total = incoming.size.unwrap_or(0);
    let feed = async move {
        let (mut done, mut told) = (0, 0);
        loop {
            let piece = match incoming.next().await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => break,
                Err(error) => Err(std::io::Error::other(error.to_string())),
            };
            let (failed, count) = (piece.is_err(), piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
            done += count;
            if done - told >= STEP || done == total {
                told = done;
                sink(Progress { bytes: Some((done, total)), ..said("Importing".to_owned()) });
            }
            // Whoever reads may have ended: with an error, or because the archive is complete.
            if sender.send(piece).await.is_err() || failed {
                break;
            }
        }
    };
    (Box::new(Pieces { pieces, current: Bytes::new() }), feed)
}

/// Reads the pieces of a download; for a thread that may block.
struct Pieces {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

impl Host {
    /// Loads the images of an archive, and names them as it says.
    pub async fn load(&self, body: Upload, platform: Option<Platform>, sink: ProgressSink) -> Result<()> {
        self.require_write()?;
        self.require_space().await?;
        let host = self.clone();
        to_the_end(async move {
            let (owned, tell) = (host.clone(), Arc::clone(&sink));
            let loaded = host
                .state
                .transit
                .run(move || {
                    let options = LoadOptions { platform, limits: owned.state.account.room() };
                    let loaded = droste_image::load(&owned.engine.images, body, &options, &*tell);
                    loaded.map_err(|error| owned.unpack_error(options.limits, error))
                })
                .await?;
            for one in loaded {
                let names: Vec<String> = one.references.iter().map(ToString::to_string).collect();
                host.set_tags(&one.image, &names).await?;
                let id = one.image.id().to_string();
                for name in &one.references {
                    sink(said(format!("Loaded image: {}\n", name.familiar())));
                    host.state.emit(EventType::Image, "load", &id, &[("name", name.familiar())]);
                }
                if one.references.is_empty() {
                    sink(said(format!("Loaded image ID: {id}\n")));
                    host.state.emit(EventType::Image, "load", &id, &[("name", id.clone())]);
                }
            }
            Ok(())
        })
        .await
    }

    /// Images with the tags by which they were asked for, as one archive.
    pub async fn save(&self, names: Vec<String>, _platform: Option<Platform>) -> Result<Download> {
        if names.is_empty() {
            return Err(Error::invalid("no images specified for export"));
        }
        let mut wanted: Vec<(Image, Vec<Reference>)> = Vec::new();
        for name in &names {
            let view = self.image(name, None).map_err(|error| match error {
                Error::NotFound(_) => Error::no_such_image(name),
                error => error,
            })?;
            let tags = self.tags_to_save(name, &view.tags)?;
            match wanted.iter_mut().find(|(image, _)| image.id() == view.image.id()) {
                Some((_, had)) => had.extend(tags),
                None => wanted.push(((*view.image).clone(), tags)),
            }
            self.state.emit(EventType::Image, "save", &view.id, &[("name", name.clone())]);
        }
        let (writer, download) = ChannelWriter::new();
        self.state.transit.place().await?.spawn(move || {
            let mut writer = writer;
            let outcome = droste_image::save(&wanted, &mut writer).map_err(image_error);
            writer.finish(outcome);
        })?;
        Ok(download)
    }

    /// A name with a tag saves that tag, a bare repository all of its tags, an id none.
    fn tags_to_save(&self, typed: &str, tags: &[String]) -> Result<Vec<Reference>> {
        let Ok(reference) = typed.parse::<Reference>() else { return Ok(Vec::new()) };
        let complete = reference.clone().or_latest();
        let has = |tag: &&String| **tag == complete.familiar();
        Ok(if reference.digest().is_none() && tags.iter().any(|tag| has(&tag)) { vec![complete] } else { Vec::new() })
    }

    fn emit_tag(&self, id: &str, name: Option<&Reference>) {
        if let Some(name) = name {
            self.state.emit(EventType::Image, "tag", id, &[("name", name.familiar())]);
        }
    }

    /// Makes an image of a root's archive; the last message says its id.
    pub async fn import(&self, body: Upload, options: ImportOptions, sink: ProgressSink) -> Result<()> {
        self.import_from("-", body, options, sink).await
    }

    /// Makes an image of a root's archive that lies at a URL, fetched from inside this host's network.
    pub async fn import_url(&self, source: &str, options: ImportOptions, sink: ProgressSink) -> Result<()> {
        self.require_write()?;
        let url = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
        let incoming = self.registry()?.fetch(&url).await.map_err(fetch_error)?;
        sink(said(format!("Downloading from {url}")));
        let (upload, feed) = download(incoming, Arc::clone(&sink));
        // The import ends, one way or the other, when the feed does.
        let (imported, ()) = tokio::join!(self.import_from(&url, upload, options, sink), feed);
        imported
    }

    async fn import_from(&self, source: &str, body: Upload, options: ImportOptions, sink: ProgressSink) -> Result<()> {
        self.require_write()?;
        self.require_space().await?;
        let host = self.clone();
        let from = format!("Imported from {source}");
        to_the_end(async move {
            let mut config = Config::default();
            droste_image::apply_changes(&mut config, &options.changes).map_err(image_error)?;
            let comment = if options.message.is_empty() { from } else { options.message };
            let make = MakeOptions { config, comment, ..MakeOptions::default() };
            let (owned, platform) = (host.clone(), options.platform);
            let image = host
                .state
                .transit
                .run(move || {
                    let room = owned.state.account.room();
                    droste_image::import(&owned.engine.images, body, platform.as_ref(), room, &make)
                        .map_err(|error| owned.unpack_error(room, error))
                })
                .await?;
            let id = image.id().to_string();
            let name = options.reference.map(Reference::or_latest);
            host.set_tags(&image, &name.iter().map(ToString::to_string).collect::<Vec<_>>()).await?;
            host.emit_tag(&id, name.as_ref());
            let shown = name.map_or_else(|| id.clone(), |name| name.familiar());
            host.state.emit(EventType::Image, "import", &id, &[("name", shown)]);
            sink(said(id));
            Ok(())
        })
        .await
    }

    /// Makes an image of what a container has changed.
    pub async fn commit(&self, at: &str, options: CommitOptions) -> Result<String> {
        let container = self.member_to_change(at)?;
        self.require_space().await?;
        let host = self.clone();
        to_the_end(async move {
            let record = container.record().clone();
            let mut config = match &options.config {
                Some(config) => crate::merge::merge(config.clone(), &record.config),
                None => record.config.clone(),
            };
            if config.hostname == container.id.short() {
                config.hostname.clear();
            }
            config.image = record.config.image.clone();
            droste_image::apply_changes(&mut config, &options.changes).map_err(image_error)?;
            let make = MakeOptions {
                config,
                author: options.author,
                comment: options.comment.clone(),
                container: container.id.to_string(),
                created_by: record.args().join(" "),
            };
            let freezes = options.pause && runs(&container);
            if freezes {
                host.engine.freeze(&container).await?;
            }
            let (images, base) = (host.engine.images.clone(), container.image.clone());
            let upper = host.engine.container_dir(&container.id).join("diff");
            let made =
                blocking(move || droste_image::commit(&images, base.as_ref(), &upper, &make).map_err(image_error))
                    .await;
            if freezes {
                host.engine.thaw(&container);
            }
            let image = made?;
            let id = image.id().to_string();
            let name = options.reference.map(Reference::or_latest);
            host.set_tags(&image, &name.iter().map(ToString::to_string).collect::<Vec<_>>()).await?;
            host.emit_tag(&id, name.as_ref());
            let mut attributes = vec![("comment", options.comment), ("imageID", id.clone())];
            attributes.extend(name.map(|name| ("imageRef", name.familiar())));
            container.emit("commit", &attributes);
            Ok(id)
        })
        .await
    }
}
