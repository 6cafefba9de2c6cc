//! Starting an admitted container: everything is prepared here, then the shim executes one plan.
//!
//! What is acquired on the way goes into values that give themselves back when dropped (network, descriptors), so a
//! step that fails leaves nothing behind but what [`Engine::release`] removes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use droste_confine::{Bounds, Privileges};
use droste_model::container::{Config, HostConfig, NamespaceMode};
use droste_model::network::NetworkMode;
use droste_model::port::{ContainerPort, PortBinding};
use droste_model::state::{Exit, Running, State};
use droste_model::time::Timestamp;
use droste_runtime::namespaces::HostNamespaces;
use droste_runtime::oci::OciOptions;
use droste_runtime::plan::{
    AttachPlan, Device, DeviceKind, Failure, FailureKind, FdIndex, LaunchPlan, LogPlan, Namespace, Namespaces,
    PidNamespace, Process, Propagation, Rootfs, Stdio, default_links,
};
use droste_runtime::{Ending, Shim};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exec::window;
use crate::host::{Host, HostState, Power, Target};
use crate::mounting::system_mounts;
use crate::network::{Attachment, SETTING_UP, Wish};
use crate::placement::cgroup_plan;
use crate::record::ContainerRecord;
use crate::settings::Settings;
use crate::store::{Change, Key};
use crate::{apparmor, links, privileges, process, selinux, sockets};

/// Docker's words before a launcher's failure, from which clients read what happened.
const REFUSED: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                       runc create failed: unable to start container process: error during container init: ";

/// How long the end of a host is waited for that seems to have ended.
const END_OF_HOST: Duration = Duration::from_secs(1);

/// Descriptors that travel with a plan.
#[derive(Default)]
pub(crate) struct Fds(Vec<OwnedFd>);

