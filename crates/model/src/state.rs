//! The life of a container.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How a container's main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, or 128 plus the signal's number.
    pub code: i32,
    /// When it ended.
    pub at: Timestamp,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started or was lost; empty otherwise.
    pub error: String,
}

/// What a container is doing. Only a running one has a process id, only an exited one has an exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made and never started, or a start that failed.
    Created {
        /// What the last start failed with; `None` if none was tried.
        failed: Option<Exit>,
    },
    /// Its process runs.
    Running(Running),
    /// Its process ended and the restart policy starts it again soon.
    Restarting {
        /// How it ended.
        exit: Exit,
        /// When it had been started.
        started_at: Timestamp,
    },
    /// Its process ended.
    Exited {
        /// How.
        exit: Exit,
        /// When it had been started.
        started_at: Timestamp,
    },
    /// It is being removed.
    Removing,
    /// Its removal failed half-way and can be tried again.
    Dead,
}

/// A running container's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The main process in the machine's PID namespace.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its processes are frozen.
    pub paused: bool,
}

impl State {
    /// Docker's word for the state.
    pub fn word(&self) -> &'static str {
        match self {
            State::Created { .. } => "created",
            State::Running(Running { paused: true, .. }) => "paused",
            State::Running(_) => "running",
            State::Restarting { .. } => "restarting",
            State::Exited { .. } => "exited",
            State::Removing => "removing",
            State::Dead => "dead",
        }
    }

    /// The running process, if there is one.
    pub fn running(&self) -> Option<&Running> {
        match self {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// How the container last ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            State::Created { failed } => failed.as_ref(),
            State::Restarting { exit, .. } | State::Exited { exit, .. } => Some(exit),
            State::Running(_) | State::Removing | State::Dead => None,
        }
    }
}

/// What a container's health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// Within the start period or not checked so far.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as the container allows.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; 0 is healthy, -1 says that it did not finish in time.
    pub exit_code: i32,
    /// What it printed, at most 4096 bytes.
    pub output: String,
}

/// A container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the checks say.
    pub status: HealthStatus,
    /// How many checks in a row failed.
    pub failing_streak: u32,
    /// The last five checks.
    pub log: Vec<HealthProbe>,
}
