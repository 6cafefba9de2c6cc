//! Rules that somebody else changed are put right again, at once and without being asked.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use droste_network::{HostNetwork, forget_changes, watch_rules};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::failed;
use crate::error::{Error, Result};

/// How long changes are collected: most come in numbers, and whoever changes rules for ever gets little of the machine.
const CALM: Duration = Duration::from_millis(50);

/// Puts a host's rules right when they are changed, as long as it lives.
pub(super) struct Guard(AbortHandle);

impl Guard {
    /// Begins. Only for a namespace of which is known what belongs there: what an earlier daemon left would be taken
    /// for somebody else's.
    pub(super) fn start(open: &Arc<HostNetwork>) -> Result<Self> {
        let socket = watch_rules(open.namespace()).map_err(|error| failed(&error))?;
        let watch = droste_runtime::sys::readiness::readable(socket);
        let watch = watch.map_err(|error| Error::hidden("the firewall's changes could not be watched", error))?;
        Ok(Self(tokio::spawn(keep(Arc::downgrade(open), watch)).abort_handle()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(network: Weak<HostNetwork>, watch: AsyncFd<OwnedFd>) {
    while watch.readable().await.is_ok() {
        tokio::time::sleep(CALM).await;
        let Ok(mut ready) = watch.readable().await else { return };
        // What comes from here on makes another round.
        forget_changes(watch.get_ref());
        ready.clear_ready();
        let Some(network) = network.upgrade() else { return };
        match tokio::task::spawn_blocking(move || network.verify()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("somebody changed the firewall rules of a host: they are put right"),
            Ok(Err(error)) => tracing::warn!(%error, "the firewall rules could not be verified"),
            Err(error) => tracing::error!(%error, "the firewall rules could not be verified"),
        }
    }
}
