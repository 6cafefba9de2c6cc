//! How many sockets the daemon has open for one host and those below it. A process has so many descriptors, and all hosts
//! share the daemon's.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one host and those below it: a clone has the same ones.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Semaphore>);

/// Places that are given back when dropped.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "its drop is what counts")] OwnedSemaphorePermit);

impl Default for Sockets {
    /// As many as there are.
    fn default() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }
}

impl Sockets {
    /// So many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Places for so many sockets, if they are there now.
    #[must_use]
    pub fn take(&self, count: usize) -> Option<Held> {
        let count = u32::try_from(count).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(count).ok().map(Held)
    }

    /// Waits for a place.
    pub async fn wait(&self) -> Option<Held> {
        Arc::clone(&self.0).acquire_owned().await.ok().map(Held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_places_and_those_dropped_are_free_again() {
        let sockets = Sockets::new(3);
        let held = sockets.clone().take(2).unwrap();
        assert!(sockets.take(2).is_none() && sockets.take(1).is_some());
        drop(held);
        assert!(sockets.take(3).is_some());
    }
}
