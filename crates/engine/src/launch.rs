//! Starting an admitted container: everything is prepared here, then the shim executes one plan.
//!
//! What is acquired on the way goes into values that give themselves back when dropped (network, descriptors), so a
//! step that fails leaves nothing behind but what [`Engine::release`] removes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use droste_cgroup::{Cgroup, CgroupPath, Cgroups, Limits, View};
use droste_confine::{Bounds, Privileges};
use droste_model::container::{Config, HostConfig, NamespaceMode};
use droste_model::mount::{MountSource as Wanted, Propagation as WantedPropagation};
use droste_model::network::NetworkMode;
use droste_model::port::{ContainerPort, PortBinding};
use droste_model::state::{Exit, Running, State};
use droste_model::time::Timestamp;
use droste_network::{DnsOptions, ExtraHost, ResolvConf, host_mode_hosts, hosts};
use droste_runtime::namespaces::{BindError, BindOptions, HostNamespaces};
use droste_runtime::plan::{
    AttachPlan, CgroupPlan, Device, DeviceKind, Failure, FailureKind, FdIndex, LaunchPlan, LogPlan, Mount, MountFlags,
    MountSource, Namespace, Namespaces, Overlay, OverlayUpper, PidNamespace, Propagation, Rootfs, Stdio, default_links,
};
use droste_runtime::{Ending, Shim};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exec::window;
use crate::host::{Host, HostState, Power, Target};
use crate::network::{Attachment, Wish};
use crate::record::ContainerRecord;
use crate::settings::Settings;
use crate::{privileges, process, sockets};

/// Docker's words before a launcher's failure, from which clients read what happened.
const REFUSED: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                       runc create failed: unable to start container process: error during container init: ";

/// Descriptors that travel with a plan.
#[derive(Default)]
struct Fds(Vec<OwnedFd>);

impl Fds {
    fn add(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        FdIndex(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }
}

/// Everything that a plan is made of, gathered on a blocking thread.
struct Prepared {
    plan: LaunchPlan,
    fds: Fds,
    network: Option<Attachment>,
    privileges: Privileges,
    listener: Option<std::os::unix::net::UnixListener>,
}

/// A launcher's failure in the words that Docker's clients understand.
pub(crate) fn refused(prefix: &str, failure: &Failure) -> Error {
    let text = format!("{prefix}{failure}");
    match failure.kind {
        FailureKind::NotFound | FailureKind::NotExecutable => Error::invalid(text),
        FailureKind::Other => Error::internal(text),
    }
}

fn exit_code(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::NotFound => 127,
        FailureKind::NotExecutable => 126,
        FailureKind::Other => 128,
    }
}

impl Engine {
    /// Starts a container's process. The caller holds its transition.
    pub(crate) async fn launch(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let launched = self.try_launch(container).await;
        if let Err((error, code)) = &launched {
            self.release(container).await;
            container.live().pending.clear();
            let exit = Exit { code: *code, at: Timestamp::now(), oom_killed: false, error: error.to_string() };
            let state = container.state();
            container.enter(match state {
                State::Exited { started_at, .. } | State::Restarting { started_at, .. } => {
                    State::Exited { exit, started_at }
                }
                _ => State::Created { failed: Some(exit) },
            });
            self.remember(container);
            self.forget_if_automatic(container);
        }
        launched.map_err(|(error, _)| error)
    }

