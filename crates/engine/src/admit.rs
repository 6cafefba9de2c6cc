//! Admission: the one place where a client's request becomes something that may be made or launched.
//!
//! [`Admitted`] can only be made here, and only it can be made into a container. Admission decides what it can without
//! side effects; what it must take (a name, a pin on the image), it returns as values that give themselves back.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_confine::PathRules;
use droste_image::Image;
use droste_model::container::{Config, CreateContainer, HostConfig, LogConfig, NamespaceMode, RestartPolicy};
use droste_model::host::{Grant, ImageView};
use droste_model::id::ContainerId;
use droste_model::limit::{self, Limits, Resource};
use droste_model::mount::{Mount, MountSource};
use droste_model::name::ContainerName;
use droste_model::network::{EndpointRequest, NetworkMode};
use droste_model::path::{ClientPath, ContainerPath};
use droste_model::state::State;
use droste_model::time::Timestamp;
use droste_runtime::namespaces::{BindError, BindOptions};

use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::limits::Place;
use crate::links;
use crate::merge::merge;
use crate::mounts::{self, Inherited, Planned};
use crate::network::check_request;
use crate::privileges;
use crate::random;
use crate::record::{ContainerRecord, Membership, Socket};
use crate::settings::Settings;

/// The default size of /dev/shm in bytes.
const SHM_SIZE: i64 = 64 << 20;

/// Names of the log drivers that Droste has.
const LOG_DRIVERS: [&str; 3] = ["json-file", "local", "none"];

/// Paths under which every program looks for the engine, wherever the engine really listens.
const KNOWN_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

/// A request that its host admits.
pub(crate) struct Admitted<T> {
    value: T,
    /// What was left out or is odd.
    pub warnings: Vec<String>,
}

impl<T> Admitted<T> {
    /// The admitted value.
    pub(crate) fn into_inner(self) -> T {
        self.value
    }
}

/// A container that may be made.
pub(crate) struct NewContainer {
    /// What will be remembered of it.
    pub record: ContainerRecord,
    /// Its image, pinned until the record holds it.
    pub image: Option<Image>,
    /// The images that it mounts, pinned as well.
    pub mounted: Vec<Image>,
    /// Its name, given back unless the container is made.
    pub name: ReservedName,
    /// Its place among its host's containers, given back with it.
    pub place: Place,
    /// If it is a host: the limits that its creator sets.
    pub limits: Limits,
}

/// A name that is given back when dropped, unless it was kept.
pub(crate) struct ReservedName {
    host: Arc<HostState>,
    name: ContainerName,
    id: ContainerId,
    kept: bool,
}

impl ReservedName {
    fn take(host: &Arc<HostState>, name: ContainerName, id: &ContainerId) -> Result<Self> {
        host.table().reserve(name.clone(), id.clone())?;
        Ok(Self { host: Arc::clone(host), name, id: id.clone(), kept: false })
    }

    /// Leaves the name with the container.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for ReservedName {
    fn drop(&mut self) {
        if !self.kept {
            self.host.table().release(&self.name, &self.id);
        }
    }
}

