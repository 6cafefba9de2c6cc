//! Pulling and pushing for a host: from inside its network namespace, with its resolver, under its own names.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use droste_image::registry::{
    Auth, Connect, Proxies, PullOptions, PushOptions, Registry, RegistryError, RegistrySettings,
};
use droste_image::{Descriptor, Possession, Progress};
use droste_model::event::EventType;
use droste_model::host::HostId;
use droste_model::platform::Platform;
use droste_model::reference::Reference;
use droste_network::Namespace;
use droste_runtime::namespaces::HostNamespaces;

use crate::error::{Error, Message, Result};
use crate::host::Host;
use crate::lookup::Resolver;
use crate::settings::Settings;
use crate::transfer::ProgressSink;
use crate::transit::aside;

/// How long one address of a registry may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Where certificates of registries are, in Docker's layout.
const CERTS_DIRS: [&str; 2] = ["/etc/droste/certs.d", "/etc/docker/certs.d"];

/// What a registry says of a reference.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The manifest's or index's kind, digest and length.
    pub descriptor: Descriptor,
    /// The platforms that it has images for.
    pub platforms: Vec<Platform>,
}

/// The answer to a login.
#[derive(Clone, Debug)]
pub struct AuthChecked {
    /// A token that stands for the password; empty if the registry gives none.
    pub identity_token: String,
}

pub(crate) fn registry_error(error: RegistryError) -> Error {
    let text = error.to_string();
    match error {
        RegistryError::PullDenied { .. }
        | RegistryError::ManifestUnknown { .. }
        | RegistryError::RepositoryUnknown { .. }
        | RegistryError::NoMatchingPlatform(_) => Error::NotFound(Message::new(text)),
        RegistryError::Unauthorized(_) => Error::Unauthorized(Message::new(text)),
        RegistryError::Denied(_) => Error::Forbidden(Message::new(text)),
        RegistryError::Setting(_) | RegistryError::InvalidUrl(_) => Error::invalid(text),
        RegistryError::Store(error) => crate::transfer::image_error(error),
        _ => Error::internal(text),
    }
}

/// Connects as a program on the host would: its resolver files, its network.
fn connect_on(namespaces: Arc<HostNamespaces>, resolver: Resolver) -> Connect {
    Arc::new(move |host, port| {
        let (namespaces, host) = (Arc::clone(&namespaces), host.to_owned());
        Box::pin(async move {
            let connected = aside(move || connect(&namespaces, resolver, &host, port)).await;
            let stream = connected.map_err(io::Error::other)??;
            stream.set_nonblocking(true)?;
            tokio::net::TcpStream::from_std(stream)
        })
    })
}

