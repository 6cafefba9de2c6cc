//! Work that goes at a client's pace: archives up and down. A client may be as slow as it likes, so such work has threads
//! of its own and none of the runtime's, on which all hosts depend; and a host has so many of them at a time, together
//! with all hosts below it. Whoever comes then waits for one of its own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Error, Result};

/// How many a host and those below it have at a time, and the machine itself.
const OF_HOST: usize = 32;
const OF_MACHINE: usize = 256;

/// The places of one host and those below it.
#[derive(Clone, Debug)]
pub(crate) struct Transit(Arc<Semaphore>);

/// A right to one thread, until it is dropped.
pub(crate) struct Place(#[allow(dead_code, reason = "its drop is what counts")] OwnedSemaphorePermit);

/// Does work that may wait for what is a host's: its plugins, its registries, its file systems. The thread is none of the
/// runtime's either.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    let (done, outcome) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let inside = move || {
        let _entered = runtime.enter();
        drop(done.send(work()));
    };
    std::thread::Builder::new().name("aside".to_owned()).spawn(inside)?;
    outcome.await.map_err(std::io::Error::other)
}

impl Transit {
    /// Those of the machine itself.
    pub(crate) fn of_machine() -> Self {
        Self(Arc::new(Semaphore::new(OF_MACHINE)))
    }

    /// Those of a host that is a container on the machine.
    pub(crate) fn of_host() -> Self {
        Self(Arc::new(Semaphore::new(OF_HOST)))
    }

    /// Waits for a place.
    pub(crate) async fn place(&self) -> Result<Place> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        place.map(Place).map_err(|error| Error::hidden("no more transfers are begun", error))
    }

    /// Does work in a place of its own.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        self.place().await?.spawn(move || drop(done.send(work())))?;
        outcome.await.map_err(|error| Error::hidden("the work was broken off", error))?
    }
}

impl Place {
    /// Does work on a thread, which holds the place until it is done.
    pub(crate) fn spawn(self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let held = move || {
            work();
            drop(self);
        };
        let thread = std::thread::Builder::new().name("transit".to_owned()).spawn(held);
        thread.map(drop).map_err(|error| Error::hidden("a thread could not be started", error))
    }
}