impl Host {
    /// Decides whether a container may be made as asked, and completes the request.
    pub(crate) async fn admit(&self, request: CreateContainer) -> Result<Admitted<NewContainer>> {
        self.require_write()?;
        let settings = self.engine.settings();
        let mut warnings = Vec::new();
        let labels = request.config.labels.clone();
        let image = self.image_for(&request, &mut warnings)?;
        let config = merged(request.config, image.as_ref())?;
        check_working_dir(&config)?;
        let mut host_config = complete(request.host, &settings)?;
        self.name_by_id(&mut host_config)?;
        let networks = self.memberships(&host_config, request.networks)?;
        self.links_by_id(&mut host_config)?;
        privileges::check(&self.state, &host_config, &config, &settings, &mut warnings)?;
        let limits = self.engine.support.admit(&mut host_config.resources, false);
        warnings.extend(limits.map_err(|error| Error::invalid(error.to_string()))?);
        let id = ContainerId::from_bytes(random::bytes()?);
        self.require_space().await?;
        let place = self.state.account.take(Resource::Containers)?;
        let name = self.reserve(request.name, &id)?;
        let Planned { mounts, anonymous } = mounts::plan(&config, &host_config, self.mounts_from(&host_config)?)?;
        let mounted = self.images_of(&mounts)?;
        let (sockets, mounts) = self.split_sockets(mounts).await?;
        let socket = socket_grant(sockets, &labels, &config.image, self.grant_of_children(), &settings)?;
        let limits = self.given_limits(socket.as_ref(), &labels, &mut warnings)?;
        let record = ContainerRecord {
            config: named(config, &host_config, &id),
            id,
            name: name.name.clone(),
            host: self.state.id.clone(),
            created: Timestamp::now(),
            image: image.as_ref().map(|image| image.id().to_string()).unwrap_or_default(),
            manifest: None,
            host_config,
            networks,
            mounts,
            anonymous_volumes: anonymous,
            mounted_images: mounted.iter().map(|image| image.id().to_string()).collect(),
            socket,
            state: State::Created { failed: None },
            restart_count: 0,
            stopped_by_hand: false,
            last_finished: None,
            health: None,
            ports: Vec::new(),
        };
        crate::logs::check_attributes(&record)?;
        Ok(Admitted { value: NewContainer { record, image, mounted, name, place, limits }, warnings })
    }

    /// What sockets on this host grant by the word of its creator.
    fn grant_of_children(&self) -> Option<Grant> {
        self.state.myself()?.record().socket.as_ref()?.children
    }

