//! What can go wrong with a registry, in the texts that Docker's clients know.

use std::time::Duration;

use droste_model::digest::Digest;

/// A failure of a pull, a push or a login.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers, or not in HTTP.
    #[error("{method} {url:?}: {reason}")]
    Unreachable {
        /// The request's method, written as Go does: `Get`.
        method: String,
        /// The URL that was asked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// The connection stood still.
    #[error("{what}: no data for {} s; giving up", .after.as_secs_f32())]
    Stalled {
        /// What was transferred.
        what: String,
        /// For how long nothing moved.
        after: Duration,
    },
    /// The connection ended before all was there.
    #[error("{what}: the registry cut the transfer short: {reason}")]
    Cut {
        /// What was transferred.
        what: String,
        /// How it ended.
        reason: String,
    },
    /// The repository does not exist or may not be read.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login': {message}")]
    PullDenied {
        /// The repository's familiar name.
        name: String,
        /// The registry's words.
        message: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {message}")]
    ManifestUnknown {
        /// The familiar reference.
        reference: String,
        /// The registry's words.
        message: String,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {message}")]
    RepositoryUnknown {
        /// The repository's familiar name.
        name: String,
        /// The registry's words.
        message: String,
    },
    /// A registry that wants a password was given none. No `Unauthorized`, at which Docker's client would ask whoever
    /// types, and wait, also where nobody does.
    #[error("{0}")]
    NoCredentials(String),
    /// Credentials are wrong.
    #[error("{0}")]
    Unauthorized(String),
    /// Credentials are right but do not allow this.
    #[error("{0}")]
    Denied(String),
    /// Any other refusal.
    #[error("{message}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// The registry's words, or Docker's for a body that is no error document.
        message: String,
    },
    /// Content is not what its digest says.
    #[error("{what}: verification failed: expected {expected}, got {actual}")]
    WrongDigest {
        /// What was transferred.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content is longer or shorter than was promised.
    #[error("{what}: expected {expected} bytes, got {actual}")]
    WrongSize {
        /// What was transferred.
        what: String,
        /// The promised length.
        expected: u64,
        /// The length that came, as far as it was read.
        actual: u64,
    },
    /// No image for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoMatchingPlatform(String),
    /// A reply that breaks the protocol.
    #[error("{url:?}: invalid reply: {reason}")]
    Protocol {
        /// The URL that was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A URL that can't be asked for.
    #[error("parse {0:?}: invalid URL: expected http://HOST[:PORT]/PATH without user and password")]
    InvalidUrl(String),
    /// TLS could not be set up.
    #[error("TLS for {host}: {reason}")]
    Tls {
        /// The registry.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting that is not understood.
    #[error(transparent)]
    Setting(#[from] super::endpoint::InvalidSetting),
    /// The image store failed.
    #[error(transparent)]
    Store(#[from] crate::error::Error),
}

impl RegistryError {
    pub(super) fn no_endpoint(domain: &str) -> Self {
        Self::Unreachable { method: "Get".to_owned(), url: domain.to_owned(), reason: "no endpoint to try".to_owned() }
    }

    pub(super) fn protocol(url: &str, reason: impl Into<String>) -> Self {
        Self::Protocol { url: url.to_owned(), reason: reason.into() }
    }

    /// Whether nobody answered, so that another endpoint may.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Tls { .. })
    }

    /// Whether the same may work a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Server { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}