    /// A container that removes itself and could not be started goes, too.
    fn forget_if_automatic(self: &Arc<Self>, container: &Arc<Container>) {
        if !container.record().host_config.auto_remove {
            return;
        }
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move { engine.remove_itself(&container).await });
    }

    async fn try_launch(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), (Error, i32)> {
        let power = container.host.power().map_err(|error| (error, 128))?;
        {
            let mut live = container.live();
            (live.stopping, live.restarting) = (false, false);
        }
        let prepared = self.prepare(container, &power).await.map_err(|error| (error, 128))?;
        let Prepared { plan, fds, network, privileges, listener } = prepared;
        let endpoint = network.as_ref().and_then(|network| network.endpoint().cloned());
        let connected = network.is_some();
        container.live().network = network.map(Arc::new);
        let shim = self
            .runtime
            .launch(plan, fds.0)
            .await
            .map_err(|failure| (refused(REFUSED, &failure), exit_code(failure.kind)))?;
        if connected {
            sockets::emit_network(container, "connect");
        }
        {
            let mut record = container.record();
            record.endpoint = endpoint;
            record.health = crate::health::initial(&record.config);
        }
        let started_at = Timestamp::now();
        self.started(container, shim, started_at, false);
        self.remember(container);
        container.emit("start", &[]);
        self.switch_on(container, privileges, listener).map_err(|error| (error, 128))?;
        crate::health::watch(self, container);
        Ok(())
    }

    /// Takes note of a running process, launched or found again, and waits for its end.
    pub(crate) fn started(self: &Arc<Self>, container: &Arc<Container>, shim: Shim, at: Timestamp, paused: bool) {
        let pid = u32::try_from(shim.pid()).unwrap_or(0);
        container.live().shim = Some(Arc::new(shim.clone()));
        container.enter(State::Running(Running { pid, started_at: at, paused }));
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let exit = match shim.wait().await {
                Ending::Exited(exit) => Exit {
                    code: exit.code,
                    at: Timestamp::from_nanos(i64::try_from(exit.exited_at_nanos).unwrap_or(i64::MAX)),
                    oom_killed: exit.oom_killed,
                    error: String::new(),
                },
                Ending::Lost => Exit { code: 137, ..crate::lifecycle::lost() },
            };
            engine.ended(&container, exit).await;
        });
    }

    /// A container with a socket of its own is a host now: it is switched on, and its policies start what they say.
    fn switch_on(
        self: &Arc<Self>,
        container: &Arc<Container>,
        privileges: Privileges,
        listener: Option<std::os::unix::net::UnixListener>,
    ) -> Result<()> {
        if let Some(host) = self.host_of(&container.id) {
            let shim = container.shim().ok_or_else(|| Error::internal("the container has just ended"))?;
            let namespaces = HostNamespaces::of(shim.pidfd().as_fd(), shim.pid())
                .map_err(|error| Error::hidden("the container's namespaces could not be opened", error))?;
            host.switch_on(Power { namespaces: Arc::new(namespaces), bounds: Arc::new(Bounds::of(&privileges)) });
            self.power_on(&host);
        }
        if let Some(listener) = listener {
            self.serve(container, listener);
        }
        Ok(())
    }

    /// Gathers everything that a start needs. Blocking work is done on a blocking thread.
    async fn prepare(self: &Arc<Self>, container: &Arc<Container>, power: &Power) -> Result<Prepared> {
        let (engine, container, power) = (Arc::clone(self), Arc::clone(container), power.clone());
        let gathered = tokio::task::spawn_blocking(move || engine.gather(&container, &power));
        gathered.await.map_err(|error| Error::hidden("the start was broken off", error))?
    }

    fn gather(self: &Arc<Self>, container: &Arc<Container>, power: &Power) -> Result<Prepared> {
        let settings = self.settings();
        let record = container.record().clone();
        let host = Host::new(Arc::clone(self), Arc::clone(&container.host), false);
        let (privileges, _) = privileges::bound(&power.namespaces, &power.bounds, &record.host_config, &settings)?;
        let mut fds = Fds::default();
        let network = self.network(container, &record, &host, &settings)?;
        let cgroup = self.make_cgroup(&record, &privileges, power)?;
        let namespaces = self.namespaces(&record, &host, power, network.as_ref(), &mut fds)?;
        let state_dir = self.make_state_dir(&record)?;
        let (listener, socket) = sockets::open(&state_dir, &record)?;
        self.write_files(&record, &host, network.as_ref(), &settings)?;
        let mut mounts = system_mounts(&record.host_config, &privileges, &cgroup);
        mounts.extend(self.wanted_mounts(container, &record, power, socket.as_deref(), &mut fds)?);
        let pending = std::mem::take(&mut container.live().pending);
        let attached =
            pending.into_iter().map(|one| AttachPlan { socket: fds.add(one.socket), streams: one.streams }).collect();
        let listeners = match &listener {
            Some(listener) => {
                let copy =
                    listener.try_clone().map_err(|error| Error::hidden("the socket could not be kept", error))?;
                vec![fds.add(copy.into())]
            }
            None => Vec::new(),
        };
        let plan = LaunchPlan {
            id: record.id.to_string(),
            state_dir: text(&state_dir),
            hostname: Some(hostname(&record)),
            domainname: Some(record.config.domainname.clone()).filter(|name| !name.is_empty()),
            namespaces,
            rootfs: self.rootfs(container, &record)?,
            readonly_rootfs: record.host_config.readonly_rootfs,
            rootfs_propagation: Propagation::Private,
            mounts,
            devices: privileges.devices.iter().map(device).collect(),
            links: default_links(),
            masked_paths: privileges.paths.masked.clone(),
            readonly_paths: privileges.paths.read_only.clone(),
            sysctls: record.host_config.sysctls.clone().into_iter().collect(),
            process: main_process(&record, &privileges),
            cgroup: cgroup_plan(&self.cgroups, &cgroup),
            init: record.host_config.init.unwrap_or(settings.init),
            stdio: stdio(&record, attached, self.log_plan(&record)),
            listeners,
        };
        Ok(Prepared { plan, fds, network, privileges, listener })
    }

    /// The container's network namespace; `None` where it is another's.
    fn network(
        &self,
        container: &Container,
        record: &ContainerRecord,
        host: &Host,
        settings: &Settings,
    ) -> Result<Option<Attachment>> {
        if record.config.network_disabled {
            return container.host.networks.isolated().map(Some);
        }
        match &record.host_config.network_mode {
            NetworkMode::Host | NetworkMode::Container(_) => Ok(None),
            mode => match host.state.networks.find(mode.network().unwrap_or("bridge"))? {
                crate::network::Builtin::None => container.host.networks.isolated().map(Some),
                crate::network::Builtin::Host => Ok(None),
                crate::network::Builtin::Bridge => {
                    let wish = Wish {
                        name: record.name.to_string(),
                        mac: wanted_mac(record)?,
                        ports: wanted_ports(&record.config, &record.host_config),
                    };
                    container.host.networks.on_bridge(&container.host, settings, &wish).map(Some)
                }
            },
        }
    }

    fn namespaces(
        &self,
        record: &ContainerRecord,
        host: &Host,
        power: &Power,
        network: Option<&Attachment>,
        fds: &mut Fds,
    ) -> Result<Namespaces> {
        let failed = |error: std::io::Error| Error::hidden("a namespace of the host could not be opened", error);
        let asked = &record.host_config;
        let pid = match &asked.pid_mode {
            NamespaceMode::Host => PidNamespace::Join(fds.add(power.namespaces.pid.try_clone().map_err(failed)?)),
            NamespaceMode::Container(name) => {
                PidNamespace::Join(fds.add(running(host, name)?.pid.try_clone().map_err(failed)?))
            }
            // The shim is in the machine's own namespace: only below it must a parent be named.
            _ if host.level() == 0 => PidNamespace::New { parent: None },
            _ => PidNamespace::New { parent: Some(fds.add(power.namespaces.pid.try_clone().map_err(failed)?)) },
        };
        let net = match (network, &asked.network_mode) {
            (Some(attachment), _) => Namespace::Join(fds.add(attachment.fd()?)),
            (None, NetworkMode::Container(name)) => {
                Namespace::Join(fds.add(running(host, name)?.net.try_clone().map_err(failed)?))
            }
            (None, _) => Namespace::Join(fds.add(power.namespaces.net.try_clone().map_err(failed)?)),
        };
        let ipc = match &asked.ipc_mode {
            NamespaceMode::Host => Namespace::Join(fds.add(power.namespaces.ipc.try_clone().map_err(failed)?)),
            NamespaceMode::Container(name) => {
                Namespace::Join(fds.add(running(host, name)?.ipc.try_clone().map_err(failed)?))
            }
            _ => Namespace::New,
        };
        let uts = match (&asked.uts_mode, &asked.network_mode) {
            (NamespaceMode::Host, _) => Namespace::Join(fds.add(power.namespaces.uts.try_clone().map_err(failed)?)),
            _ => Namespace::New,
        };
        let cgroup = match &asked.cgroupns_mode {
            NamespaceMode::Host => Namespace::Join(fds.add(power.namespaces.cgroup.try_clone().map_err(failed)?)),
            _ => Namespace::New,
        };
        Ok(Namespaces { pid, net, ipc, uts, cgroup })
    }

    /// The cgroup of a container, below its host's.
    pub(crate) fn cgroup_path(&self, record: &ContainerRecord, host: &HostState) -> Result<CgroupPath> {
        CgroupPath::of_container(&host.cgroup, &record.host_config.resources.cgroup_parent, record.id.as_str())
            .map_err(|error| Error::invalid(error.to_string()))
    }

    /// The cgroup of a container, whether it exists or not.
    pub(crate) fn cgroup(&self, container: &Container) -> Result<Cgroup> {
        let record = container.record().clone();
        Ok(self.cgroups.get(&self.cgroup_path(&record, &container.host)?))
    }

    /// The cgroup in which the container's own processes are.
    fn leaf(&self, group: &Cgroup, is_host: bool) -> Cgroup {
        if is_host { self.cgroups.get(&group.path().of_host_itself()) } else { group.clone() }
    }

    /// Where a further process of a running container goes.
    pub(crate) fn cgroup_plan(&self, container: &Container) -> Result<CgroupPlan> {
        let is_host = container.record().is_host();
        Ok(cgroup_plan(&self.cgroups, &self.leaf(&self.cgroup(container)?, is_host)))
    }

    /// Makes the cgroup with its limits. A host's processes go into a child of it, so that its containers may lie
    /// beside them below the same limits; the child repeats them for programs that read their own cgroup.
    fn make_cgroup(&self, record: &ContainerRecord, privileges: &Privileges, power: &Power) -> Result<Cgroup> {
        let failed = |error: droste_cgroup::CgroupError| {
            Error::internal(format!("failed to make the container's cgroup: {error}"))
        };
        let state = self.host(&record.host).ok_or_else(|| Error::conflict("the host of this container is gone"))?;
        let path = self.cgroup_path(record, &state)?;
        let limits = self.limits(record, power)?;
        let group = self.cgroups.create(&path).map_err(failed)?;
        let limited = (|| {
            group.limit(&limits)?;
            group.set_devices(&device_rules(privileges)?, &attach_program)?;
            if !record.is_host() {
                return Ok(group.clone());
            }
            let leaf = self.cgroups.create(&path.of_host_itself())?;
            leaf.limit(&limits)?;
            Ok(leaf)
        })();
        limited.map_err(|error| {
            let _ = group.remove();
            failed(error)
        })
    }

    pub(crate) fn limits(&self, record: &ContainerRecord, power: &Power) -> Result<Limits> {
        let resources = &record.host_config.resources;
        let number = |path: &str| device_number(&power.namespaces, path);
        let mut limits = Limits::from_resources(resources, number)?;
        limits.oom_group = None;
        Ok(limits)
    }

    fn make_state_dir(&self, record: &ContainerRecord) -> Result<PathBuf> {
        let path = self.state_dir(&record.id);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::hidden("the container's run state could not be made", error))?;
        Ok(path)
    }

    fn rootfs(&self, container: &Container, record: &ContainerRecord) -> Result<Rootfs> {
        let overlay = self
            .images
            .root_of(container.image.as_ref(), self.container_dir(&record.id))
            .map_err(|error| Error::hidden("the container's root is damaged", error))?;
        Ok(Rootfs::Overlay(Overlay {
            layers_dir: text(&overlay.layers_dir),
            lowers: overlay.lower,
            upper: Some(OverlayUpper { upper: text(&overlay.upper), work: text(&overlay.work) }),
        }))
    }

    /// /etc/hostname, /etc/hosts and /etc/resolv.conf.
    fn write_files(
        &self,
        record: &ContainerRecord,
        host: &Host,
        network: Option<&Attachment>,
        settings: &Settings,
    ) -> Result<()> {
        if let NetworkMode::Container(name) = &record.host_config.network_mode {
            return self.share_files(record, host, name);
        }
        let folder = self.container_dir(&record.id);
        let gateway = network.and_then(|network| network.endpoint()).map(|endpoint| IpAddr::V4(endpoint.gateway));
        let extra = record.host_config.extra_hosts.iter().flatten();
        let extra = extra
            .map(|text| ExtraHost::parse(text, gateway))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let shares_host = network.is_none();
        let of_host = host.files_of_host()?;
        let hosts_file = if shares_host {
            host_mode_hosts(&of_host.hosts, &extra)
        } else {
            let address = network.and_then(|network| network.endpoint()).map(|endpoint| IpAddr::V4(endpoint.address.0));
            let addresses: Vec<IpAddr> = address.into_iter().collect();
            hosts(&addresses, &record.config.hostname, &record.config.domainname, &extra)
        };
        let asked = dns(&record.host_config, settings);
        let resolver = ResolvConf::parse(&of_host.resolv_conf);
        let resolver = if shares_host { resolver.for_host(&asked) } else { resolver.for_bridge(&asked) };
        let write = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content)
                .map_err(|error| Error::hidden(format!("the container's {name} could not be written"), error))
        };
        write("hostname", &format!("{}\n", record.config.hostname))?;
        write("hosts", &hosts_file)?;
        write("resolv.conf", &resolver.render())
    }

    /// A container in another's network namespace has its files, too.
    fn share_files(&self, record: &ContainerRecord, host: &Host, name: &str) -> Result<()> {
        let other = self.container_dir(&host.target(name)?.container().id);
        let own = self.container_dir(&record.id);
        for file in ["hostname", "hosts", "resolv.conf"] {
            std::fs::copy(other.join(file), own.join(file))
                .map_err(|error| Error::hidden(format!("the container's {file} could not be written"), error))?;
        }
        Ok(())
    }

    /// The engine's own files, the sockets, and what the client asked for, parents first.
    fn wanted_mounts(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &ContainerRecord,
        power: &Power,
        socket: Option<&Path>,
        fds: &mut Fds,
    ) -> Result<Vec<Mount>> {
        let unseen = |error: std::io::Error| Error::hidden("the machine's root could not be entered", error);
        let machine = self.machine_state().power()?.namespaces.view().map_err(unseen)?;
        let folder = self.container_dir(&record.id);
        let mut mounts = Vec::new();
        let own = |path: &Path, target: &str, flags: MountFlags, fds: &mut Fds| {
            let source = machine
                .open_bind_source(path, BindOptions::default())
                .map_err(|error| Error::hidden(format!("the container's {target} could not be mounted"), error))?;
            Ok::<Mount, Error>(Mount::bind(fds.add(source.mount), target, flags))
        };
        for wanted in &record.mounts {
            mounts.push(self.wanted_mount(container, wanted, power, fds)?);
        }
        for (name, target) in
            [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
        {
            if !record.mounts.iter().any(|wanted| wanted.target.as_str() == target) {
                mounts.push(own(&folder.join(name), target, MountFlags::NONE, fds)?);
            }
        }
        if let (Some(path), Some(granted)) = (socket, &record.socket) {
            for target in &granted.targets {
                mounts.push(own(path, target.as_str(), MountFlags::NONE, fds)?);
            }
        }
        mounts.sort_by_key(|mount| mount.target.matches('/').count());
        Ok(mounts)
    }

    fn wanted_mount(
        self: &Arc<Self>,
        container: &Arc<Container>,
        wanted: &droste_model::mount::Mount,
        power: &Power,
        fds: &mut Fds,
    ) -> Result<Mount> {
        let target = wanted.target.to_string();
        let mut flags = if wanted.read_only { MountFlags::RDONLY } else { MountFlags::NONE };
        let source = match &wanted.source {
            Wanted::Tmpfs { size, mode, options } => {
                let options = tmpfs_options(*size, *mode, options)?;
                flags = options.1 | flags;
                MountSource::Fs { fstype: "tmpfs".to_owned(), options: options.0 }
            }
            Wanted::Bind { source, create, non_recursive } => {
                let options = BindOptions {
                    create_directory: *create,
                    non_recursive: *non_recursive,
                    keep_propagation: !matches!(
                        wanted.propagation,
                        WantedPropagation::Private | WantedPropagation::RPrivate
                    ),
                };
                let opened = power
                    .namespaces
                    .view()
                    .map_err(|error| Error::hidden("the host's root could not be entered", error))?
                    .open_bind_source(Path::new(source.as_str()), options)
                    .map_err(|error| bind_failed(&error, source.as_str()))?;
                if opened.read_only {
                    flags = flags | MountFlags::RDONLY;
                }
                bind(fds.add(opened.mount), wanted)
            }
            Wanted::Volume { name, no_copy, subpath, .. } => {
                let name = name.as_ref().ok_or_else(|| Error::internal("a volume has no name"))?;
                let opened =
                    self.volumes.open(self, container, name, wanted.target.as_str(), *no_copy, subpath.as_deref())?;
                bind(fds.add(opened), wanted)
            }
            Wanted::Image { reference, .. } => {
                return Err(Error::NotImplemented(crate::error::Message::new(format!(
                    "mounts of type image ({reference}) come with a later version of Droste"
                ))));
            }
        };
        Ok(Mount { target, source, flags })
    }

    fn log_plan(&self, record: &ContainerRecord) -> Option<LogPlan> {
        crate::logs::plan(record, &self.container_dir(&record.id))
    }

    /// Gives back what a container had while it ran.
    pub(crate) async fn release(self: &Arc<Self>, container: &Arc<Container>) {
        let (network, health) = {
            let mut live = container.live();
            live.shim = None;
            (live.network.take(), live.health.take())
        };
        if let Some(health) = health {
            health.abort();
        }
        let had_network = network.is_some();
        container.record().endpoint = None;
        let (engine, owned) = (Arc::clone(self), Arc::clone(container));
        let released = tokio::task::spawn_blocking(move || {
            drop(network);
            let state = engine.state_dir(&owned.id);
            if let Ok(group) = engine.cgroup(&owned)
                && let Err(error) = group.kill().and_then(|()| group.remove())
            {
                tracing::warn!(container = %owned.id, %error, "its cgroup was not removed");
            }
            let _ = std::fs::remove_dir_all(state);
        });
        if released.await.is_err() {
            tracing::error!(container = %container.id, "what it had was not released");
        }
        if had_network {
            sockets::emit_network(container, "disconnect");
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The namespaces of another container of this host, or of SELF.
fn running(host: &Host, name: &str) -> Result<Arc<HostNamespaces>> {
    let target = host.target(name)?;
    if let Target::Myself(_) = &target {
        return Ok(host.state.power()?.namespaces);
    }
    let container = target.container();
    let shim = container
        .shim()
        .ok_or_else(|| Error::conflict(format!("cannot join namespace of a non running container: {name}")))?;
    HostNamespaces::of(shim.pidfd().as_fd(), shim.pid())
        .map(Arc::new)
        .map_err(|error| Error::hidden(format!("the namespaces of {name} could not be opened"), error))
}

fn hostname(record: &ContainerRecord) -> String {
    if record.config.hostname.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        record.config.hostname.clone()
    }
}

fn wanted_mac(record: &ContainerRecord) -> Result<Option<droste_network::MacAddr>> {
    let on_endpoint = record.networks.get("bridge").or_else(|| record.networks.get("default"));
    let mac = on_endpoint.map(|request| request.mac.as_str()).filter(|mac| !mac.is_empty());
    let mac = mac.unwrap_or(&record.config.mac_address);
    if mac.is_empty() {
        return Ok(None);
    }
    mac.parse().map(Some).map_err(|_| Error::invalid(format!("invalid MAC address: {mac}")))
}

/// The ports to publish: those that were bound, and with `-P` every exposed one.
fn wanted_ports(config: &Config, host: &HostConfig) -> Vec<(ContainerPort, PortBinding)> {
    let mut ports: BTreeMap<ContainerPort, Vec<PortBinding>> = host.port_bindings.clone();
    if host.publish_all_ports {
        for port in &config.exposed_ports {
            ports.entry(*port).or_default();
        }
    }
    let ephemeral = PortBinding { host_ip: None, host_ports: None };
    let each = |(port, mut bindings): (ContainerPort, Vec<PortBinding>)| {
        if bindings.is_empty() && host.publish_all_ports {
            bindings.push(ephemeral.clone());
        }
        bindings.into_iter().map(move |binding| (port, binding)).collect::<Vec<_>>()
    };
    ports.into_iter().flat_map(each).collect()
}

fn dns(host: &HostConfig, settings: &Settings) -> DnsOptions {
    let or = |asked: &[String], default: &[String]| if asked.is_empty() { default.to_vec() } else { asked.to_vec() };
    DnsOptions {
        servers: or(&host.dns, &settings.dns),
        search: or(&host.dns_search, &settings.dns_search),
        options: or(&host.dns_options, &settings.dns_options),
    }
}

/// What every container has mounted before anything that was asked for.
fn system_mounts(asked: &HostConfig, privileges: &Privileges, cgroup: &Cgroup) -> Vec<Mount> {
    let mut mounts = vec![Mount::proc(), Mount::dev(), Mount::devpts(), Mount::sysfs(privileges.writable_sysfs)];
    mounts.push(match cgroup.view() {
        View::Unified { .. } => Mount::cgroup2(privileges.writable_cgroups),
        View::Legacy(hierarchies) => Mount {
            target: "/sys/fs/cgroup".to_owned(),
            source: MountSource::CgroupV1(
                hierarchies
                    .into_iter()
                    .map(|one| (one.name, one.options.split(',').map(str::to_owned).collect()))
                    .collect(),
            ),
            flags: if privileges.writable_cgroups { MountFlags::NONE } else { MountFlags::RDONLY },
        },
    });
    mounts.push(Mount::mqueue());
    if asked.ipc_mode != NamespaceMode::None {
        mounts.push(Mount::shm(u64::try_from(asked.shm_size).unwrap_or(0)));
    }
    mounts
}

fn bind(mount: FdIndex, wanted: &droste_model::mount::Mount) -> MountSource {
    let propagation = match wanted.propagation {
        WantedPropagation::Private | WantedPropagation::RPrivate => Propagation::Private,
        WantedPropagation::Slave | WantedPropagation::RSlave => Propagation::Slave,
        WantedPropagation::Shared | WantedPropagation::RShared => Propagation::Shared,
    };
    MountSource::Bind { mount, propagation, recursive_readonly: !wanted.read_only_non_recursive }
}

fn bind_failed(error: &BindError, source: &str) -> Error {
    match error {
        BindError::Missing { .. } => {
            Error::invalid(format!("invalid mount config for type \"bind\": bind source path does not exist: {source}"))
        }
        error => Error::internal(format!("error while mounting {source}: {error}")),
    }
}

/// Options of a tmpfs and the flags among them. Docker's defaults are noexec, nosuid and nodev.
fn tmpfs_options(size: Option<u64>, mode: Option<u32>, words: &[String]) -> Result<(Vec<String>, MountFlags)> {
    let mut flags = vec![("noexec", MountFlags::NOEXEC), ("nosuid", MountFlags::NOSUID), ("nodev", MountFlags::NODEV)];
    let mut options = Vec::new();
    let mut read_only = MountFlags::NONE;
    for word in words {
        match word.as_str() {
            "exec" | "suid" | "dev" => flags.retain(|(name, _)| name[2..] != **word),
            "noexec" | "nosuid" | "nodev" | "rw" => {}
            "ro" => read_only = MountFlags::RDONLY,
            option
                if ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="]
                    .iter()
                    .any(|key| option.starts_with(key)) =>
            {
                options.push(option.to_owned());
            }
            option => return Err(Error::invalid(format!("invalid tmpfs option [{option:?}]"))),
        }
    }
    options.extend(size.map(|bytes| format!("size={bytes}")));
    options.extend(mode.map(|bits| format!("mode={bits:o}")));
    Ok((options, flags.into_iter().fold(read_only, |all, (_, flag)| all | flag)))
}

fn device(node: &droste_confine::DeviceNode) -> Device {
    Device {
        path: node.path.clone(),
        kind: match node.kind {
            droste_confine::DeviceKind::Block => DeviceKind::Block,
            _ => DeviceKind::Char,
        },
        major: node.major,
        minor: node.minor,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
    }
}

fn device_rules(privileges: &Privileges) -> Result<Vec<droste_cgroup::devices::Rule>, droste_cgroup::CgroupError> {
    let text = |rule: &droste_confine::DeviceRule| {
        let rule = rule.to_string();
        rule.parse().map_err(|_| droste_cgroup::CgroupError::Path(rule))
    };
    privileges.device_rules.iter().map(text).collect()
}

/// Loads a device program and attaches it to a new cgroup.
fn attach_program(folder: &Path, program: &[u8]) -> std::io::Result<()> {
    let folder = std::fs::File::open(folder)?;
    let program = droste_runtime::sys::bpf::load_device_program(program)?;
    droste_runtime::sys::bpf::attach_device_program(folder.as_fd(), program.as_fd(), None)
}

fn device_number(namespaces: &HostNamespaces, path: &str) -> Result<droste_cgroup::DeviceNumber> {
    use std::os::unix::fs::MetadataExt;
    let owned = path.to_owned();
    let view = namespaces.view().map_err(|error| Error::hidden("the host's root could not be entered", error))?;
    let looked = view.run(move || std::fs::metadata(&owned).map(|metadata| metadata.rdev()));
    let number = looked
        .map_err(|error| Error::hidden("the host's devices could not be looked up", error))?
        .map_err(|error| Error::invalid(format!("invalid device {path:?}: {error}")))?;
    Ok(droste_cgroup::DeviceNumber { major: rustix::fs::major(number), minor: rustix::fs::minor(number) })
}

fn main_process(record: &ContainerRecord, privileges: &Privileges) -> droste_runtime::plan::Process {
    let env = process::environment(&record.config, &[]);
    let mut process = process::process(privileges, privileges.capabilities, record.args(), env);
    if !record.config.working_dir.is_empty() {
        process.cwd.clone_from(&record.config.working_dir);
    }
    process.user.clone_from(&record.config.user);
    process.groups = record.host_config.group_add.clone().unwrap_or_default();
    process
}

/// The file in which the kernel counts what it killed for want of memory.
fn oom_events(cgroups: &Cgroups, group: &Cgroup) -> Option<String> {
    let file = match cgroups.layout().hierarchy("memory") {
        Some(hierarchy) => group.path().below(&hierarchy.mount_point).join("memory.oom_control"),
        None => group.unified_dir()?.join("memory.events"),
    };
    Some(text(&file))
}

fn cgroup_plan(cgroups: &Cgroups, group: &Cgroup) -> CgroupPlan {
    let unified = group.unified_dir();
    let in_unified = |file: &PathBuf| unified.as_ref().is_some_and(|folder| file.starts_with(folder));
    CgroupPlan {
        v1_procs: group.procs_files().iter().filter(|file| !in_unified(file)).map(|file| text(file)).collect(),
        oom_events: oom_events(cgroups, group),
        shim_procs: Vec::new(),
        v2: unified.as_deref().map(text),
    }
}

fn stdio(record: &ContainerRecord, attached: Vec<AttachPlan>, log: Option<LogPlan>) -> Stdio {
    let (rows, cols) = record.host_config.console_size;
    let size = u16::try_from(rows).ok().zip(u16::try_from(cols).ok());
    Stdio {
        tty: record.config.tty.then(|| window(size)),
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        attached,
        log,
    }
}
