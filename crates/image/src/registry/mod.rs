//! The client of the distribution protocol: pull, push, login, inspect.
//!
//! Async, on tokio; disk work inside goes to blocking threads. The HTTP and TLS parts are hyper and rustls, used
//! directly because a nested host's connections must be made inside its own network namespace: whoever makes a
//! [`Registry`] gives the function that connects. The protocol on top is small enough to own.

mod auth;
mod connect;
mod endpoint;
mod error;
mod fetch;
mod proxy;
mod pull;
mod push;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use droste_model::platform::Platform;
use droste_model::reference::Reference;

pub use auth::Auth;
pub use connect::{Connect, Connecting, direct};
pub use endpoint::InvalidSetting;
pub use error::RegistryError;
pub use fetch::Incoming;
pub use proxy::Proxies;
pub use pull::{PullOptions, Pulled};
pub use push::PushOptions;

use crate::manifest::{Descriptor, Document};
use crate::progress::Progress;

/// Takes progress messages from several tasks at once; must not block.
pub type SharedSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// How registries are reached; the words are those of dockerd's configuration.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Registries that may be spoken to without TLS or with any certificate: names, `name:port`, or address ranges.
    /// Loopback addresses always may.
    pub insecure: Vec<String>,
    /// URLs that are tried first for images of the hub.
    pub mirrors: Vec<String>,
    /// Folders with `host:port/*.crt`, `*.cert` and `*.key`, as dockerd's `certs.d`.
    pub certs_dirs: Vec<PathBuf>,
    /// Whether to show the client certificates that lie in `certs_dirs`. They are credentials: of the machine's own.
    pub client_certificates: bool,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// Layers that are downloaded at once.
    pub downloads: usize,
    /// Layers that are uploaded at once.
    pub uploads: usize,
    /// Tries for each download.
    pub attempts: u32,
    /// How long nothing may move before a connection is given up.
    pub stall: Duration,
    /// What the client calls itself.
    pub user_agent: String,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certs_dirs: Vec::new(),
            client_certificates: true,
            proxies: Proxies::default(),
            downloads: 3,
            uploads: 5,
            attempts: 5,
            stall: Duration::from_secs(60),
            user_agent: concat!("droste/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A client for all registries, from one place in the network.
#[derive(Clone)]
pub struct Registry {
    settings: Arc<RegistrySettings>,
    connect: Connect,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What a registry says of a reference, for `GET /distribution/…/json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The manifest's or index's kind, digest and length.
    pub descriptor: Descriptor,
    /// The platforms that the reference has images for.
    pub platforms: Vec<Platform>,
}

impl Registry {
    /// A client that connects from the daemon's own place.
    pub fn new(settings: RegistrySettings) -> Self {
        Self::with_connect(settings, direct())
    }

    /// A client that connects by `connect`, for example inside a host's network namespace.
    pub fn with_connect(settings: RegistrySettings, connect: Connect) -> Self {
        Self { settings: Arc::new(settings), connect }
    }

    /// Checks credentials as `POST /auth` does; gives the identity token that the registry hands out, if any.
    pub async fn check_auth(&self, server: &str, auth: &Auth) -> Result<Option<String>, RegistryError> {
        let domain = endpoint::domain_of_server(server);
        let mut last = None;
        for endpoint in endpoint::endpoints(&self.settings, &domain, false)? {
            let session = session::Session::new(self, endpoint, auth.clone(), Vec::new())?;
            match session.log_in().await {
                Ok(token) => return Ok(token),
                Err(error) if error.is_unreachable() => last = Some(last.unwrap_or(error)),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::no_endpoint(&domain)))
    }

    /// What a registry says of a reference.
    pub async fn inspect(&self, reference: &Reference, auth: &Auth) -> Result<Inspected, RegistryError> {
        let (session, fetched) = self.resolve(reference, auth).await?;
        let platforms = match &fetched.document {
            Document::Index(index) => {
                index.images().filter_map(|item| item.platform.as_ref()).map(|note| note.platform()).collect()
            }
            Document::Manifest(manifest) => {
                let raw = session.small_blob(reference.path(), &manifest.config).await?;
                vec![crate::config::ImageConfig::parse(&raw).map_err(RegistryError::from)?.platform()]
            }
        };
        let descriptor = Descriptor::new(&fetched.media_type, fetched.digest, fetched.raw.len() as u64);
        Ok(Inspected { descriptor, platforms })
    }

    /// Fetches what a reference names from the first endpoint that has it.
    async fn resolve(
        &self,
        reference: &Reference,
        auth: &Auth,
    ) -> Result<(Arc<session::Session>, session::Fetched), RegistryError> {
        let mut failures = Failures::default();
        for session in self.sessions(reference, auth)? {
            match session.manifest(reference).await {
                Ok(fetched) => return Ok((session, fetched)),
                Err(error) => failures.keep(error, session.endpoint.mirror)?,
            }
        }
        Err(failures.into_error(reference))
    }

    /// The tags of a repository, in the registry's order.
    pub async fn tags(&self, reference: &Reference, auth: &Auth) -> Result<Vec<String>, RegistryError> {
        let mut failures = Failures::default();
        for session in self.sessions(reference, auth)? {
            match session.tags(reference).await {
                Ok(tags) => return Ok(tags),
                Err(error) => failures.keep(error, session.endpoint.mirror)?,
            }
        }
        Err(failures.into_error(reference))
    }

    /// A conversation with each place to read a repository from, mirrors first.
    fn sessions(&self, reference: &Reference, auth: &Auth) -> Result<Vec<Arc<session::Session>>, RegistryError> {
        let scope = format!("repository:{}:pull", reference.path());
        let endpoints = endpoint::endpoints(&self.settings, reference.domain(), true)?;
        let open = |endpoint: endpoint::Endpoint| {
            // Credentials for the hub are not for its mirrors.
            let auth = if endpoint.mirror { Auth::default() } else { auth.clone() };
            session::Session::new(self, endpoint, auth, vec![scope.clone()]).map(Arc::new)
        };
        endpoints.into_iter().map(open).collect()
    }
}

/// What went wrong at the places that were tried.
#[derive(Default)]
struct Failures(Option<RegistryError>);

impl Failures {
    /// Keeps a failure after which the next place may be tried; any other ends it.
    fn keep(&mut self, error: RegistryError, is_mirror: bool) -> Result<(), RegistryError> {
        if !is_mirror && !error.is_unreachable() {
            return Err(error);
        }
        // The first says most: later ones are fall-backs.
        self.0.get_or_insert(error);
        Ok(())
    }

    fn into_error(self, reference: &Reference) -> RegistryError {
        self.0.unwrap_or_else(|| RegistryError::no_endpoint(reference.domain()))
    }
}
