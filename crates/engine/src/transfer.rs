//! Images on the way in and out of a host: load, save, import, commit.

use std::sync::Arc;

use droste_image::{Image, LoadOptions, MakeOptions, Progress};
use droste_model::container::Config;
use droste_model::event::EventType;
use droste_model::platform::Platform;
use droste_model::reference::Reference;

use crate::error::{Error, Result};
use crate::files::{ChannelWriter, runs};
use crate::host::Host;
use crate::lifecycle::to_the_end;
use crate::options::{CommitOptions, Download, ImportOptions, Upload};

/// Takes progress messages of long work.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A failure of the image crate as a client reads it.
pub(crate) fn image_error(error: droste_image::Error) -> Error {
    match error {
        droste_image::Error::Io { .. } => Error::hidden("the image store failed", error),
        droste_image::Error::NoSuchImage(_) => Error::NotFound(crate::error::Message::new(error.to_string())),
        error => Error::invalid(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::hidden("the work was broken off", error))?
}

fn said(text: String) -> Progress {
    Progress { status: text, ..Progress::default() }
}

impl Host {
    /// Loads the images of an archive, and names them as it says.
    pub async fn load(&self, body: Upload, platform: Option<Platform>, sink: ProgressSink) -> Result<()> {
        self.require_write()?;
        let host = self.clone();
        to_the_end(async move {
            let (images, tell) = (host.engine.images.clone(), Arc::clone(&sink));
            let loaded = blocking(move || {
                let options = LoadOptions { platform, ..LoadOptions::default() };
                droste_image::load(&images, body, &options, &*tell).map_err(image_error)
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
        tokio::task::spawn_blocking(move || {
            let mut writer = writer;
            let outcome = droste_image::save(&wanted, &mut writer).map_err(image_error);
            writer.finish(outcome);
        });
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
        self.require_write()?;
        let host = self.clone();
        to_the_end(async move {
            let mut config = Config::default();
            droste_image::apply_changes(&mut config, &options.changes).map_err(image_error)?;
            let comment = if options.message.is_empty() { "Imported from -".to_owned() } else { options.message };
            let make = MakeOptions { config, comment, ..MakeOptions::default() };
            let (images, platform) = (host.engine.images.clone(), options.platform);
            let image = blocking(move || {
                droste_image::import(&images, body, platform.as_ref(), droste_image::Limits::default(), &make)
                    .map_err(image_error)
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
