//! After a start of the daemon: every container as it really is.
//!
//! The records say what was; the shims and the files that they leave say what is. A shim that answers is taken over, a
//! recorded exit is taken note of, and a container without either was lost with the machine's power.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use droste_confine::Bounds;
use droste_model::id::ContainerId;
use droste_model::limit::Resource;
use droste_model::state::{Exit, Running, State};
use droste_model::time::Timestamp;
use droste_runtime::namespaces::{EnterError, HostNamespaces};
use droste_runtime::{Reconnected, Shim};

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::{Host, Power};
use crate::network::Attachment;
use crate::record::ContainerRecord;
use crate::{lifecycle, privileges, sockets};

/// Removes the directories of execs of an earlier daemon. A shim that is just beginning may add its socket meanwhile; it
/// finds no place for it then, and ends.
fn remove_execs(folder: &Path) {
    for _ in 0..10 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return tracing::warn!(%error, "what execs of before have left was not removed");
            }
            _ => return,
        }
    }
}

impl Engine {
    /// Puts every container back, parents before what runs on them, and starts what the restart policies say.
    pub(crate) async fn recover(self: &Arc<Self>, records: Vec<ContainerRecord>) -> Result<()> {
        let known: BTreeSet<ContainerId> = records.iter().map(|record| record.id.clone()).collect();
        self.remove_strays(&known);
        let mut containers = Vec::new();
        for record in records {
            if let Some(container) = self.restore(record) {
                containers.push(container);
            }
        }
        containers.sort_by_key(|container| container.host.level);
        let mut ended = Vec::new();
        for container in &containers {
            if self.find_again(container).await {
                ended.push(Arc::clone(container));
            }
        }
        self.reconcile_networks().await;
        for container in ended {
            self.settle(&container).await;
        }
        let engine = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || engine.volumes.unmount_unused(&engine)).await;
        self.finish_removals(&containers).await;
        // Hosts that ran on have containers that ended meanwhile; those that start now come to theirs by themselves.
        let ran_on: Vec<_> = self.hosts().into_iter().filter(|host| host.is_on()).collect();
        ran_on.iter().chain([self.machine_state()]).for_each(|host| self.power_on(host));
        // Content that was on its way to a host, or that was a host's whose removal was cut off.
        self.collect_soon();
        Ok(())
    }

    /// Goes on with removals that were cut off, on the uppermost hosts first: what is on a removed host goes with it.
    async fn finish_removals(self: &Arc<Self>, containers: &[Arc<Container>]) {
        for container in containers {
            let had_begun = !self.container_dir(&container.id).exists();
            if had_begun && !container.is_removed() && container.state().running().is_none() {
                self.remove_itself(container).await;
            }
        }
    }

    /// A container in memory; `None` if its host is not remembered.
    fn restore(self: &Arc<Self>, record: ContainerRecord) -> Option<Arc<Container>> {
        let Some(host) = self.host(&record.host) else {
            tracing::error!(container = %record.id, "its host is not remembered");
            return None;
        };
        let places = host.account.hold_object(Resource::Containers, crate::record::size(&record));
        let image = record.image.parse().ok().and_then(|id| self.images.image(id).ok());
        let (id, name) = (record.id.clone(), record.name.clone());
        let mounted = record.mounted_images.iter().filter_map(|id| self.images.image(id.parse().ok()?).ok()).collect();
        let container = Arc::new(Container::new(record, Arc::clone(&host), image));
        container.live().images = mounted;
        let mut table = host.table();
        if let Err(error) = table.reserve(name, id.clone()) {
            tracing::error!(container = %id, %error, "its name is taken");
        }
        table.insert(Arc::clone(&container), places);
        drop(table);
        if let Some(own) = self.host_of(&id) {
            own.is_container(&container);
        }
        Some(container)
    }

    /// Finds out what became of a container; true if it has ended since the records were written.
    async fn find_again(self: &Arc<Self>, container: &Arc<Container>) -> bool {
        let state_dir = self.state_dir(&container.id);
        let was_active =
            !matches!(container.state(), State::Exited { .. } | State::Created { .. }) || state_dir.exists();
        if !was_active {
            return false;
        }
        self.settle_pause(container);
        let found = self.runtime.reconnect(&state_dir).await;
        if matches!(found, Ok(Reconnected::Running(_) | Reconnected::Exited(_))) {
            self.learn_start(container);
        }
        match found {
            Ok(Reconnected::Running(shim)) => match self.take_over(container, shim.clone()).await {
                Ok(()) => false,
                // Its host went off while no daemon was there to end it, or is being lost: it must not run on unseen.
                Err(error) => {
                    tracing::warn!(container = %container.id, %error, "it ran on without its host");
                    let _ = shim.signal(droste_model::signal::Signal::KILL.number());
                    shim.wait().await;
                    self.note_end(container, Exit { code: 137, ..lifecycle::lost() });
                    true
                }
            },
            Ok(Reconnected::Exited(exit)) => {
                self.note_end(container, exit_of(&exit));
                true
            }
            // A start was cut off: what was prepared for it is given back.
            Ok(Reconnected::Gone) | Err(_) if matches!(container.state(), State::Created { .. }) => true,
            Ok(Reconnected::Gone) | Err(_) => {
                self.note_end(container, lifecycle::lost());
                true
            }
        }
    }

    /// What was frozen for a moment, or by a pause that nobody was told of, goes on: nobody else would thaw it.
    fn settle_pause(&self, container: &Arc<Container>) {
        let frozen = self.cgroup(container).is_ok_and(|group| group.is_frozen_itself().unwrap_or(false));
        match container.state() {
            State::Running(Running { paused: true, .. }) if frozen => {}
            State::Running(running @ Running { paused: true, .. }) => {
                container.enter(State::Running(Running { paused: false, ..running }));
            }
            _ if frozen => self.thaw(container),
            _ => {}
        }
    }

    fn note_end(&self, container: &Arc<Container>, exit: Exit) {
        let started_at = match container.state() {
            State::Running(running) => running.started_at,
            State::Restarting { started_at, .. } | State::Exited { started_at, .. } => started_at,
            _ => exit.at,
        };
        if let State::Exited { .. } = container.state() {
            return;
        }
        container.enter(State::Exited { exit, started_at });
        self.remember(container);
    }

    /// Takes a running container over from the daemon before.
    async fn take_over(self: &Arc<Self>, container: &Arc<Container>, shim: Shim) -> Result<()> {
        container.host.power()?;
        self.adopt_volumes(container);
        let (engine, owned, found) = (Arc::clone(self), Arc::clone(container), shim.clone());
        let attached = tokio::task::spawn_blocking(move || engine.adopt_network(&owned, &found)).await;
        match attached {
            Ok(Ok(network)) => container.live().network = network.map(Arc::new),
            Ok(Err(error)) => tracing::error!(container = %container.id, %error, "its network was not taken over"),
            Err(error) => tracing::error!(container = %container.id, %error, "its network was not taken over"),
        }
        let (started_at, paused) = match container.state() {
            State::Running(running) => (running.started_at, running.paused),
            _ => (Timestamp::now(), false),
        };
        if container.record().is_host() || container.record().socket.is_some() {
            self.switch_on_again(container, &shim).await?;
        }
        self.started(container, shim, started_at, paused);
        crate::health::watch(self, container);
        Ok(())
    }

    fn adopt_network(self: &Arc<Self>, container: &Arc<Container>, shim: &Shim) -> Result<Option<Attachment>> {
        use droste_model::network::NetworkMode;
        let record = container.record().clone();
        if matches!(record.host_config.network_mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Ok(None);
        }
        let failed = |error: EnterError| Error::hidden("its network namespace could not be opened", error);
        let namespaces = HostNamespaces::of(shim.pidfd().as_fd(), shim.pid()).map_err(failed)?;
        let sandbox = droste_network::Namespace::from_fd(namespaces.net);
        let ports = crate::launch::wanted_ports(&record.config, &record.host_config);
        container.host.networks.adopt(&container.host, &self.settings(), sandbox, &record, ports).map(|attachment| {
            let host = Host::new(Arc::clone(self), Arc::clone(&container.host), false);
            if let Err(error) = self.resolve_again(&record, &host, &attachment) {
                tracing::error!(container = %record.id, %error, "its name server was not opened again");
            }
            Some(attachment)
        })
    }

    /// A host that ran on is on again; its clients have waited in the backlog of the socket that the shim held.
    async fn switch_on_again(self: &Arc<Self>, container: &Arc<Container>, shim: &Shim) -> Result<()> {
        if let Some(host) = self.host_of(&container.id) {
            let power = container.host.power()?;
            let asked = container.record().host_config.clone();
            let (own, _) = privileges::bound(&container.host, &power, &asked, &self.settings())?;
            let Some(namespaces) = crate::launch::namespaces_of(shim)? else { return Ok(()) };
            host.switch_on(Power { namespaces: Arc::new(namespaces), bounds: Arc::new(Bounds::of(&own)) });
        }
        let socket: OwnedFd = shim
            .take_listener(sockets::LISTENER)
            .await
            .map_err(|error| Error::hidden("its engine socket could not be taken over", error))?;
        let listener = UnixListener::from(socket);
        let _ = listener.set_nonblocking(true);
        self.serve(container, listener);
        Ok(())
    }

    /// What a container that ended meanwhile has left, and what its policy says.
    async fn settle(self: &Arc<Self>, container: &Arc<Container>) {
        let _turn = container.transition.lock().await;
        self.release(container).await;
        self.remember(container);
        if container.record().host_config.auto_remove {
            let (engine, container) = (Arc::clone(self), Arc::clone(container));
            tokio::spawn(async move { engine.remove_itself(&container).await });
        }
    }

    async fn reconcile_networks(self: &Arc<Self>) {
        let mut hosts = self.hosts();
        hosts.push(Arc::clone(self.machine_state()));
        let (engine, settings) = (Arc::clone(self), self.settings());
        let done = tokio::task::spawn_blocking(move || {
            for host in hosts.iter().filter(|host| host.is_on()) {
                Host::new(Arc::clone(&engine), Arc::clone(host), false).announce_self_everywhere();
                let attachments: Vec<Arc<Attachment>> =
                    host.members().iter().filter_map(|container| container.live().network.clone()).collect();
                let wanted = attachments.iter().map(Arc::as_ref);
                if let Err(error) = host.networks.reconcile(host, &settings, wanted) {
                    tracing::error!(host = %host.id, %error, "its networks were not put right");
                }
            }
        });
        let _ = done.await;
    }

    /// Folders of containers that no record speaks of: a creation or a removal was cut off.
    fn remove_strays(&self, known: &BTreeSet<ContainerId>) {
        let settings = self.settings();
        let folder = settings.data_root.join("containers");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_suffix(".removed").unwrap_or(&name);
            if id.parse().is_ok_and(|id: ContainerId| !known.contains(&id)) {
                let _ = self.images.remove_root(entry.path());
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        remove_execs(&settings.exec_root.join("execs"));
    }
}

fn exit_of(exit: &droste_runtime::plan::Exit) -> Exit {
    Exit {
        code: exit.code,
        at: Timestamp::from_nanos(i64::try_from(exit.exited_at_nanos).unwrap_or(i64::MAX)),
        oom_killed: exit.oom_killed,
        error: String::new(),
    }
}
