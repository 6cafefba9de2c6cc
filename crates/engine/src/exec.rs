//! Processes that clients start in running containers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_model::container::ExecConfig;
use droste_model::id::{ContainerId, ExecId};
use droste_model::limit::Resource;
use droste_model::state::{Running, State};
use droste_runtime::plan::{AttachPlan, ExecPlan, FailureKind, FdIndex, Stdio, Streams, WindowSize};
use droste_runtime::{Attachment, Ending, Shim};

use tokio::sync::watch;

use crate::attach::{self, Attached, DetachKeys};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::lifecycle::to_the_end;
use crate::limits::Places;
use crate::options::ExecStart;
use crate::view::ExecView;
use crate::{apparmor, privileges, process, random, selinux};

/// How many ended execs a container keeps for inspection.
const KEPT: usize = 64;

/// The exit code of what could not be started.
const NOT_STARTED: i32 = 126;

/// A process started by exec, or to be started.
pub(crate) struct Exec {
    /// Its id.
    pub id: ExecId,
    /// The container.
    pub container: ContainerId,
    /// What was asked.
    pub config: Arc<ExecConfig>,
    state: Mutex<ExecState>,
    end: watch::Sender<Option<i32>>,
    /// Its place among its host's processes until it ends, and what the daemon remembers of it.
    places: Mutex<Places>,
}

enum ExecState {
    Created,
    Starting,
    Running(Shim),
    Exited { code: i32, pid: i32 },
}

impl Exec {
    /// A process to be started.
    pub(crate) fn new(id: ExecId, container: ContainerId, config: ExecConfig, places: Places) -> Self {
        let (state, places) = (Mutex::new(ExecState::Created), Mutex::new(places));
        Self { id, container, config: Arc::new(config), state, end: watch::Sender::new(None), places }
    }

    /// Waits for its exit code.
    pub(crate) async fn ended(&self) -> i32 {
        let mut end = self.end.subscribe();
        end.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(-1)
    }

    /// Ends it if it runs.
    pub(crate) fn kill(&self) {
        if let Some(shim) = self.shim() {
            let _ = shim.signal(droste_model::signal::Signal::KILL.number());
        }
    }

    fn finish(&self, code: i32, pid: i32) {
        *self.state() = ExecState::Exited { code, pid };
        self.places.lock().unwrap_or_else(PoisonError::into_inner).retain(|place| !place.is(Resource::Execs));
        let _ = self.end.send_replace(Some(code));
    }

    fn state(&self) -> MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shim(&self) -> Option<Shim> {
        match &*self.state() {
            ExecState::Running(shim) => Some(shim.clone()),
            _ => None,
        }
    }

    /// Whether it has not ended.
    pub(crate) fn is_listed(&self) -> bool {
        !matches!(&*self.state(), ExecState::Exited { .. })
    }

    fn view(&self) -> ExecView {
        let (running, exit_code, pid) = match &*self.state() {
            ExecState::Created | ExecState::Starting => (false, None, 0),
            ExecState::Running(shim) => (true, None, shim.pid()),
            ExecState::Exited { code, pid } => (false, Some(*code), *pid),
        };
        ExecView {
            id: self.id.clone(),
            container: self.container.clone(),
            running,
            exit_code,
            pid: u32::try_from(pid).unwrap_or(0),
            config: Arc::clone(&self.config),
            open_stdin: self.config.attach_stdin,
            detach_keys: DetachKeys::bytes(&self.config.detach_keys),
        }
    }

    /// Takes the right to start it; once only.
    fn claim(self: &Arc<Self>) -> Result<Claim> {
        let mut state = self.state();
        match &*state {
            ExecState::Created => {
                *state = ExecState::Starting;
                Ok(Claim(Arc::clone(self)))
            }
            ExecState::Exited { .. } => Err(Error::conflict(format!("exec command {} has already run", self.id))),
            _ => Err(Error::conflict(format!("exec command {} is already running", self.id))),
        }
    }
}

/// The right to start an exec. Dropped before it was used, as when the client goes, the exec can be started again.
struct Claim(Arc<Exec>);

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let ExecState::Starting = &*state {
            *state = ExecState::Created;
        }
    }
}

/// The bytes of what is remembered of a process.
fn size_of(config: &ExecConfig) -> usize {
    config.cmd.iter().chain(&config.env).map(String::len).sum()
}

/// The container must run and not be frozen.
fn require_running(container: &Container) -> Result<()> {
    match container.state() {
        State::Running(Running { paused: true, .. }) => {
            Err(Error::conflict(format!("Container {} is paused, unpause the container before exec", container.id)))
        }
        State::Running(_) => Ok(()),
        State::Restarting { .. } => Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", container.id))),
    }
}