impl Fds {
    /// Adds one; the plan names it by the index.
    pub(crate) fn add(&mut self, fd: OwnedFd) -> FdIndex {
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
    oci: Option<OciOptions>,
}

/// A launcher's failure in the words that Docker's clients understand.
pub(crate) fn refused(prefix: &str, failure: &Failure) -> Error {
    // Docker finds these out before its runtime does.
    let own = ["unable to find user", "unable to find group", "Cannot mkdir"];
    let prefix = if own.iter().any(|words| failure.message.starts_with(words)) { "" } else { prefix };
    let text = format!("{prefix}{failure}");
    match failure.kind {
        FailureKind::NotFound | FailureKind::NotExecutable => Error::invalid(text),
        FailureKind::Other => Error::internal(text),
    }
}

/// Why a container was not launched. In a PID namespace whose first process has ended, the kernel says that it has no
/// memory; that the host is off is known a moment later.
async fn why(host: &HostState, failure: &Failure) -> Error {
    if let Some(shim) = host.myself().and_then(|container| container.shim()) {
        let perhaps = failure.errno == rustix::io::Errno::NOMEM.raw_os_error();
        let patience = if perhaps { END_OF_HOST } else { Duration::ZERO };
        if tokio::time::timeout(patience, shim.wait()).await.is_ok() {
            return HostState::off();
        }
    }
    refused(REFUSED, failure)
}

/// Whether a host could trace the launcher for the moment in which that is in the host's PID namespace with all of the
/// machine's capabilities. Its containers get PID namespaces beside its own instead, and end through the engine. A host
/// that has everything gains nothing from it.
fn could_trace_launcher(power: &Power) -> Result<bool> {
    let has = power.bounds.capabilities;
    Ok(has.has(droste_confine::Capability::SYS_PTRACE) && !has.covers(privileges::machine()?.capabilities))
}

/// Nor may the launcher enter such a host's own PID namespace.
fn refuse_tracer(power: &Power) -> Result<()> {
    if !could_trace_launcher(power)? {
        return Ok(());
    }
    Err(Error::invalid(
        "a container can't be in the PID namespace of a host that has CAP_SYS_PTRACE and not everything else: leave out \
         the PID mode, or make the host without that capability or privileged",
    ))
}

/// The namespaces of a running container; `None` where it has ended meanwhile, which is no failure.
pub(crate) fn namespaces_of(shim: &Shim) -> Result<Option<HostNamespaces>> {
    match HostNamespaces::of(shim.pidfd().as_fd(), shim.pid()) {
        Ok(namespaces) => Ok(Some(namespaces)),
        Err(error) if error.is_of_an_ended_process() => Ok(None),
        Err(error) => Err(Error::hidden("the container's namespaces could not be opened", error)),
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
    /// Starts a container's process. The caller holds its transition; before that, the container may have been removed.
    pub(crate) async fn launch(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        if matches!(container.state(), State::Removing | State::Dead) {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
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
        self.require_space(&container.host).await.map_err(|error| (error, 128))?;
        {
            let mut live = container.live();
            (live.stopping, live.restarting, live.ended_for) = (false, false, None);
        }
        let prepared = self.prepare(container, &power).await.map_err(|error| (error, 128))?;
        let Prepared { plan, fds, network, privileges, listener, oci } = prepared;
        let connected = network.is_some();
        note_network(container, network.as_ref());
        container.live().network = network.map(Arc::new);
        let started_at = Timestamp::now();
        let intended = intended(container, started_at);
        self.note_start(&intended).map_err(|error| (error, 128))?;
        let change =
            Change::update(Key::Container(intended.id.clone()), &intended).map_err(|error| (error.into(), 128))?;
        let stored = self.store.commit(vec![change]);
        let launched = async {
            match oci {
                None => self.runtime.launch(plan, fds.0).await,
                Some(options) => self.runtime.launch_oci(plan, fds.0, options).await,
            }
        };
        let (launched, stored) = tokio::join!(launched, stored);
        let shim = match launched {
            Ok(shim) => shim,
            Err(failure) => return Err((why(&container.host, &failure).await, exit_code(failure.kind))),
        };
        if connected {
            sockets::emit_networks(container, "connect");
        }
        self.started(container, shim, started_at, false);
        if let Err(error) = stored {
            tracing::error!(container = %container.id, %error, "that it runs is not remembered");
        }
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

    /// A container with a socket of its own is a host now: it is switched on, and its policies start what they say. One
    /// whose program has ended already was a host for nobody; its end is on its way.
    fn switch_on(
        self: &Arc<Self>,
        container: &Arc<Container>,
        privileges: Privileges,
        listener: Option<std::os::unix::net::UnixListener>,
    ) -> Result<()> {
        if let Some(host) = self.host_of(&container.id) {
            let Some(shim) = container.shim() else { return Ok(()) };
            let Some(namespaces) = namespaces_of(&shim)? else { return Ok(()) };
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
        let gathered = crate::transit::aside(move || engine.gather(&container, &power));
        gathered.await.map_err(|error| Error::hidden("the start was broken off", error))?
    }

    fn gather(self: &Arc<Self>, container: &Arc<Container>, power: &Power) -> Result<Prepared> {
        let settings = self.settings();
        let host = Host::new(Arc::clone(self), Arc::clone(&container.host), false);
        let record = self.record_to_start(container, &host)?;
        privileges::check_sysctls(&host, &record.host_config)?;
        privileges::check_device_requests(&record.host_config)?;
        let (privileges, _) = privileges::bound(&container.host, power, &record.host_config, &settings)?;
        apparmor::ready(&privileges)?;
        let selinux = selinux::floor(&container.host)?;
        let mut fds = Fds::default();
        let state_dir = self.make_state_dir(&record)?;
        let (listener, socket) = sockets::open(&state_dir, &record)?;
        // The first descriptor, so that the next daemon knows by what number to ask for it.
        let listeners = match &listener {
            Some(listener) => {
                let copy =
                    listener.try_clone().map_err(|error| Error::hidden("the socket could not be kept", error))?;
                vec![fds.add(copy.into())]
            }
            None => Vec::new(),
        };
        let network = self.network(container, &record, &settings)?;
        let cgroup = self.make_cgroup(&record, &privileges, power)?;
        let namespaces = self.namespaces(&record, &host, power, network.as_ref(), &mut fds)?;
        self.write_files(&record, &host, network.as_ref())?;
        let mut mounts = system_mounts(&record.host_config, &privileges, &cgroup);
        mounts.extend(self.wanted_mounts(container, &record, power, socket.as_deref(), &mut fds)?);
        let pending = std::mem::take(&mut container.live().pending);
        let attached =
            pending.into_iter().map(|one| AttachPlan { socket: fds.add(one.socket), streams: one.streams }).collect();
        let plan = LaunchPlan {
            id: record.id.to_string(),
            state_dir: text(&state_dir),
            hostname: Some(record.config.hostname.clone()),
            domainname: Some(record.config.domainname.clone()).filter(|name| !name.is_empty()),
            namespaces,
            rootfs: Rootfs::Overlay(self.overlay(container)?),
            readonly_rootfs: record.host_config.readonly_rootfs,
            rootfs_propagation: Propagation::Private,
            mounts,
            devices: privileges.devices.iter().map(device).collect(),
            links: default_links(),
            masked_paths: privileges.paths.masked.clone(),
            readonly_paths: privileges.paths.read_only.clone(),
            sysctls: record.host_config.sysctls.clone().into_iter().collect(),
            process: Process { selinux, ..main_process(&record, &privileges, &links::variables(&record, &host)?) },
            cgroup: cgroup_plan(&self.cgroups, &cgroup),
            init: record.host_config.init.unwrap_or(settings.init),
            stdio: stdio(&record, attached, self.log_plan(&record)),
            listeners,
        };
        let oci = self.oci_options(&record, &container.host, &privileges)?;
        Ok(Prepared { plan, fds, network, privileges, listener, oci })
    }

    /// The record, with the host name of the container or host whose network it shares.
    fn record_to_start(&self, container: &Container, host: &Host) -> Result<ContainerRecord> {
        let shared = match &container.record().host_config.network_mode {
            NetworkMode::Container(name) => Some(name.clone()),
            _ => None,
        };
        if let Some(name) = shared {
            let other = host.target(&name).map_err(|error| match error {
                Error::NotFound(_) => Error::internal(format!("joining network namespace of container: {error}")),
                other => other,
            })?;
            let other = other.container().record().config.clone();
            let mut record = container.record();
            record.config.hostname = other.hostname;
            record.config.domainname = other.domainname;
        } else if container.record().config.hostname.is_empty() {
            container.record().config.hostname = host.name();
        }
        Ok(container.record().clone())
    }

    /// The container's network namespace; `None` where it is another's.
    fn network(
        &self,
        container: &Container,
        record: &ContainerRecord,
        settings: &Settings,
    ) -> Result<Option<Attachment>> {
        if record.config.network_disabled {
            return container.host.networks.isolated().map(Some);
        }
        match &record.host_config.network_mode {
            NetworkMode::Host | NetworkMode::Container(_) => Ok(None),
            _ => {
                let ports = wanted_ports(&record.config, &record.host_config);
                let wired = container.host.networks.wire(&container.host, settings, Wish { record, ports });
                wired.map(Some).map_err(|error| error.after(SETTING_UP))
            }
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
            NamespaceMode::Host => {
                refuse_tracer(power)?;
                PidNamespace::Join(fds.add(power.namespaces.pid.try_clone().map_err(failed)?))
            }
            NamespaceMode::Container(name) => {
                if let Target::Myself(_) = host.target(name)? {
                    refuse_tracer(power)?;
                }
                PidNamespace::Join(fds.add(running(host, name)?.pid.try_clone().map_err(failed)?))
            }
            // The shim is in the machine's own namespace: only below it must a parent be named.
            _ if host.level() == 0 || could_trace_launcher(power)? => PidNamespace::New { parent: None },
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
                shareable(host, name)?;
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

    /// The folder of the run state is nobody's but the engine's: the shim's socket and the recorded exit are in it.
    fn make_state_dir(&self, record: &ContainerRecord) -> Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.state_dir(&record.id);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::hidden("the container's run state could not be made", error))?;
        Ok(path)
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
        forget_network(container);
        let (engine, owned) = (Arc::clone(self), Arc::clone(container));
        let released = tokio::task::spawn_blocking(move || {
            engine.release_volumes(&owned);
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
            sockets::emit_networks(container, "disconnect");
        }
    }
}

/// Takes a container's places into its record.
fn note_network(container: &Container, network: Option<&Attachment>) {
    let mut record = container.record();
    record.ports = network.map(Attachment::published).unwrap_or_default();
    for (key, network, endpoint) in network.map(Attachment::places).unwrap_or_default() {
        if let Some(membership) = record.networks.get_mut(&key) {
            membership.network = Some(network.record.id.clone());
            membership.named = network.has_names();
            membership.endpoint = Some(endpoint);
        }
    }
    if network.is_none_or(|network| network.is_isolated()) {
        note_builtin(container, &mut record);
    }
}

/// A container in the host's namespace, or in one without networks, has its network's id.
fn note_builtin(container: &Container, record: &mut ContainerRecord) {
    for (key, membership) in &mut record.networks {
        let network = container.host.networks.named(key).filter(|network| network.builtin);
        membership.network = network.map(|network| network.record.id.clone()).or(membership.network.take());
    }
}

/// What it had on networks is no longer its own.
fn forget_network(container: &Container) {
    let mut record = container.record();
    record.ports.clear();
    for membership in record.networks.values_mut() {
        membership.endpoint = None;
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Takes the start into the record, which is stored while the container is launched: whatever a client is shown of a
/// running container, a daemon that comes after this one knows. The process's number it learns from the shim.
fn intended(container: &Container, started_at: Timestamp) -> ContainerRecord {
    let mut record = container.record();
    record.health = crate::health::initial(&record.config);
    let state = State::Running(Running { pid: 0, started_at, paused: false });
    ContainerRecord { state, ..record.clone() }
}

/// A container's IPC namespace is its own unless it says that it may be shared. SELF may share its own.
fn shareable(host: &Host, name: &str) -> Result<()> {
    match host.target(name)? {
        Target::Myself(_) => Ok(()),
        Target::Member(container) if container.record().host_config.ipc_mode == NamespaceMode::Shareable => Ok(()),
        Target::Member(_) => Err(Error::conflict(format!(
            "can't join IPC of container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        ))),
    }
}

/// The namespaces of another container of this host, or of SELF.
fn running(host: &Host, name: &str) -> Result<Arc<HostNamespaces>> {
    let target = host.target(name)?;
    if let Target::Myself(_) = &target {
        return Ok(host.state.power()?.namespaces);
    }
    let container = target.container();
    let shim = container.shim().ok_or_else(|| {
        Error::conflict(format!("cannot join namespace of a non running container: container {name} is not running"))
    })?;
    HostNamespaces::of(shim.pidfd().as_fd(), shim.pid())
        .map(Arc::new)
        .map_err(|error| Error::hidden(format!("the namespaces of {name} could not be opened"), error))
}

/// The ports to publish: those that were bound, and with `-P` every exposed one.
pub(crate) fn wanted_ports(config: &Config, host: &HostConfig) -> Vec<(ContainerPort, PortBinding)> {
    let mut ports = host.port_bindings.clone().unwrap_or_default();
    if host.publish_all_ports {
        for port in &config.exposed_ports {
            ports.entry(*port).or_default();
        }
    }
    let ephemeral = PortBinding { host_ip: None, host_ports: None };
    let each = |(port, bindings): (ContainerPort, Option<Vec<PortBinding>>)| {
        let mut bindings = bindings.unwrap_or_default();
        if bindings.is_empty() && host.publish_all_ports {
            bindings.push(ephemeral.clone());
        }
        bindings.into_iter().map(move |binding| (port, binding)).collect::<Vec<_>>()
    };
    ports.into_iter().flat_map(each).collect()
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

fn main_process(record: &ContainerRecord, privileges: &Privileges, linked: &[String]) -> Process {
    let env = process::environment(record, linked, &[]);
    let mut process = process::process(privileges, privileges.capabilities, record.args(), env);
    if !record.config.working_dir.is_empty() {
        process.cwd.clone_from(&record.config.working_dir);
    }
    process.user.clone_from(&record.config.user);
    process.groups = record.host_config.group_add.clone().unwrap_or_default();
    process
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
