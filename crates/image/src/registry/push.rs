//! Pushes an image: the layers that the registry does not have, the configuration, the manifest.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use droste_model::digest::Digest;
use droste_model::reference::Reference;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use hyper::{Method, StatusCode};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::error::RegistryError;
use super::pull::died;
use super::session::{Call, Session, absolute, header, refusal};
use super::{Auth, Registry, SharedSink, endpoint};
use crate::forms::Form;
use crate::gzip::gzip;
use crate::hash::{HashWriter, digest_of};
use crate::manifest::{DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, Manifest};
use crate::possession::Possession;
use crate::progress::{Counter, Progress, PushResult};
use crate::store::Image;

/// Blobs that are looked for before a layer is compressed and sent.
const MOST_CANDIDATES: usize = 4;
const PIECE: usize = 64 << 10;

/// How an image is pushed.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Credentials.
    pub auth: Auth,
    /// Whose repositories may be asked for layers, and be named: those that the one who pushes knows.
    pub possession: Possession,
}

impl Registry {
    /// Pushes an image under a tag, as a manifest of schema 2 like Docker's; gives the manifest's digest.
    pub async fn push(
        &self,
        image: &Image,
        reference: &Reference,
        options: &PushOptions,
        sink: SharedSink,
    ) -> Result<Digest, RegistryError> {
        sink(Progress::status(format!("The push refers to repository [{}]", reference.name())));
        let scope = format!("repository:{}:pull,push", reference.path());
        let mut first_error = None;
        for endpoint in endpoint::endpoints(&self.settings, reference.domain(), false)? {
            let session = Session::new(self, endpoint, options.auth.clone(), vec![scope.clone()])?;
            match session.is_there().await {
                Ok(()) => {
                    let (image, reference) = (image.clone(), reference.clone());
                    let (possession, sink) = (options.possession.clone(), Arc::clone(&sink));
                    return Arc::new(Push { session, image, reference, possession, sink }).run().await;
                }
                Err(error) if error.is_unreachable() => drop(first_error.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| RegistryError::no_endpoint(reference.domain())))
    }
}

impl Session {
    /// Whether a registry answers here, whatever it says.
    async fn is_there(&self) -> Result<(), RegistryError> {
        let call = Call::new(Method::GET, format!("{}/v2/", self.endpoint.prefix));
        self.call(&call).await.map(drop)
    }

    /// Whether a repository has a blob, and we may read it.
    pub(super) async fn has_blob(&self, repository: &str, digest: Digest) -> Result<bool, RegistryError> {
        let path = self.path(repository, &format!("blobs/{digest}"));
        let response = self.call(&Call::new(Method::HEAD, path)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(response, self.settings.stall).await.into_error()),
        }
    }
}

struct Push {
    session: Session,
    image: Image,
    reference: Reference,
    possession: Possession,
    sink: SharedSink,
}

impl Push {
    async fn run(self: Arc<Self>) -> Result<Digest, RegistryError> {
        let layers = self.layers().await?;
        let raw = self.image.raw_config()?;
        let config = Descriptor::new(DOCKER_CONFIG, self.image.id(), raw.len() as u64);
        self.session.retried(|| self.small_blob(config.digest, raw.clone())).await?;
        let manifest = Manifest { schema_version: 2, media_type: DOCKER_MANIFEST.to_owned(), config, layers };
        let raw = manifest.to_bytes()?;
        let digest = digest_of(&raw);
        let tag = self.reference.tag().unwrap_or("latest").to_owned();
        self.session.retried(|| self.put_manifest(&tag, raw.clone())).await?;
        let size = raw.len() as u64;
        (self.sink)(Progress::status(format!("{tag}: digest: {digest} size: {size}")));
        (self.sink)(Progress { aux: Some(PushResult { tag, digest, size }), ..Progress::default() });
        Ok(digest)
    }

    /// Sends the layers, topmost first as Docker does; gives their descriptors, lowest first.
    async fn layers(self: &Arc<Self>) -> Result<Vec<Descriptor>, RegistryError> {
        let diff_ids = self.image.layers().to_vec();
        for diff_id in diff_ids.iter().rev() {
            (self.sink)(Progress::of(&diff_id.short(), "Preparing"));
        }
        let uploads = self.session.settings.uploads.max(1);
        for diff_id in diff_ids.iter().rev().skip(uploads) {
            (self.sink)(Progress::of(&diff_id.short(), "Waiting"));
        }
        let turns = Arc::new(Semaphore::new(uploads));
        let mut tasks = JoinSet::new();
        let mut seen = std::collections::BTreeSet::new();
        for diff_id in diff_ids.iter().rev().filter(|diff_id| seen.insert(**diff_id)) {
            let (push, turns, diff_id) = (Arc::clone(self), Arc::clone(&turns), *diff_id);
            tasks.spawn(async move {
                let _turn = turns.acquire().await;
                push.layer(diff_id).await.map(|descriptor| (diff_id, descriptor))
            });
        }
        let mut sent = std::collections::HashMap::new();
        while let Some(done) = tasks.join_next().await {
            let (diff_id, descriptor) = done.map_err(died)??;
            sent.insert(diff_id, descriptor);
        }
        Ok(diff_ids.iter().filter_map(|diff_id| sent.get(diff_id).cloned()).collect())
    }