    /// The limits that a creator sets for a host below: no more than this one itself has.
    fn given_limits(
        &self,
        socket: Option<&Socket>,
        labels: &BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Limits> {
        let limits = limit::from_labels(labels).map_err(|error| Error::invalid(error.to_string()))?;
        self.state.account.check_given(&limits)?;
        if socket.is_some_and(|socket| socket.grant == Grant::Own) {
            return Ok(limits);
        }
        if let Some(resource) = limits.keys().next() {
            warnings.push(format!("label {} has no effect: the container is no host of its own", resource.label()));
        }
        Ok(Limits::new())
    }

    fn image_for(&self, request: &CreateContainer, warnings: &mut Vec<String>) -> Result<Option<Image>> {
        if request.config.image.is_empty() {
            return Err(Error::invalid("no image specified: name one, for example alpine"));
        }
        let view = self.image(&request.config.image, request.platform.as_ref())?;
        let (has, machine) = (view.image.platform(), droste_model::platform::Platform::host());
        if request.platform.is_none() && !machine.matches(&has) {
            warnings.push(format!(
                "The requested image's platform ({has}) does not match the detected host platform ({machine}) and no \
                 specific platform was requested"
            ));
        }
        Ok(Some((*view.image).clone()))
    }

    /// The images that are mounted, as this host knows them.
    fn images_of(&self, mounts: &[Mount]) -> Result<Vec<Image>> {
        let one = |mount: &Mount| match &mount.source {
            MountSource::Image { reference, .. } => Some(self.image(reference, None)),
            _ => None,
        };
        mounts.iter().filter_map(one).map(|view| Ok((*view?.image).clone())).collect()
    }

    /// Takes the name that was asked for, or makes one up.
    fn reserve(&self, asked: Option<ContainerName>, id: &ContainerId) -> Result<ReservedName> {
        if let Some(name) = asked {
            return ReservedName::take(&self.state, name, id);
        }
        let seed = random::number()?;
        for attempt in 0..1000 {
            if let Some(name) = crate::names::suggest(seed.wrapping_add(u64::from(attempt) * 7919), attempt.min(9))
                && let Ok(reserved) = ReservedName::take(&self.state, name, id)
            {
                return Ok(reserved);
            }
        }
        ReservedName::take(&self.state, format!("c-{}", id.short()).parse().map_err(|_| no_name())?, id)
    }

    /// Other containers whose namespaces are asked for are known by their ids from now on, whatever their names will
    /// be. Only this host's are found, and SELF.
    fn name_by_id(&self, host: &mut HostConfig) -> Result<()> {
        let id_of = |name: &mut String| -> Result<()> {
            *name = self.target(name)?.container().id.to_string();
            Ok(())
        };
        if let NetworkMode::Container(name) = &mut host.network_mode {
            match id_of(name) {
                // It may exist by the time of the start, which looks again.
                Ok(()) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for mode in [&mut host.ipc_mode, &mut host.pid_mode] {
            if let NamespaceMode::Container(name) = mode {
                id_of(name).map_err(|error| match error {
                    Error::NotFound(message) => Error::Invalid(message),
                    other => other,
                })?;
            }
        }
        Ok(())
    }

    /// The networks of a new container: those that are asked for, else the one of its mode. Networks are known by
    /// their names; one that is not there yet may be by the time of the start.
    fn memberships(
        &self,
        host: &HostConfig,
        asked: BTreeMap<String, EndpointRequest>,
    ) -> Result<BTreeMap<String, Membership>> {
        let Some(mode) = host.network_mode.network() else { return Ok(BTreeMap::new()) };
        let asked =
            if asked.is_empty() { BTreeMap::from([(mode.to_owned(), EndpointRequest::default())]) } else { asked };
        let mut networks = BTreeMap::new();
        for (typed, request) in asked {
            let key = match self.state.networks.find(&typed) {
                Ok(network) => {
                    let named = |error: Error| error.after(&format!("invalid config for network {typed}: "));
                    check_request(&network, &request).map_err(named)?;
                    network.record.name.clone()
                }
                Err(_) => typed,
            };
            networks.insert(key, Membership { request, ..Membership::default() });
        }
        let only_host = networks.keys().all(|key| key == "host");
        if matches!(host.network_mode, NetworkMode::Host) && !only_host {
            return Err(Error::invalid(
                "a container in its host's network namespace can't be connected to other networks: leave out one of them",
            ));
        }
        Ok(networks)
    }

    /// Linked containers must be on this host, and are known by their ids from now on.
    /// On networks with names of their own a link is only another name, which may mean somebody later.
    fn links_by_id(&self, host: &mut HostConfig) -> Result<()> {
        if host.network_mode.network() != Some("bridge") {
            return Ok(());
        }
        for link in host.links.iter_mut().flatten() {
            let (name, alias) = links::parts(link);
            let linked = self
                .member(name)
                .map_err(|error| Error::invalid(format!("could not get container for {name}: {error}")))?;
            *link = format!("{}:{alias}", linked.id);
        }
        Ok(())
    }

    /// The mounts of the containers that `--volumes-from` names; SELF is one of them.
    fn mounts_from(&self, host: &HostConfig) -> Result<Inherited> {
        let mut all = Inherited::default();
        for text in host.volumes_from.iter().flatten() {
            let (name, read_only) = mounts::volumes_from(text)?;
            let target = self.target(name)?;
            let record = target.container().record();
            let shared = record.mounts.iter().filter(|mount| !matches!(mount.source, MountSource::Tmpfs { .. }));
            all.mounts.extend(shared.cloned().map(|mut mount| {
                mount.read_only |= read_only;
                mount.mode.clear();
                if let MountSource::Volume { no_copy, .. } = &mut mount.source {
                    *no_copy = true;
                }
                self.as_seen_from_here(&target, mount)
            }));
            all.anonymous.extend(record.anonymous_volumes.iter().cloned());
        }
        Ok(all)
    }

    /// A mount of SELF, seen from inside: its source is the place where SELF has it.
    fn as_seen_from_here(&self, target: &crate::host::Target, mut mount: Mount) -> Mount {
        if let crate::host::Target::Myself(_) = target
            && let Some(source) = ClientPath::absolute(mount.target.as_str())
        {
            mount.source = MountSource::Bind { source, create: false, non_recursive: false };
        }
        mount
    }

    /// Takes out the binds that mean the engine's socket, and looks at what `--mount` binds.
    async fn split_sockets(&self, mounts: Vec<Mount>) -> Result<(Vec<ContainerPath>, Vec<Mount>)> {
        let mut sockets = Vec::new();
        let mut others = Vec::new();
        for mount in mounts {
            let MountSource::Bind { source, create, .. } = &mount.source else {
                others.push(mount);
                continue;
            };
            if self.means_engine_socket(source, *create).await? {
                sockets.push(mount.target);
            } else {
                others.push(mount);
            }
        }
        Ok((sockets, others))
    }

    /// Whether a bind's source is an engine socket: by the paths that everybody types, or by what lies there.
    async fn means_engine_socket(&self, source: &ClientPath, create: bool) -> Result<bool> {
        if KNOWN_SOCKETS.contains(&source.as_str()) {
            return Ok(true);
        }
        if self.engine.volumes.shown_at(&self.state, source.as_str()).is_some() {
            return Ok(false);
        }
        let namespaces = self.state.power()?.namespaces;
        let path = source.as_str().to_owned();
        let failed = |error: &dyn std::fmt::Display| Error::hidden("a bind source could not be looked up", error);
        let view = namespaces.view().map_err(|error| failed(&error))?;
        let look = move || view.open_bind_source(std::path::Path::new(&path), BindOptions::default());
        let found = crate::transit::aside(look).await;
        match found.map_err(|error| failed(&error))? {
            Ok(found) => Ok(found.is_socket && self.engine.is_engine_socket(found.dev, found.ino)),
            Err(BindError::Missing { .. }) if create => Ok(false),
            Err(BindError::Missing { .. }) => Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            ))),
            Err(error) => Err(Error::invalid(format!("invalid mount config for type \"bind\": {error}"))),
        }
    }
}

