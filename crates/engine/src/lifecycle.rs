//! A container's life: start, stop, the end of its process, restarts, pause, removal.

use std::sync::Arc;
use std::time::Duration;

use droste_model::container::{RestartPolicy, stop_signal};
use droste_model::id::ContainerId;
use droste_model::name::{ContainerName, InvalidContainerName};
use droste_model::signal::Signal;
use droste_model::state::{Exit, Running, State};
use droste_model::time::Timestamp;

use crate::container::Container;
use crate::container::Waiting;
use crate::engine::{Engine, ListenerChange};
use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::options::{RemoveOptions, UpdateContainer, WaitCondition};
use crate::store::{Change, Key};
use crate::view::{ContainerView, Created};

/// Seconds from the stop signal to SIGKILL where nobody says otherwise.
const STOP_TIMEOUT: i64 = 10;

/// A run that lasted this long starts the restarts' back-off anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long after SIGKILL an end is waited for before the client hears that it does not come.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// What Docker says before it refuses a new name.
const ALLOCATING: &str = "Error when allocating new name: ";

/// Runs `work` to its end even if the client that asked for it goes away.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Error::hidden("the operation was broken off", error)))
}

impl Host {
    /// Makes a container.
    pub async fn create(&self, request: droste_model::container::CreateContainer) -> Result<Created> {
        let host = self.clone();
        to_the_end(async move {
            let admitted = host.admit(request).await?;
            let warnings = admitted.warnings.clone();
            let id = crate::create::make(&host, admitted).await?;
            Ok(Created { id, warnings })
        })
        .await
    }

    /// Starts a container; [`Error::NotModified`] if it runs.
    pub async fn start(&self, at: &str) -> Result<()> {
        let container = self.member_to_change(at)?;
        let engine = Arc::clone(&self.engine);
        to_the_end(async move {
            let _turn = container.transition.lock().await;
            match container.state() {
                State::Running(Running { paused: true, .. }) => {
                    return Err(Error::conflict("cannot start a paused container, try unpause instead"));
                }
                State::Running(_) => return Err(Error::NotModified),
                _ => {}
            }
            container.live().restarts_in_row = 0;
            container.record().stopped_by_hand = false;
            engine.launch(&container).await
        })
        .await
    }