    async fn layer(&self, diff_id: Digest) -> Result<Descriptor, RegistryError> {
        let id = diff_id.short();
        let mut forms = self.image.store().forms(diff_id);
        forms.retain(|form| self.possession.knows(&form.registry, &form.repository) || self.is_here(form));
        let form = if let Some(form) = self.existing(&forms).await? {
            (self.sink)(Progress::of(&id, "Layer already exists"));
            form.clone()
        } else if let Some(form) = self.mounted(&forms).await? {
            (self.sink)(Progress::of(&id, format!("Mounted from {}", form.repository)));
            form.clone()
        } else {
            let (digest, size) = self.session.retried(|| self.upload_layer(diff_id)).await?;
            (self.sink)(Progress::of(&id, "Pushed"));
            Form { diff_id, registry: String::new(), repository: String::new(), digest, size }
        };
        let descriptor = Descriptor::new(DOCKER_LAYER, form.digest, form.size);
        let (registry, repository) = (self.reference.domain().to_owned(), self.reference.path().to_owned());
        // A push whose notes are lost is none the worse.
        drop(self.image.store().note_form(Form { registry, repository, ..form }));
        Ok(descriptor)
    }

    fn is_here(&self, form: &Form) -> bool {
        form.registry == self.reference.domain() && form.repository == self.reference.path()
    }