/// What was prepared and never started ends with the container.
pub(crate) fn forget_unstarted(container: &Container) {
    let mut live = container.live();
    let mut execs = container.host.execs();
    live.execs.retain(|id| {
        let unstarted = execs.get(id).is_some_and(|exec| matches!(&*exec.state(), ExecState::Created));
        if unstarted {
            execs.remove(id);
        }
        !unstarted
    });
}

impl Host {
    /// Prepares a process in a running container.
    pub async fn exec_create(&self, at: &str, config: ExecConfig) -> Result<ExecId> {
        let container = self.member_to_change(at)?;
        require_running(&container)?;
        if config.cmd.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        DetachKeys::parse(&config.detach_keys)
            .map_err(|_| Error::invalid(format!("Invalid escape keys ({}) provided", config.detach_keys)))?;
        self.check_user(&container, &config.user).await?;
        let id = ExecId::from_bytes(random::bytes()?);
        let command = config.cmd.join(" ");
        self.forget_old_execs(&container);
        let places = self.state.account.take_object(Resource::Execs, size_of(&config))?;
        let exec = Exec::new(id.clone(), container.id.clone(), config, places);
        self.state.execs().insert(id.clone(), Arc::new(exec));
        container.live().execs.push(id.clone());
        container.emit(format!("exec_create: {command}"), &[("execID", id.to_string())]);
        Ok(id)
    }

    /// A user by name must be known in the container, as Docker finds out at once.
    async fn check_user(&self, container: &Arc<Container>, user: &str) -> Result<()> {
        if user.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
            return Ok(());
        }
        let user = user.to_owned();
        self.with_files(container, move || crate::files::owner(&user).map(drop)).await
    }

    /// Keeps the latest ended execs of a container and lets the older ones go.
    fn forget_old_execs(&self, container: &Container) {
        let mut live = container.live();
        if live.execs.len() < KEPT {
            return;
        }
        let mut execs = self.state.execs();
        live.execs.retain(|id| execs.get(id).is_some_and(|exec| exec.is_listed()));
        let listed = live.execs.clone();
        execs.retain(|id, exec| exec.container != container.id || listed.contains(id));
    }

    /// Takes the right to start a prepared process, which can be done once.
    pub fn exec_claim(&self, id: &str) -> Result<ClaimedExec> {
        self.require_write()?;
        let exec = self.find_exec(id)?;
        let container = self.member(exec.container.as_str())?;
        require_running(&container)?;
        let claim = exec.claim()?;
        Ok(ClaimedExec { engine: Arc::clone(&self.engine), container, claim })
    }

    /// Starts a prepared process; with `detach` nobody is attached.
    pub async fn exec_start(&self, id: &str, options: ExecStart) -> Result<Attached> {
        self.exec_claim(id)?.start(options).await
    }

    /// A process started by exec.
    pub fn exec(&self, id: &str) -> Result<ExecView> {
        self.find_exec(id).map(|exec| exec.view())
    }

    /// Sets the size of its terminal.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        self.require_write()?;
        let exec = self.find_exec(id)?;
        let shim = exec.shim().ok_or_else(|| Error::conflict(format!("exec process {id} is not running")))?;
        // Docker's clients size every exec; one without a terminal has nothing to size.
        if !exec.config.tty {
            return Ok(());
        }
        shim.resize(WindowSize { rows, cols })
            .await
            .map_err(|error| Error::conflict(format!("cannot resize exec process {id}: {error}")))
    }
}

/// The right to start a prepared process.
pub struct ClaimedExec {
    engine: Arc<Engine>,
    container: Arc<Container>,
    claim: Claim,
}

impl ClaimedExec {
    /// Starts it; with `detach` nobody is attached.
    pub async fn start(self, options: ExecStart) -> Result<Attached> {
        to_the_end(async move {
            let exec = &self.claim.0;
            let started = self.engine.start_exec(&self.container, exec, options).await;
            if started.is_err() && exec.is_listed() {
                exec.finish(NOT_STARTED, 0);
            }
            started
        })
        .await
    }
}