    /// Stops a container: its stop signal, then SIGKILL after `timeout` seconds (negative: never).
    pub async fn stop(&self, at: &str, timeout: Option<i64>, signal: Option<Signal>) -> Result<()> {
        let container = self.member_to_change(at)?;
        let engine = Arc::clone(&self.engine);
        to_the_end(async move {
            match container.state() {
                State::Running(_) | State::Restarting { .. } => engine.stop(&container, timeout, signal).await,
                _ => Err(Error::NotModified),
            }
        })
        .await
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(&self, at: &str, timeout: Option<i64>, signal: Option<Signal>) -> Result<()> {
        let container = self.member_to_change(at)?;
        let engine = Arc::clone(&self.engine);
        to_the_end(async move {
            // A restart keeps a container that would remove itself.
            if matches!(container.state(), State::Running(_) | State::Restarting { .. }) {
                container.live().restarting = true;
                let stopped = engine.stop(&container, timeout, signal).await;
                container.live().restarting = false;
                stopped?;
            }
            let _turn = container.transition.lock().await;
            if container.state().running().is_none() {
                container.record().stopped_by_hand = false;
                engine.launch(&container).await?;
            }
            container.emit("restart", &[]);
            Ok(())
        })
        .await
    }

    /// Sends a signal to a container's process.
    pub async fn kill(&self, at: &str, signal: Option<Signal>) -> Result<()> {
        let container = self.member_to_change(at)?;
        let signal = signal.unwrap_or(Signal::KILL);
        let shim = container.shim();
        let (Some(shim), Some(_)) = (shim, container.state().running()) else {
            return Err(Error::conflict(format!(
                "cannot kill container: {at}: container {} is not running",
                container.id
            )));
        };
        let ends = signal == Signal::KILL || signal == stop_signal(&container.record().config);
        if ends {
            container.live().stopping = true;
            container.record().stopped_by_hand = true;
        }
        if signal == Signal::KILL {
            self.engine.thaw(&container);
        }
        shim.signal(signal.number()).map_err(|error| Error::hidden(format!("cannot kill container {at}"), error))?;
        container.emit("kill", &[("signal", signal.to_string())]);
        if signal == Signal::KILL {
            let _ = tokio::time::timeout(KILL_WAIT, container.stopped()).await;
        }
        Ok(())
    }

    /// Freezes a container.
    pub async fn pause(&self, at: &str) -> Result<()> {
        let container = self.member_to_change(at)?;
        let _turn = container.transition.lock().await;
        match container.state() {
            State::Running(Running { paused: true, .. }) => {
                Err(Error::conflict(format!("Container {} is already paused", container.id)))
            }
            State::Running(running) => {
                self.engine.freeze(&container).await?;
                container.enter(State::Running(Running { paused: true, ..running.clone() }));
                if let Err(error) = self.engine.remember_now(&container).await {
                    self.engine.thaw(&container);
                    container.enter(State::Running(running));
                    return Err(error);
                }
                container.emit("pause", &[]);
                Ok(())
            }
            _ => Err(Error::conflict(format!("container {} is not running", container.id))),
        }
    }

    /// Lets a frozen container go on.
    pub async fn unpause(&self, at: &str) -> Result<()> {
        let container = self.member_to_change(at)?;
        let _turn = container.transition.lock().await;
        match container.state() {
            State::Running(running @ Running { paused: true, .. }) => {
                self.engine.thaw(&container);
                container.enter(State::Running(Running { paused: false, ..running }));
                self.engine.remember_now(&container).await?;
                container.emit("unpause", &[]);
                Ok(())
            }
            _ => Err(Error::internal(format!("Container {} is not paused", container.id))),
        }
    }

    /// Gives a container another name.
    pub async fn rename(&self, at: &str, name: &str) -> Result<()> {
        let container = self.member_to_change(at)?;
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let name: ContainerName = format!("/{}", name.strip_prefix('/').unwrap_or(name))
            .parse()
            .map_err(|error: InvalidContainerName| Error::invalid(error.to_string()).after(ALLOCATING))?;
        let old = container.record().name.clone();
        if name == old {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.state.table().reserve(name.clone(), container.id.clone()).map_err(|error| error.after(ALLOCATING))?;
        container.record().name = name;
        if let Err(error) = self.engine.remember_now(&container).await {
            let name = std::mem::replace(&mut container.record().name, old);
            self.state.table().release(&name, &container.id);
            return Err(error);
        }
        self.state.table().release(&old, &container.id);
        container.rename_on_networks();
        container.emit("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Changes limits and the restart policy of a container.
    pub async fn update(&self, at: &str, change: UpdateContainer) -> Result<Vec<String>> {
        let container = self.member_to_change(at)?;
        let _turn = container.transition.lock().await;
        let warnings = self.engine.update(&container, change).await?;
        container.emit("update", &[]);
        Ok(warnings)
    }

    /// Registers for the end or the removal of a container.
    pub async fn wait(&self, at: &str, condition: WaitCondition) -> Result<Waiting> {
        Ok(self.member(at)?.waiting(condition))
    }

    /// Removes a container, and all that it has if it is a host.
    pub async fn remove(&self, at: &str, options: RemoveOptions) -> Result<()> {
        let container = self.member_to_change(at)?;
        if options.link {
            return Err(Error::invalid("there are no links to remove: networks of your own give names instead"));
        }
        let engine = Arc::clone(&self.engine);
        let typed = at.to_owned();
        to_the_end(async move { engine.remove(&container, &typed, options).await }).await
    }

    /// Removes every stopped container for which `keep` says no; gives their ids and the bytes that they had written.
    pub async fn prune_containers(
        &self,
        keep: &(dyn Fn(&ContainerView) -> bool + Send + Sync),
    ) -> Result<(Vec<ContainerId>, u64)> {
        self.require_write()?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for view in self.containers() {
            let stopped = matches!(view.state, State::Created { .. } | State::Exited { .. } | State::Dead);
            if !stopped || keep(&view) {
                continue;
            }
            let size = self.container_size(view.id.as_str()).await.map_or(0, |(written, _)| written);
            if self.remove(view.id.as_str(), RemoveOptions::default()).await.is_ok() {
                removed.push(view.id.clone());
                freed += size;
            }
        }
        Ok((removed, freed))
    }
}

/// Kills a container's first process, if it runs, and waits for nothing.
pub(crate) fn kill_now(container: &Container) {
    if let Some(shim) = container.shim() {
        let _ = shim.signal(Signal::KILL.number());
    }
}

impl Engine {
    /// Sends the stop signal, waits, sends SIGKILL, waits. Holds no lock meanwhile.
    async fn stop(&self, container: &Arc<Container>, timeout: Option<i64>, signal: Option<Signal>) -> Result<()> {
        let (default_timeout, default_signal) = {
            let mut record = container.record();
            record.stopped_by_hand = true;
            (record.config.stop_timeout.unwrap_or(STOP_TIMEOUT), stop_signal(&record.config))
        };
        container.live().stopping = true;
        self.cancel_restart(container).await;
        let signal = signal.unwrap_or(default_signal);
        let timeout = timeout.unwrap_or(default_timeout);
        self.thaw(container);
        if let Some(shim) = container.shim() {
            container.emit("kill", &[("signal", signal.to_string())]);
            let _ = shim.signal(signal.number());
            let stopped = container.stopped();
            let in_time = match u64::try_from(timeout) {
                Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), stopped).await.is_ok(),
                Err(_) => {
                    stopped.await;
                    true
                }
            };
            if !in_time {
                self.end_by_force(container).await?;
            }
        }
        container.emit("stop", &[]);
        Ok(())
    }

    async fn end_by_force(&self, container: &Arc<Container>) -> Result<()> {
        container.live().stopping = true;
        self.cancel_restart(container).await;
        self.thaw(container);
        if let Some(shim) = container.shim() {
            container.emit("kill", &[("signal", Signal::KILL.to_string())]);
            let _ = shim.signal(Signal::KILL.number());
        }
        tokio::time::timeout(KILL_WAIT, container.stopped()).await.map_err(|_| {
            Error::internal(format!(
                "container {} did not end {} seconds after SIGKILL: one of its processes is stuck in the kernel",
                container.id.short(),
                KILL_WAIT.as_secs()
            ))
        })
    }

    /// A container that waits for its next start does not get it.
    async fn cancel_restart(&self, container: &Arc<Container>) {
        if !matches!(container.state(), State::Restarting { .. }) {
            return;
        }
        let _turn = container.transition.lock().await;
        let state = container.state();
        if let State::Restarting { exit, started_at } = state {
            container.enter(State::Exited { exit, started_at });
            self.remember(container);
        }
    }

    /// Takes note of the end of a container's process; called once for each start, by the task that waits for it.
    pub(crate) async fn ended(self: &Arc<Self>, container: &Arc<Container>, mut exit: Exit) {
        let _turn = container.transition.lock().await;
        let State::Running(running) = container.state() else { return };
        // What ran on it goes first: its cgroups lie in this one's.
        self.power_off(container).await;
        self.release(container).await;
        if exit.oom_killed {
            container.emit("oom", &[]);
        }
        if let Some(reason) = container.live().ended_for.take() {
            exit.error = reason;
        }
        let lasted = exit.at.since(running.started_at);
        let restart = self.wants_restart(container, &exit, lasted);
        let started_at = running.started_at;
        let code = exit.code;
        let next = match restart {
            Some(_) => State::Restarting { exit: exit.clone(), started_at },
            None => State::Exited { exit: exit.clone(), started_at },
        };
        let removes_itself =
            restart.is_none() && container.record().host_config.auto_remove && !container.live().restarting;
        crate::exec::forget_unstarted(container);
        container.enter(next);
        self.remember(container);
        let duration = lasted.as_secs().to_string();
        container.emit("die", &[("exitCode", code.to_string()), ("execDuration", duration)]);
        if let Some(wait) = restart {
            self.restart_later(container, wait);
        }
        if removes_itself {
            let (engine, container) = (Arc::clone(self), Arc::clone(container));
            tokio::spawn(async move { engine.remove_itself(&container).await });
        }
    }

    /// How long to wait for the next start, if the policy wants one and the host is on.
    fn wants_restart(&self, container: &Container, exit: &Exit, lasted: Duration) -> Option<Duration> {
        let (policy, count) = {
            let record = container.record();
            (record.host_config.restart_policy, record.restart_count)
        };
        let mut live = container.live();
        if live.stopping || live.restarting || !container.host.is_on() || !policy.restarts(exit.code, count) {
            return None;
        }
        if lasted >= GOOD_RUN {
            live.restarts_in_row = 0;
        }
        let wait = RestartPolicy::backoff(live.restarts_in_row);
        live.restarts_in_row += 1;
        Some(wait)
    }

    fn restart_later(self: &Arc<Self>, container: &Arc<Container>, wait: Duration) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _turn = container.transition.lock().await;
            if !matches!(container.state(), State::Restarting { .. }) {
                return;
            }
            container.record().restart_count += 1;
            if let Err(error) = engine.launch(&container).await {
                tracing::warn!(container = %container.id, %error, "a restart failed");
            }
        });
    }

    /// A host whose container ended is off: what ran on it ended with its PID namespace, and nothing starts there.
    async fn power_off(self: &Arc<Self>, container: &Arc<Container>) {
        let Some(host) = self.host_of(&container.id) else { return };
        host.switch_off();
        for inner in host.members() {
            self.end_with_host(&inner).await;
        }
    }

    /// Makes sure that a container whose host is off has ended, and waits until that is written down.
    async fn end_with_host(self: &Arc<Self>, container: &Arc<Container>) {
        self.thaw(container);
        kill_now(container);
        // A start that was under way would make its cgroup below the host's again, after that has been removed.
        let _ = tokio::time::timeout(KILL_WAIT, container.transition.lock()).await;
        kill_now(container);
        self.cancel_restart(container).await;
        if tokio::time::timeout(KILL_WAIT, container.stopped()).await.is_err() {
            tracing::error!(container = %container.id, "it outlived its host");
        }
    }

    /// Removes a container that wants to be removed at its end.
    pub(crate) async fn remove_itself(self: &Arc<Self>, container: &Arc<Container>) {
        let options = RemoveOptions { volumes: true, ..RemoveOptions::default() };
        if let Err(error) = self.remove(container, container.id.as_str(), options).await
            && !container.is_removed()
        {
            tracing::warn!(container = %container.id, %error, "it was not removed");
        }
    }

    /// Removes a container and all that belongs to it.
    async fn remove(self: &Arc<Self>, container: &Arc<Container>, typed: &str, options: RemoveOptions) -> Result<()> {
        let _turn = self.turn_to_remove(container, typed, options.force).await?;
        container.enter(State::Removing);
        let outcome = self.remove_parts(container, options.volumes).await;
        match &outcome {
            Ok(()) => container.announce_removed(),
            Err(_) => container.enter(State::Dead),
        }
        outcome
    }

    /// The transition of a container that does not run, ended by force if that is asked for.
    async fn turn_to_remove<'c>(
        self: &Arc<Self>,
        container: &'c Arc<Container>,
        typed: &str,
        force: bool,
    ) -> Result<tokio::sync::MutexGuard<'c, ()>> {
        loop {
            if matches!(container.state(), State::Running(_) | State::Restarting { .. }) {
                if !force {
                    return Err(still_running(container, typed));
                }
                container.record().stopped_by_hand = true;
                self.end_by_force(container).await?;
            }
            let Ok(turn) = tokio::time::timeout(KILL_WAIT, container.transition.lock()).await else {
                return Err(in_progress(&container.id));
            };
            match container.state() {
                State::Removing => return Err(in_progress(&container.id)),
                // Somebody has just started it.
                State::Running(_) if force => {}
                State::Running(_) => return Err(still_running(container, typed)),
                _ => return Ok(turn),
            }
        }
    }

    /// Inner containers first, then the files, then the records, then the tables. From the first step on, a start of the
    /// daemon goes on with it.
    async fn remove_parts(self: &Arc<Self>, container: &Arc<Container>, volumes: bool) -> Result<()> {
        self.mark_removal(container)?;
        let mut changes = Vec::new();
        let mut content = container.host.tags.get(&container.record().image).is_none();
        if let Some(host) = self.host_of(&container.id) {
            host.begin_removal().await;
            self.remove_inner(&host).await?;
            let tags = host.tags.forget();
            content |= !tags.is_empty();
            changes.extend(tags);
            changes.extend(self.volumes.forgotten(&host.id));
            changes.extend(host.networks.forgotten(&host.id));
            changes.push(Change::remove(Key::Host(host.id.clone())));
        }
        self.remove_files(container).await?;
        changes.push(Change::remove(Key::Container(container.id.clone())));
        let anonymous = if volumes { self.take_anonymous(container) } else { Vec::new() };
        changes.extend(crate::volumes::removals(&container.host.id, &anonymous));
        self.store.commit(changes).await?;
        self.change_listener(ListenerChange::Close(container.id.clone()));
        if let Some(host) = self.remove_host(&container.id) {
            let (engine, id) = (Arc::clone(self), host.id.clone());
            let forgotten = tokio::task::spawn_blocking(move || engine.volumes.forget_host(&id)).await;
            if !matches!(forgotten, Ok(Ok(()))) {
                tracing::warn!(container = %container.id, "the files of a host's volumes are left until the next start");
            }
        }
        container.host.table().remove(&container.id);
        self.forget_anonymous(&container.host, anonymous).await;
        container.host.execs().retain(|_, exec| exec.container != container.id);
        container.emit("destroy", &[]);
        if content {
            self.collect_soon();
        }
        Ok(())
    }

    /// All containers of a host that is removed; what its clients are removing themselves is as good.
    async fn remove_inner(self: &Arc<Self>, host: &Arc<HostState>) -> Result<()> {
        for inner in host.members() {
            let options = RemoveOptions { force: true, volumes: true, link: false };
            let removed = Box::pin(self.remove(&inner, inner.id.as_str(), options)).await;
            if !inner.is_removed() {
                removed?;
            }
        }
        Ok(())
    }

    /// Takes a container's directory away from it, by which a start of the daemon knows that the removal had begun.
    fn mark_removal(&self, container: &Container) -> Result<()> {
        let (kept, removed) = (self.container_dir(&container.id), self.removed_dir(&container.id));
        match std::fs::rename(kept, removed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::hidden(format!("container {} could not be removed", container.id.short()), error))
            }
            _ => Ok(()),
        }
    }

    /// The directories of a container: its writable layer, its log, its files, its run state.
    async fn remove_files(&self, container: &Arc<Container>) -> Result<()> {
        let (kept, state) = (self.removed_dir(&container.id), self.state_dir(&container.id));
        let images = self.images.clone();
        let removed = tokio::task::spawn_blocking(move || {
            images.remove_root(&kept).map_err(|error| error.to_string())?;
            for folder in [&kept, &state] {
                match std::fs::remove_dir_all(folder) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
                    _ => {}
                }
            }
            Ok(())
        })
        .await;
        let failed = |error: &dyn std::fmt::Display| {
            Error::hidden(format!("the files of container {} could not be removed", container.id.short()), error)
        };
        removed.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

fn still_running(container: &Container, typed: &str) -> Error {
    let state = container.state();
    let why = match state.word() {
        "paused" => "container is paused and must be unpaused first".to_owned(),
        word => format!("container is {word}: stop the container before removing or force remove"),
    };
    Error::conflict(format!("cannot remove container {typed:?}: {why}"))
}

fn in_progress(id: &ContainerId) -> Error {
    Error::conflict(format!("removal of container {id} is already in progress"))
}

/// The end of a container whose shim is gone without a trace: the machine was switched off.
pub(crate) fn lost() -> Exit {
    Exit { code: 255, at: Timestamp::now(), oom_killed: false, error: String::new() }
}