    /// A form of the layer that the repository has already.
    async fn existing<'a>(&self, forms: &'a [Form]) -> Result<Option<&'a Form>, RegistryError> {
        let (mut candidates, others): (Vec<&Form>, Vec<&Form>) = forms.iter().partition(|form| self.is_here(form));
        candidates.extend(others);
        let mut asked = std::collections::BTreeSet::new();
        for form in candidates.into_iter().filter(|form| asked.insert(form.digest)).take(MOST_CANDIDATES) {
            if self.session.has_blob(self.reference.path(), form.digest).await? {
                return Ok(Some(form));
            }
        }
        Ok(None)
    }

    /// A form of the layer that the registry took over from another repository of its own.
    async fn mounted<'a>(&self, forms: &'a [Form]) -> Result<Option<&'a Form>, RegistryError> {
        let elsewhere = forms.iter().filter(|form| form.registry == self.reference.domain());
        for form in elsewhere.take(MOST_CANDIDATES) {
            self.session.add_scope(format!("repository:{}:pull", form.repository));
            let query = format!("blobs/uploads/?mount={}&from={}", form.digest, form.repository);
            let call = Call::new(Method::POST, self.session.path(self.reference.path(), &query));
            let response = self.session.call(&call.header(CONTENT_LENGTH, "0")).await?;
            if response.status() == StatusCode::CREATED {
                return Ok(Some(form));
            }
            if let Some(location) = header(&response, &LOCATION) {
                // An upload was begun instead; it is not needed here.
                let target = absolute(&self.session.endpoint, &location);
                drop(self.session.call(&Call::new(Method::DELETE, target)).await);
            }
        }
        Ok(None)
    }

    async fn begin_upload(&self) -> Result<String, RegistryError> {
        let path = self.session.path(self.reference.path(), "blobs/uploads/");
        let call = Call::new(Method::POST, &path).header(CONTENT_LENGTH, "0");
        let response = self.session.call(&call).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refusal(response, self.session.settings.stall).await.into_error());
        }
        self.location(&response, &path)
    }

    fn location(&self, response: &hyper::Response<hyper::body::Incoming>, path: &str) -> Result<String, RegistryError> {
        let location = header(response, &LOCATION)
            .ok_or_else(|| RegistryError::protocol(&self.session.endpoint.url(path), "no Location for the upload"))?;
        Ok(absolute(&self.session.endpoint, &location))
    }

    /// Ends an upload whose bytes are there, or sends them with this last request.
    async fn finish_upload(
        &self,
        location: &str,
        digest: Digest,
        content: Option<Vec<u8>>,
    ) -> Result<(), RegistryError> {
        let joint = if location.contains('?') { '&' } else { '?' };
        let mut call =
            Call::new(Method::PUT, format!("{location}{joint}digest={}", super::auth::escape(&digest.to_string())));
        call = call.header(CONTENT_LENGTH, content.as_ref().map_or(0, Vec::len).to_string());
        if let Some(content) = content {
            call = call.header(CONTENT_TYPE, "application/octet-stream").content(content.into());
        }
        let response = self.session.call(&call).await?;
        if response.status() == StatusCode::CREATED || response.status() == StatusCode::NO_CONTENT {
            return Ok(());
        }
        Err(refusal(response, self.session.settings.stall).await.into_error())
    }

    async fn small_blob(&self, digest: Digest, raw: Vec<u8>) -> Result<(), RegistryError> {
        if self.session.has_blob(self.reference.path(), digest).await? {
            return Ok(());
        }
        let location = self.begin_upload().await?;
        self.finish_upload(&location, digest, Some(raw)).await
    }

    async fn put_manifest(&self, tag: &str, raw: Vec<u8>) -> Result<(), RegistryError> {
        let path = self.session.path(self.reference.path(), &format!("manifests/{tag}"));
        let call = Call::new(Method::PUT, path)
            .header(CONTENT_TYPE, DOCKER_MANIFEST)
            .header(CONTENT_LENGTH, raw.len().to_string())
            .content(raw.into());
        let response = self.session.call(&call).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response, self.session.settings.stall).await.into_error())
    }

    /// Compresses a layer while it is sent, so that no copy is kept.
    async fn upload_layer(&self, diff_id: Digest) -> Result<(Digest, u64), RegistryError> {
        let location = self.begin_upload().await?;
        let (sender, pieces) = mpsc::channel(8);
        let moved = Arc::new(AtomicU64::new(0));
        let (image, sink, counted) = (self.image.clone(), Arc::clone(&self.sink), Arc::clone(&moved));
        // At the registry's pace, and so on no thread of the runtime's, which others wait for.
        let (done, compressed) = tokio::sync::oneshot::channel();
        let work = move || drop(done.send(compress(&image, diff_id, sender, &sink, &counted)));
        std::thread::Builder::new().name("push".to_owned()).spawn(work).map_err(died)?;
        let call = Call::new(Method::PATCH, &location).header(CONTENT_TYPE, "application/octet-stream");
        let (endpoint, head) = self.session.head(&call, &location)?;
        let sending = self.session.transport.send_pieces(&endpoint, &head, pieces);
        let response = watched(sending, &moved, self.session.settings.stall, diff_id).await?;
        let (digest, size) = compressed.await.map_err(died)??;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refusal(response, self.session.settings.stall).await.into_error());
        }
        let location = self.location(&response, head.uri().path())?;
        self.finish_upload(&location, digest, None).await?;
        Ok((digest, size))
    }
}

/// Waits for the answer to an upload as long as bytes go out.
async fn watched<T>(
    sending: impl Future<Output = Result<T, RegistryError>>,
    moved: &AtomicU64,
    stall: Duration,
    diff_id: Digest,
) -> Result<T, RegistryError> {
    tokio::pin!(sending);
    let mut last = moved.load(Ordering::Relaxed);
    loop {
        if let Ok(result) = tokio::time::timeout(stall, &mut sending).await {
            return result;
        }
        let now = moved.load(Ordering::Relaxed);
        if now == last {
            let what = format!("layer {}", diff_id.short());
            return Err(RegistryError::Stalled { what, after: stall });
        }
        last = now;
    }
}

/// Writes the gzip form of a layer to the channel; gives its digest and length.
fn compress(
    image: &Image,
    diff_id: Digest,
    sender: mpsc::Sender<io::Result<Bytes>>,
    sink: &SharedSink,
    moved: &AtomicU64,
) -> Result<(Digest, u64), RegistryError> {
    let store = image.store();
    let tell = |progress: Progress| sink(progress);
    let total = store.tar_size(diff_id)?;
    let channel = Pieces { sender: &sender, buffer: Vec::with_capacity(PIECE), moved };
    let mut hashed = HashWriter::new(channel);
    let finished = gzip(&mut hashed, |to| {
        let counter = Counter::new(&tell, &diff_id.short(), "Pushing", total);
        store.write_layer(diff_id, Counted { to, counter })
    });
    match finished {
        Ok(_) => Ok((hashed.hasher.clone().finish(), hashed.hasher.length())),
        Err(error) => {
            // Ends the request without making it look whole.
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
            Err(error.into())
        }
    }
}

struct Counted<'a> {
    to: &'a mut dyn Write,
    counter: Counter<'a>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.counter.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Gathers bytes to pieces and hands them to the request.
struct Pieces<'a> {
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    moved: &'a AtomicU64,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
