//! What a start settles, written beside the shim's socket before there is a shim: a daemon that is killed before the
//! store has taken the start in leaves a container that runs and a record that does not say so.
//!
//! The folder lies in memory and is gone after a boot, as the container is, so nothing here is synchronised.

use droste_model::state::State;
use droste_model::time::Timestamp;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::record::ContainerRecord;

const NAME: &str = "start";

impl Engine {
    /// Writes down what is about to be started; the run state's folder is there.
    pub(crate) fn note_start(&self, intended: &ContainerRecord) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::hidden("the start could not be written down", error);
        let bytes = serde_json::to_vec(intended).map_err(|error| failed(&error))?;
        std::fs::write(self.state_dir(&intended.id).join(NAME), bytes).map_err(|error| failed(&error))
    }

    /// Takes in what was settled by a start that the store does not know of. The shim has been asked: it did start.
    pub(crate) fn learn_start(&self, container: &Container) {
        let Ok(bytes) = std::fs::read(self.state_dir(&container.id).join(NAME)) else { return };
        let Ok(start) = serde_json::from_slice::<ContainerRecord>(&bytes) else { return };
        let mut record = container.record();
        if started_at(&record.state) >= started_at(&start.state) {
            return;
        }
        tracing::info!(container = %container.id, "its start had not been stored");
        (record.state, record.health) = (start.state, start.health);
        (record.networks, record.ports) = (start.networks, start.ports);
    }
}

fn started_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Running(running) => Some(running.started_at),
        State::Restarting { started_at, .. } | State::Exited { started_at, .. } => Some(*started_at),
        State::Created { .. } | State::Removing | State::Dead => None,
    }
}
