//! One container in memory: what is remembered of it, what is alive of it, and who waits for it.
//!
//! Locks: `record` and `live` are held for moments only and never across an await. `transition` is held by whoever
//! starts, ends or removes the container; look-ups, signals, attaching and waiting never take it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_image::Image;
use droste_model::event::{Event, EventType};
use droste_model::id::{ContainerId, ExecId};
use droste_model::state::State;
use droste_model::time::Timestamp;
use droste_runtime::Shim;
use tokio::sync::watch;

use crate::attach::Pending;
use crate::host::HostState;
use crate::network::Attachment;
use crate::options::{WaitCondition, WaitOutcome};
use crate::record::ContainerRecord;

/// A container.
pub(crate) struct Container {
    /// Its id.
    pub id: ContainerId,
    /// The host it runs on.
    pub host: Arc<HostState>,
    /// Its image.
    pub image: Option<Image>,
    /// Held by whoever starts, ends or removes it.
    pub transition: tokio::sync::Mutex<()>,
    record: Mutex<ContainerRecord>,
    live: Mutex<Live>,
    progress: watch::Sender<Progress>,
}

/// What is alive of a container.
#[derive(Default)]
pub(crate) struct Live {
    /// Its shim while it runs.
    pub shim: Option<Arc<Shim>>,
    /// Clients that attached before the start.
    pub pending: Vec<Pending>,
    /// Its network while it runs.
    pub network: Option<Arc<Attachment>>,
    /// Images that it mounts, whose content stays as long as it does.
    pub images: Vec<Image>,
    /// Volumes that are mounted for it, one for each place.
    pub volumes: Vec<droste_model::name::VolumeName>,
    /// Restarts in a row, for the back-off.
    pub restarts_in_row: u32,
    /// Processes started by exec that run or have not been looked at.
    pub execs: Vec<ExecId>,
    /// The health checks' task while it runs.
    pub health: Option<tokio::task::AbortHandle>,
    /// A client asked for a restart: it neither removes itself nor does the policy act.
    pub restarting: bool,
    /// A client asked for its end: the restart policy must not act on it.
    pub stopping: bool,
    /// Why the engine itself ends it.
    pub ended_for: Option<String>,
}

/// What those who wait look at.
#[derive(Clone, Debug, Default)]
struct Progress {
    active: bool,
    ends: u64,
    code: i64,
    removed: bool,
}

impl Container {
    /// A container with its record.
    pub(crate) fn new(record: ContainerRecord, host: Arc<HostState>, image: Option<Image>) -> Self {
        let progress = watch::Sender::new(Progress {
            active: is_active(&record.state),
            code: record.state.exit().map_or(0, |exit| i64::from(exit.code)),
            ..Progress::default()
        });
        let id = record.id.clone();
        let transition = tokio::sync::Mutex::new(());
        Self { id, host, image, transition, record: Mutex::new(record), live: Mutex::default(), progress }
    }

    /// What is remembered.
    pub(crate) fn record(&self) -> MutexGuard<'_, ContainerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is alive.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim, while it runs.
    pub(crate) fn shim(&self) -> Option<Arc<Shim>> {
        self.live().shim.clone()
    }

    /// The state now.
    pub(crate) fn state(&self) -> State {
        self.record().state.clone()
    }

    /// Enters a state and tells those who wait. Only a process that ran can end: a start that failed is no end.
    pub(crate) fn enter(&self, state: State) {
        let active = is_active(&state);
        let exit = state.exit().cloned();
        let mut record = self.record();
        let ran = record.state.running().is_some();
        record.state = state;
        record.last_finished = exit.as_ref().map(|exit| exit.at).or(record.last_finished);
        drop(record);
        self.progress.send_modify(|progress| {
            progress.active = active;
            if let Some(exit) = exit {
                progress.code = i64::from(exit.code);
                progress.ends += u64::from(ran);
            }
        });
    }

    /// Whether it is gone.
    pub(crate) fn is_removed(&self) -> bool {
        self.progress.borrow().removed
    }

    /// Tells those who wait that the container is gone.
    pub(crate) fn announce_removed(&self) {
        self.progress.send_modify(|progress| progress.removed = true);
    }

    /// Registers someone who waits; the waiting itself is the returned value's.
    pub(crate) fn waiting(&self, condition: WaitCondition) -> Waiting {
        let progress = self.progress.subscribe();
        let ends = progress.borrow().ends;
        Waiting { progress, condition, ends }
    }

    /// Waits until it does not run.
    pub(crate) async fn stopped(&self) {
        let mut progress = self.progress.subscribe();
        let _ = progress.wait_for(|progress| !progress.active || progress.removed).await;
    }

    /// Emits an event of this container on its host, with its image, name and labels.
    pub(crate) fn emit(&self, action: impl Into<String>, more: &[(&str, String)]) {
        let record = self.record();
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.to_string());
        drop(record);
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.host.events.emit(Event {
            kind: EventType::Container,
            action: action.into(),
            actor: self.id.to_string(),
            attributes,
            time: Timestamp::now(),
        });
    }
}

/// Whether a container counts as running for those who wait: between restarts it does.
fn is_active(state: &State) -> bool {
    matches!(state, State::Running(_) | State::Restarting { .. })
}

/// Someone who waits for a container.
pub struct Waiting {
    progress: watch::Receiver<Progress>,
    condition: WaitCondition,
    ends: u64,
}

impl Waiting {
    /// Waits until the condition holds.
    pub async fn done(mut self) -> WaitOutcome {
        let (condition, ends) = (self.condition, self.ends);
        let met = |progress: &Progress| match condition {
            WaitCondition::NotRunning => !progress.active || progress.removed,
            WaitCondition::NextExit => progress.ends > ends || progress.removed,
            WaitCondition::Removed => progress.removed,
        };
        match self.progress.wait_for(met).await {
            Ok(progress) => WaitOutcome { code: progress.code, error: None },
            Err(_) => WaitOutcome { code: 0, error: Some("the engine is shutting down".to_owned()) },
        }
    }
}