fn no_name() -> Error {
    Error::internal("no free container name could be made up; choose one with --name")
}

/// Joins request and image, and refuses a container that would run nothing.
fn merged(asked: Config, image: Option<&Image>) -> Result<Config> {
    let config = match image {
        Some(image) => merge(asked, &image.config().config),
        None => merge(asked, &Config::default()),
    };
    if config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).next().is_none() {
        return Err(Error::invalid("no command specified"));
    }
    Ok(config)
}

/// The host name: as asked, or the short id where the container has a UTS namespace of its own.
fn named(mut config: Config, host: &HostConfig, id: &ContainerId) -> Config {
    let shared = host.uts_mode == NamespaceMode::Host
        || matches!(host.network_mode, NetworkMode::Host | NetworkMode::Container(_));
    if config.hostname.is_empty() && !shared {
        config.hostname = id.short().to_owned();
    }
    config
}

/// Fills in what Docker fills in, and refuses what does not exist here.
fn complete(mut host: HostConfig, settings: &Settings) -> Result<HostConfig> {
    host.log = log_config(host.log, settings)?;
    complete_paths(&mut host);
    // As much swap as memory, unless the client says how much, or that there is no limit.
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
    if host.shm_size == 0 {
        host.shm_size = SHM_SIZE;
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if host.ipc_mode == NamespaceMode::Default {
        host.ipc_mode = NamespaceMode::Private;
    }
    if host.cgroupns_mode == NamespaceMode::Default {
        host.cgroupns_mode = NamespaceMode::Private;
    }
    if host.auto_remove && !matches!(host.restart_policy, RestartPolicy::Unset | RestartPolicy::No) {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    unlabelled(&mut host);
    check_storage_options(&host)?;
    host.runtime = runtime_name(&host.runtime, settings)?;
    if !host.userns_mode.is_empty() && host.userns_mode != "host" {
        return Err(Error::invalid("invalid userns mode: only \"host\" and the default are known"));
    }
    Ok(host)
}

/// A container that shares its host's processes or is privileged has no SELinux label, which inspect says even where
/// there is no SELinux.
fn unlabelled(host: &mut HostConfig) {
    let shares = host.ipc_mode == NamespaceMode::Host || host.pid_mode == NamespaceMode::Host;
    let labelled = host.security_opt.iter().flatten().any(|word| word.split(['=', ':']).next() == Some("label"));
    if (host.privileged || shares) && !labelled {
        host.security_opt.get_or_insert_default().push("label=disable".to_owned());
    }
}

/// A container's root has no size limit here, and asking for one must not look as if it had.
fn check_storage_options(host: &HostConfig) -> Result<()> {
    match host.storage_opt.keys().find(|key| !key.eq_ignore_ascii_case("size")) {
        Some(key) => Err(Error::internal(format!("Unknown option {key}"))),
        None if host.storage_opt.is_empty() => Ok(()),
        None => Err(Error::internal("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")),
    }
}

/// The system paths that are hidden and protected unless the client says otherwise.
fn complete_paths(host: &mut HostConfig) {
    let open = host.security_opt.iter().flatten().any(|word| word == "systempaths=unconfined");
    let rules = match (host.privileged, open) {
        (true, _) => return,
        (false, true) => PathRules::none(),
        (false, false) => PathRules::docker_default(
            std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1)),
        ),
    };
    let shown = |path: &String| !path.ends_with("/thermal_throttle") || std::path::Path::new(path).exists();
    host.masked_paths.get_or_insert(rules.masked.into_iter().filter(shown).collect());
    host.readonly_paths.get_or_insert(rules.read_only);
}

