//! What can go wrong with content, layers and archives. Registry errors are in [`crate::registry`].

use std::io;
use std::path::{Path, PathBuf};

use droste_model::digest::Digest;

use crate::tar::read::TarError;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the image store or of an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file of ours failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading the stream that a client sends failed.
    #[error("reading the archive: {0}")]
    ReadStream(#[source] io::Error),
    /// Writing the stream that a client receives failed.
    #[error("writing the archive: {0}")]
    WriteStream(#[source] io::Error),
    /// The stream ended too early.
    #[error("unexpected EOF: the archive is cut short")]
    CutShort,
    /// The stream is no archive, or breaks the format.
    #[error("invalid archive: {0}")]
    InvalidArchive(String),
    /// An entry of an archive asks for what it must not.
    #[error("refused archive entry {name:?}: {reason}")]
    RefusedEntry {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry could not be made on disk.
    #[error("extracting {name:?}: {operation}: {source}")]
    Extract {
        /// The entry's name.
        name: String,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// `noOverwriteDirNonDir` forbids to replace a directory.
    #[error("cannot overwrite directory {path:?} with non-directory {directory:?}")]
    WouldReplaceDirectory {
        /// What would be replaced.
        path: String,
        /// Where the archive is unpacked.
        directory: String,
    },
    /// `noOverwriteDirNonDir` forbids to replace something by a directory.
    #[error("cannot overwrite non-directory {path:?} with directory {directory:?}")]
    WouldReplaceFile {
        /// What would be replaced.
        path: String,
        /// Where the archive is unpacked.
        directory: String,
    },
    /// The unpacked content is larger than allowed.
    #[error("archive unpacks to more than {limit} {unit}; raise the limit if this is meant")]
    TooLarge {
        /// The limit that was crossed.
        limit: u64,
        /// `bytes` or `entries`.
        unit: &'static str,
    },
    /// Directories that nobody could have meant.
    #[error("directories are nested more than {MOST_LEVELS} levels deep")]
    TooDeep,
    /// Content does not have the digest it should have.
    #[error("{what}: digest mismatch: expected {expected}, got {actual}")]
    WrongDigest {
        /// What was checked.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// An image that the store does not hold.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// A JSON document that is not what it should be.
    #[error("invalid {what}: {reason}")]
    InvalidJson {
        /// Which document.
        what: String,
        /// What the parser said.
        reason: String,
    },
    /// None of the images in an archive or index is for the platform that was asked for.
    #[error("no matching manifest for {0} in the archive")]
    NoMatchingPlatform(String),
    /// A stored layer is no longer as it was unpacked, so that it cannot be given out again.
    #[error("layer {0} was changed on disk and cannot be exported")]
    ChangedLayer(Digest),
    /// An image with more layers than one mount can hold.
    #[error("image has {0} layers, more than the {MOST_LAYERS} that can be mounted at once")]
    TooManyLayers(usize),
    /// An instruction for `--change` that is not understood; the texts are Docker's.
    #[error("{0}")]
    Change(String),
}

/// As many lower directories as fit into one mount call by their short relative names.
pub const MOST_LAYERS: usize = 300;

/// How deep directories may be nested in what is packed or compared: the walk takes stack and descriptors for each level.
pub(crate) const MOST_LEVELS: usize = 500;

impl From<TarError> for Error {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::stream(source),
            TarError::CutShort => Self::CutShort,
            TarError::Header(reason) => Self::InvalidArchive(reason.to_owned()),
        }
    }
}

impl Error {
    /// A failed read; errors of our own that travelled through `io::Error` come out as they went in.
    pub(crate) fn stream(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return Self::CutShort;
        }
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::ReadStream(source),
        }
    }

    pub(crate) fn json(what: impl Into<String>, error: &serde_json::Error) -> Self {
        Self::InvalidJson { what: what.into(), reason: error.to_string() }
    }

    /// Whether the fault lies with what the client sent.
    pub fn is_clients_fault(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::WriteStream(_) | Self::ChangedLayer(_) | Self::Extract { .. })
    }
}

/// Adds operation and path to a failed system call.
pub(crate) trait Context<T> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { operation, path: path.as_ref().to_owned(), source: source.into() })
    }
}