impl Engine {
    pub(crate) async fn start_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        options: ExecStart,
    ) -> Result<Attached> {
        let shim =
            container.shim().ok_or_else(|| Error::conflict(format!("container {} is not running", container.id)))?;
        let config = Arc::clone(&exec.config);
        let streams = Streams {
            stdin: config.attach_stdin && !options.detach,
            stdout: config.attach_stdout && !options.detach,
            stderr: config.attach_stderr && !options.detach,
        };
        let failed = |error: std::io::Error| Error::hidden("the exec's streams could not be made", error);
        let (attachment, socket) = Attachment::pair().map_err(failed)?;
        let pidfd = shim.pidfd().try_clone().map_err(failed)?;
        let (process, cgroup) = (self.exec_process(container, &config)?, self.cgroup_plan(container)?);
        // Only now, when nothing but the launch can fail: it is removed with the process.
        let state_dir = self.exec_dir(&exec.id)?;
        let plan = ExecPlan {
            id: exec.id.to_string(),
            state_dir: state_dir.to_string_lossy().into_owned(),
            target: FdIndex(0),
            process,
            cgroup,
            stdio: Stdio {
                tty: config.tty.then(|| window(options.console_size.or(size(&config)))),
                open_stdin: streams.stdin,
                stdin_once: streams.stdin,
                attached: vec![AttachPlan { socket: FdIndex(1), streams }],
                log: None,
            },
        };
        let command = config.cmd.join(" ");
        let id = [("execID", exec.id.to_string())];
        container.emit(format!("exec_start: {command}"), &id);
        let launched = self.runtime.exec(plan, vec![pidfd, socket]).await;
        let running = launched.map_err(|failure| {
            let _ = std::fs::remove_dir_all(&state_dir);
            exec.finish(if failure.kind == FailureKind::NotFound { 127 } else { NOT_STARTED }, 0);
            crate::launch::refused(
                "OCI runtime exec failed: exec failed: unable to start container process: ",
                &failure,
            )
        })?;
        *exec.state() = ExecState::Running(running.clone());
        self.watch_exec(container, exec, running, state_dir);
        let keys = DetachKeys::parse(&config.detach_keys)?;
        let exec = Arc::clone(exec);
        // A client that has read all output may ask for the exit code at once: it is there by then.
        let ended = async move {
            exec.ended().await;
        };
        Ok(attach::connect(attachment, streams, config.tty, Some(keys), ended))
    }

    fn exec_dir(&self, id: &ExecId) -> Result<std::path::PathBuf> {
        let path = self.settings().exec_root.join("execs").join(id.as_str());
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::hidden("the exec's directory could not be made", error))?;
        Ok(path)
    }

    /// The process with the container's bounds: what its host has now, and no more than the container got.
    fn exec_process(&self, container: &Container, config: &ExecConfig) -> Result<droste_runtime::plan::Process> {
        let record = container.record().clone();
        let power = container.host.power()?;
        let (own, _) = privileges::bound(&container.host, &power, &record.host_config, &self.settings())?;
        apparmor::ready(&own)?;
        let capabilities = privileges::exec_capabilities(&power.bounds, own.capabilities, config.privileged)?;
        let env = process::environment(&record, &[], &config.env);
        let mut process = process::process(&own, capabilities, config.cmd.clone(), env);
        let or = |asked: &str, else_: &str| if asked.is_empty() { else_.to_owned() } else { asked.to_owned() };
        process.cwd = or(&or(&config.working_dir, &record.config.working_dir), "/");
        process.user = or(&config.user, &record.config.user);
        process.groups = record.host_config.group_add.unwrap_or_default();
        process.selinux = selinux::floor(&container.host)?;
        Ok(process)
    }

    fn watch_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        shim: Shim,
        state_dir: std::path::PathBuf,
    ) {
        let (container, exec) = (Arc::clone(container), Arc::clone(exec));
        tokio::spawn(async move {
            let code = match shim.wait().await {
                Ending::Exited(exit) => exit.code,
                Ending::Lost => 137,
            };
            exec.finish(code, shim.pid());
            // Not on this thread: clients wait for what it does next.
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&state_dir));
            let attributes = [("execID", exec.id.to_string()), ("exitCode", code.to_string())];
            container.emit("exec_die", &attributes);
        });
    }
}

fn size(config: &ExecConfig) -> Option<(u16, u16)> {
    let (rows, cols) = config.console_size?;
    Some((u16::try_from(rows).ok()?, u16::try_from(cols).ok()?))
}

/// A terminal's size; zero by zero until a client says.
pub(crate) fn window(size: Option<(u16, u16)>) -> WindowSize {
    let (rows, cols) = size.unwrap_or_default();
    WindowSize { rows, cols }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_not_used_is_given_back() {
        let (id, container) = (ExecId::from_bytes([1; 32]), ContainerId::from_bytes([2; 32]));
        let exec = Arc::new(Exec::new(id, container, ExecConfig::default(), Places::new()));
        let claim = exec.claim().unwrap();
        assert!(exec.claim().is_err());
        drop(claim);
        let claim = exec.claim().unwrap();
        exec.finish(0, 1);
        drop(claim);
        assert_eq!((exec.view().exit_code, exec.claim().is_err()), (Some(0), true));
    }
}
