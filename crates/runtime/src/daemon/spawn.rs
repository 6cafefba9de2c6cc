//! Starting shims: the sealed program, the spawn, the plan's way to it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::shim::{Link, Shim};
use super::{Reconnected, SHIM};
use crate::plan::{ExecPlan, Failure, FailureKind, LaunchPlan};
use crate::wire::{Message, Request};

/// Why a process could not be started: the step, its errno, Docker's words, and what a client makes of it.
pub type LaunchError = Failure;

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The memory file with the shim's program.
    #[error("can't make the memory file that the shim runs from: {0}")]
    Program(#[source] io::Error),
    /// The directory for run state.
    #[error("can't make {path}: {source}")]
    ExecRoot {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Starts shims and finds them again.
#[derive(Debug)]
pub struct Runtime {
    program: OwnedFd,
    exec_root: PathBuf,
}

impl Runtime {
    /// Prepares the shim's program, in memory that nobody can write to, and the directory for run state.
    ///
    /// # Errors
    /// When either can't be made.
    pub fn new(exec_root: impl Into<PathBuf>) -> Result<Self, RuntimeError> {
        let exec_root = exec_root.into();
        let path = exec_root.join("containers");
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&path);
        made.map_err(|source| RuntimeError::ExecRoot { path, source })?;
        let program = sealed_program().map_err(RuntimeError::Program)?;
        Ok(Self { program, exec_root })
    }

    /// Where a container's run state is: its plan's `state_dir`, to be made before launch and removed after its end.
    #[must_use]
    pub fn state_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("containers").join(id)
    }

    /// Starts a container. It runs its program when this returns.
    ///
    /// # Errors
    /// The step that failed. Nothing of the container is left then.
    pub async fn launch(&self, plan: LaunchPlan, fds: Vec<OwnedFd>) -> Result<Shim, LaunchError> {
        let (id, state_dir) = (plan.id.clone(), PathBuf::from(&plan.state_dir));
        self.start(&id, state_dir, &Request::Launch(Box::new(plan)), fds).await
    }

    /// Starts another process in a container.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn exec(&self, plan: ExecPlan, fds: Vec<OwnedFd>) -> Result<Shim, LaunchError> {
        let (id, state_dir) = (plan.id.clone(), PathBuf::from(&plan.state_dir));
        self.start(&id, state_dir, &Request::Exec(Box::new(plan)), fds).await
    }

    /// Finds what an earlier daemon started.
    ///
    /// # Errors
    /// When the shim is there and can't be spoken to.
    pub async fn reconnect(&self, state_dir: &Path) -> io::Result<Reconnected> {
        super::shim::reconnect(state_dir).await
    }

    pub(crate) async fn start(
        &self,
        id: &str,
        state_dir: PathBuf,
        request: &Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Shim, LaunchError> {
        let (mut link, shim) = self.spawn(id).map_err(|error| broken("start the shim", &error))?;
        match hand_over(&mut link, request, fds).await {
            Ok((pid, pidfd)) => {
                Shim::new(link, pid, pidfd, state_dir, Some(shim)).map_err(|error| broken("hold the process", &error))
            }
            Err(failure) => {
                // Without the link it ends, whatever it was at.
                drop(link);
                super::shim::reap(shim).await;
                Err(failure)
            }
        }
    }

    /// No closure runs between fork and exec, so this is a `posix_spawn`.
    fn spawn(&self, id: &str) -> io::Result<(Link, OwnedFd)> {
        let (own, shims) = StdUnixStream::pair()?;
        own.set_nonblocking(true)?;
        let null = fs::File::options().read(true).write(true).open("/dev/null")?;
        let child = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("droste-shim")
            .arg(id)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(shims)))
            .stdout(Stdio::from(null.try_clone()?))
            .stderr(Stdio::from(null))
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // Our own child, not reaped yet: the id can't be another's.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok((Link::new(UnixStream::from_std(own)?), pidfd))
    }
}

/// Sends the plan, and hears which process was started.
async fn hand_over(
    link: &mut Link,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Result<(i32, Option<OwnedFd>), LaunchError> {
    link.send(request, &fds).await.map_err(|error| broken("send the plan to the shim", &error))?;
    drop(fds);
    match link.receive().await.map_err(|error| broken("hear from the shim", &error))? {
        Some((Message::Launched(pid), fds)) => Ok((pid, fds.into_iter().next())),
        Some((Message::Failed(failure), _)) => Err(failure),
        _ => Err(broken("start the process", &io::Error::other("the shim ended without a word"))),
    }
}

fn broken(step: &str, error: &io::Error) -> LaunchError {
    Failure {
        step: step.to_owned(),
        errno: error.raw_os_error().unwrap_or(0),
        message: format!("can't {step}: {error}"),
        kind: FailureKind::Other,
    }
}

/// The shim's program in a memory file that can't be changed, not even through `/proc/<pid>/exe`.
fn sealed_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 don't know the flag.
    let memory = match memfd_create("droste-shim", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("droste-shim", flags)?,
        other => other?,
    };
    let mut file = fs::File::from(memory);
    io::Write::write_all(&mut file, SHIM)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // A descriptor that can't even ask for writing.
    let read_only = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(read_only.into())
}
