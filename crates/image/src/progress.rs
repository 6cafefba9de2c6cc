//! What long work tells a client while it goes on, in the words of Docker's progress streams.

use droste_model::digest::Digest;

/// One message of a progress stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is said: `Downloading`, `Pull complete`, `Digest: sha256:…`.
    pub status: String,
    /// What it is said of: a layer's short digest, a tag; empty if nothing in particular.
    pub id: String,
    /// Bytes done and bytes in all; `None` where nothing is counted. The total is 0 where it is not known.
    pub bytes: Option<(u64, u64)>,
    /// The result of a push, sent as `aux` with an empty status.
    pub aux: Option<PushResult>,
}

/// What a push made, for `aux`: `{"Tag","Digest","Size"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushResult {
    /// The tag that was pushed.
    pub tag: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's length.
    pub size: u64,
}

/// Takes progress messages; may be called from several threads, and must not block for long.
pub type Sink<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl Progress {
    /// A status of nothing in particular.
    pub(crate) fn status(status: impl Into<String>) -> Self {
        Self { status: status.into(), ..Self::default() }
    }

    /// A status of one thing.
    pub(crate) fn of(id: &str, status: impl Into<String>) -> Self {
        Self { status: status.into(), id: id.to_owned(), ..Self::default() }
    }

    /// A status with counted bytes.
    pub(crate) fn counted(id: &str, status: &str, done: u64, total: u64) -> Self {
        Self { bytes: Some((done, total)), ..Self::of(id, status) }
    }
}

/// Says how far a stream is, not more often than each `STEP` bytes.
pub(crate) struct Counter<'a> {
    sink: Sink<'a>,
    id: String,
    status: &'static str,
    total: u64,
    done: u64,
    told: u64,
}

const STEP: u64 = 512 << 10;

impl<'a> Counter<'a> {
    pub(crate) fn new(sink: Sink<'a>, id: &str, status: &'static str, total: u64) -> Self {
        Self { sink, id: id.to_owned(), status, total, done: 0, told: 0 }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.done - self.told >= STEP || (self.done == self.total && self.told < self.done) {
            self.told = self.done;
            (self.sink)(Progress::counted(&self.id, self.status, self.done, self.total));
        }
    }
}
