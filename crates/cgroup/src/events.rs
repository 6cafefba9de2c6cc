//! Out of memory: how often the kernel killed for it, and a descriptor that becomes ready when it does.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use crate::file;
use crate::group::{Home, children};
use crate::{Cgroup, CgroupError};

/// A descriptor that becomes ready when the cgroup runs out of memory, or is removed.
///
/// After it was ready, [`OomWatch::clear`] makes it wait for the next time; whether something was killed, and how
/// often, [`Cgroup::oom_kills`] tells.
#[derive(Debug)]
pub struct OomWatch {
    ready: OwnedFd,
    events: PollFlags,
    /// v1 keeps the notice only while the file is open.
    _control: Option<File>,
}

impl OomWatch {
    /// What to poll the descriptor for: readable, or (v2) urgent data.
    pub fn events(&self) -> PollFlags {
        self.events
    }

    /// Takes the notice, so that the descriptor is not ready any more.
    pub fn clear(&self) -> std::io::Result<()> {
        let mut buffer = [0; 512];
        if self.events.contains(PollFlags::PRI) {
            rustix::io::pread(&self.ready, &mut buffer, 0)?;
        } else {
            rustix::io::read(&self.ready, &mut buffer[..8])?;
        }
        Ok(())
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

impl Cgroup {
    /// How many processes in it and below it the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.home("memory") {
            None => Ok(0),
            Some(Home::Unified(dir)) => {
                let events = file::read_if_there(&dir.join("memory.events"))?;
                Ok(events.and_then(|text| file::keyed(&text, "oom_kill")).unwrap_or(0))
            }
            Some(Home::Legacy(dir)) => oom_kills_v1(&dir),
        }
    }

    /// Watches for it.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        match self.home("memory") {
            None => Err(CgroupError::NoController { controller: "memory", what: "nothing tells of OOM" }),
            Some(Home::Unified(dir)) => watch_v2(&dir.join("memory.events")),
            Some(Home::Legacy(dir)) => watch_v1(&dir),
        }
    }
}

/// v1 counts each cgroup by itself.
fn oom_kills_v1(dir: &Path) -> Result<u64, CgroupError> {
    let own = file::read_if_there(&dir.join("memory.oom_control"))?;
    let own = own.and_then(|text| file::keyed(&text, "oom_kill")).unwrap_or(0);
    children(dir)?.iter().try_fold(own, |sum, child| Ok(sum + oom_kills_v1(child)?))
}

fn watch_v2(path: &Path) -> Result<OomWatch, CgroupError> {
    let file = File::open(path).map_err(|source| CgroupError::Watch { path: path.to_owned(), source })?;
    let watch = OomWatch { ready: file.into(), events: PollFlags::PRI, _control: None };
    watch.clear().map_err(|source| CgroupError::Watch { path: path.to_owned(), source })?;
    Ok(watch)
}

fn watch_v1(dir: &Path) -> Result<OomWatch, CgroupError> {
    let path = dir.join("memory.oom_control");
    let failed = |source| CgroupError::Watch { path: path.clone(), source };
    let control = File::open(&path).map_err(failed)?;
    let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
    let line = format!("{} {}", ready.as_raw_fd(), control.as_raw_fd());
    file::write(&dir.join("cgroup.event_control"), &line)?;
    Ok(OomWatch { ready, events: PollFlags::IN, _control: Some(control) })
}