/// A working directory is a place in the container.
fn check_working_dir(config: &Config) -> Result<()> {
    if config.working_dir.is_empty() || config.working_dir.starts_with('/') {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the working directory '{}' is invalid, it needs to be an absolute path",
        config.working_dir
    )))
}

fn log_config(asked: LogConfig, settings: &Settings) -> Result<LogConfig> {
    let asked =
        if asked.driver.is_empty() { LogConfig { driver: settings.log.driver.clone(), ..asked } } else { asked };
    if !LOG_DRIVERS.contains(&asked.driver.as_str()) {
        return Err(Error::invalid(format!("logger: no log driver named '{}' is registered", asked.driver)));
    }
    let options = if asked.options.is_empty() && asked.driver == settings.log.driver {
        settings.log.options.clone()
    } else {
        asked.options
    };
    crate::logs::check_options(&asked.driver, &options)?;
    Ok(LogConfig { driver: asked.driver, options })
}

fn runtime_name(asked: &str, settings: &Settings) -> Result<String> {
    let name = if asked.is_empty() { settings.default_runtime.as_str() } else { asked };
    match name {
        "" | crate::oci::OWN => Ok(crate::oci::OWN.to_owned()),
        name if settings.runtimes.contains_key(name) => Ok(name.to_owned()),
        // Docker's own names for the runtime that is there without being configured.
        "runc" | "io.containerd.runc.v2" => Ok(crate::oci::OWN.to_owned()),
        name => Err(Error::invalid(format!("unknown or invalid runtime name: {name}"))),
    }
}

/// What the socket grants: as its creator says, else as the daemon's list of images says, else as the creator's own
/// creator said for its children, else as the daemon says.
fn socket_grant(
    targets: Vec<ContainerPath>,
    labels: &BTreeMap<String, String>,
    image: &str,
    creator: Option<Grant>,
    settings: &Settings,
) -> Result<Option<Socket>> {
    if targets.is_empty() {
        return Ok(None);
    }
    let grant = match labelled(labels, Grant::LABEL, Grant::from_label)? {
        Some(grant) => grant,
        None if is_listed(image, &settings.parent_images) => Grant::Parent,
        None => creator.unwrap_or(settings.default_grant),
    };
    let images = labelled(labels, ImageView::LABEL, ImageView::from_label)?.unwrap_or(ImageView::Inherit);
    let children = labelled(labels, Grant::CHILDREN_LABEL, Grant::for_children)?;
    Ok(Some(Socket { grant, targets, images, children }))
}

/// What a label says, if it is there.
fn labelled<T, E: std::fmt::Display>(
    labels: &BTreeMap<String, String>,
    label: &str,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>> {
    let value = labels.get(label).map(|value| read(value));
    value.transpose().map_err(|error| Error::invalid(error.to_string()))
}

/// Whether an image's repository is in the list; tags, digests and Docker's own registry do not count.
fn is_listed(image: &str, list: &[String]) -> bool {
    let repository =
        |text: &str| text.parse::<droste_model::reference::Reference>().ok().map(|reference| reference.name());
    let wanted = repository(image);
    wanted.is_some() && list.iter().any(|listed| repository(listed) == wanted)
}