fn connect(namespaces: &HostNamespaces, resolver: Resolver, host: &str, port: u16) -> io::Result<TcpStream> {
    let view = namespaces.view()?;
    let network = Namespace::from_fd(namespaces.net.try_clone()?);
    let dial = || {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"));
        for address in resolver.look_up(host)? {
            match TcpStream::connect_timeout(&(address, port).into(), CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let entered = view.run(|| network.run_in(dial)).map_err(io::Error::other)?;
    entered.map_err(io::Error::other)?
}

/// The proxies that a host may use.
pub(crate) fn proxies_of(settings: &Settings, of_machine: bool) -> Proxies {
    let proxies = &settings.registry.proxies;
    if of_machine { proxies.clone() } else { proxies.for_host_below() }
}

/// The machine's client certificates are credentials, which a host below must not use.
fn registry_settings(settings: &Settings, of_machine: bool) -> RegistrySettings {
    let certs: Vec<_> = settings.registry.certs_dir.iter().cloned().collect();
    let default = RegistrySettings::default();
    RegistrySettings {
        insecure: settings.registry.insecure.clone(),
        mirrors: settings.registry.mirrors.clone(),
        certs_dirs: if certs.is_empty() { CERTS_DIRS.map(PathBuf::from).to_vec() } else { certs },
        downloads: settings.max_concurrent_downloads,
        uploads: settings.max_concurrent_uploads,
        client_certificates: of_machine,
        proxies: proxies_of(settings, of_machine),
        attempts: settings.registry.attempts.unwrap_or(default.attempts),
        ..default
    }
}

impl Host {
    pub(crate) fn registry(&self) -> Result<Registry> {
        let namespaces = self.state.power()?.namespaces;
        let settings = registry_settings(&self.engine.settings(), self.is_machine());
        Ok(Registry::with_connect(settings, connect_on(namespaces, Resolver::at(self.level()))))
    }

    fn is_machine(&self) -> bool {
        self.state.id == HostId::Machine
    }

    /// What this host has: the images that it sees. All of the store is the machine's alone.
    pub(crate) fn possession(&self) -> Possession {
        if self.is_machine() {
            return Possession::everything();
        }
        let visible = self.state.tags.visible();
        let repositories = visible.keys().filter_map(|key| Some(key.parse::<Reference>().ok()?.name()));
        let repositories: Vec<String> = repositories.collect();
        Possession::of(visible.into_values().filter_map(|tagged| tagged.image.parse().ok()), repositories)
    }

    /// Pulls an image and names it on this host; all tags of a repository if neither tag nor digest is given. Content
    /// that the host has, or is known to be allowed to have, is not fetched again.
    pub async fn pull(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        auth: Auth,
        sink: ProgressSink,
    ) -> Result<()> {
        self.require_write()?;
        self.require_space().await?;
        let registry = self.registry()?;
        let mut wanted = vec![reference.clone()];
        if reference.tag().is_none() && reference.digest().is_none() {
            let tags = registry.tags(&reference, &auth).await.map_err(registry_error)?;
            let named = tags.iter().map(|tag| reference.clone().with_tag(tag));
            wanted = named.collect::<Result<_, _>>().map_err(|error| Error::internal(error.to_string()))?;
        }
        let options = PullOptions { auth, platform, possession: self.possession(), limits: self.state.account.room() };
        let mut is_newer = false;
        for one in wanted {
            is_newer |= self.pull_one(&registry, &one, &options, &sink).await?;
        }
        sink(Progress::pulled(&reference, is_newer));
        self.state.emit(EventType::Image, "pull", &reference.familiar(), &[("name", reference.familiar_name())]);
        Ok(())
    }

    /// Pulls what one tag or digest names; says whether the name was not there, or meant something else.
    async fn pull_one(
        &self,
        registry: &Registry,
        reference: &Reference,
        options: &PullOptions,
        sink: &ProgressSink,
    ) -> Result<bool> {
        let pulled = registry.pull(&self.engine.images, reference, options, Arc::clone(sink)).await;
        let pulled = pulled.map_err(|error| match error {
            RegistryError::Store(error) => self.unpack_error(options.limits, error),
            error => registry_error(error),
        })?;
        let by_digest = reference.with_digest(pulled.digest);
        let had = self.state.tags.get(&reference.to_string());
        let is_newer = had.is_none_or(|had| had.image != pulled.image.id().to_string());
        let mut names = vec![by_digest.to_string()];
        if reference.tag().is_some() && reference.digest().is_none() {
            names.push(reference.to_string());
        }
        self.set_tags(&pulled.image, &names).await?;
        Ok(is_newer)
    }

    /// Pushes one tag of this host, or all tags of a repository.
    pub async fn push(&self, reference: Reference, all_tags: bool, auth: Auth, sink: ProgressSink) -> Result<()> {
        self.require_write()?;
        let references = if all_tags { self.tags_of(&reference) } else { vec![reference.clone().or_latest()] };
        let missing = || {
            Error::NotFound(Message::new(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            )))
        };
        if references.is_empty() {
            return Err(missing());
        }
        let registry = self.registry()?;
        let _place = self.state.transit.place().await?;
        let options = PushOptions { auth, possession: self.possession() };
        for reference in references {
            let tagged = self.state.tags.get(&reference.to_string()).ok_or_else(missing)?;
            let image = self.find_image(&tagged.image)?;
            let digest =
                registry.push(&image, &reference, &options, Arc::clone(&sink)).await.map_err(registry_error)?;
            self.set_tags(&image, &[reference.with_digest(digest).to_string()]).await?;
            self.state.emit(EventType::Image, "push", &reference.familiar(), &[("name", reference.familiar_name())]);
        }
        Ok(())
    }

    fn tags_of(&self, repository: &Reference) -> Vec<Reference> {
        let visible = self.state.tags.visible().into_keys().filter_map(|key| key.parse::<Reference>().ok());
        visible.filter(|known| known.tag().is_some() && known.name() == repository.name()).collect()
    }

    /// What a registry says of a reference.
    pub async fn distribution(&self, reference: Reference, auth: Auth) -> Result<Distribution> {
        let inspected = self.registry()?.inspect(&reference.or_latest(), &auth).await.map_err(registry_error)?;
        Ok(Distribution { descriptor: inspected.descriptor, platforms: inspected.platforms })
    }

    /// Checks credentials with a registry.
    pub async fn check_auth(&self, server: &str, auth: Auth) -> Result<AuthChecked> {
        let token = self.registry()?.check_auth(server, &auth).await.map_err(registry_error)?;
        Ok(AuthChecked { identity_token: token.unwrap_or_default() })
    }
}
