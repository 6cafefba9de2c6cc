//! Project quotas of the file system that the data root is on, where it has them. Each host below the machine is a
//! project: its container's writable layer, those on it, and its volumes. What the kernel lets a project take is what was
//! measured of these and what the host had left then, on all levels; so a write beyond that fails, and nobody must be
//! ended for it.
//!
//! Quotas make no decision of their own. Whoever owns a file may give it to another project, so what a project takes is
//! no proof of anything: what counts is what was measured.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::limit::Resource;
use droste_runtime::sys::quota;

use crate::host::HostState;

/// Projects of hosts have this bit, and not the highest one; the small numbers are the administrator's.
const OURS: u32 = 1 << 30;

/// The quotas of a file system; without it, nothing that is done here does anything.
#[derive(Debug)]
pub(crate) struct Quotas(Option<File>);

/// What the kernel was told of a host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// What was measured of what the project counts as well.
    measured: u64,
    /// What the project counts and was not found on the host: files of others, files that are deleted and still open.
    strange: u64,
    /// What seems to be so, and since when: the least while the project was found full.
    suspect: Option<(Instant, u64)>,
    /// What it may take.
    most: Option<u64>,
}

impl Told {
    /// Takes note of a measuring: what it found, and what the project took at its beginning and at its end. Files come
    /// and go meanwhile, and what is being removed is no longer found, so there is something strange only if the project
    /// stays full; and there is no room for more of it than `limit`, because that may be the host's own doing.
    pub(super) fn measured(&mut self, found: u64, took: [u64; 2], limit: u64, now: Instant) {
        let [least, most] = [took[0].min(took[1]), took[0].max(took[1])];
        let strange = least.saturating_sub(found);
        let (since, so_far) = self.suspect.unwrap_or((now, u64::MAX));
        self.suspect = (self.is_full(least) && strange > 0).then_some((since, so_far.min(strange)));
        let proved = self.suspect.filter(|_| now - since >= PROOF).map_or(0, |(_, bytes)| bytes);
        self.strange = strange.min(self.strange.max(proved)).min(limit);
        self.measured = found.min(most);
    }

    fn is_full(&self, used: u64) -> bool {
        self.most.is_some_and(|most| used + RESERVE > most)
    }
}

impl Quotas {
    /// Those of the file system of a directory.
    pub(crate) fn of(directory: &Path) -> Self {
        let root = File::open(directory).ok().filter(|root| quota::is_enforced(root.as_fd()));
        if root.is_some() {
            tracing::info!(path = %directory.display(), "project quotas stop hosts at their limits of disk");
        }
        Self(root)
    }

    /// Gives a new directory to the project of a host; one that is on another file system is measured only. Those of the
    /// machine belong to no project.
    pub(crate) fn adopt(&self, host: &HostId, directory: &Path) {
        let (Some(root), HostId::Container(id)) = (&self.0, host) else { return };
        let device = |file: &File| file.metadata().map(|found| found.dev());
        let adopted = File::open(directory).and_then(|open| {
            if device(&open)? == device(root)? { quota::adopt(open.as_fd(), project(id)) } else { Ok(()) }
        });
        if let Err(error) = adopted {
            tracing::warn!(%error, path = %directory.display(), "no project quota holds for it");
        }
    }

    /// What the project of a host takes.
    pub(super) fn used(&self, host: &HostState) -> u64 {
        self.of_host(host).and_then(|(root, project)| quota::used(root.as_fd(), project).ok()).unwrap_or(0)
    }

    /// Whether a host must be measured: the kernel lets it write no more, or lets it for a reason that may be gone.
    pub(super) fn is_due(&self, host: &HostState, told: Told) -> bool {
        self.0.is_some() && (told.strange > 0 || told.is_full(self.used(host)))
    }

    /// Tells the kernel what a host may take, if that is not what it was told before.
    pub(super) fn tell(&self, host: &HostState, told: &mut Told) {
        let Some((root, project)) = self.of_host(host) else { return };
        let most = host.account.left(Resource::Disk).map(|left| left.saturating_add(told.measured + told.strange));
        if most != told.most {
            match quota::limit(root.as_fd(), project, most) {
                Ok(()) => told.most = most,
                Err(error) => tracing::warn!(%error, host = %host.id, "its project quota was not set"),
            }
        }
    }

    /// Ends the limit of a host that is no more, so that the file system can forget it.
    pub(crate) fn forget(&self, host: &HostState) {
        if let Some((root, project)) = self.of_host(host) {
            let _ = quota::limit(root.as_fd(), project, None);
        }
    }

    fn of_host(&self, host: &HostState) -> Option<(&File, u32)> {
        match &host.id {
            HostId::Container(id) => Some((self.0.as_ref()?, project(id))),
            HostId::Machine => None,
        }
    }
}

/// For how long a project must have been full of what was not found on its host.
const PROOF: Duration = Duration::from_secs(10);

/// Closer to the limit than that, a project counts as full: XFS reserves some 40 blocks before it makes a directory.
const RESERVE: u64 = 256 << 10;

/// The number of a host's project. Should two hosts ever have the same, they stop each other early, and each is measured
/// and told anew as soon as that happens.
fn project(host: &ContainerId) -> u32 {
    let digits = host.as_str().get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    digits.unwrap_or(0) & (OURS - 1) | OURS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_neither_small_nor_reserved_numbers() {
        let of = |byte: u8| project(&ContainerId::from_bytes([byte; 32]));
        assert_eq!((of(0), of(0xff), of(0x12)), (1 << 30, (1 << 31) - 1, 0x5212_1212));
    }

    const KIB: u64 = 1 << 10;

    /// What is believed after measurings, each a second after the one before, of a project that may take 1000 KiB: what
    /// was found, and what the project took before and after. All in KiB.
    fn after(measurings: impl IntoIterator<Item = (u64, [u64; 2])>) -> (u64, u64) {
        let mut told = Told { most: Some(1000 * KIB), ..Told::default() };
        let mut now = Instant::now();
        for (found, took) in measurings {
            told.measured(found * KIB, took.map(|used| used * KIB), 300 * KIB, now);
            now += Duration::from_secs(1);
        }
        (told.measured / KIB, told.strange / KIB)
    }

    #[test]
    fn what_comes_and_goes_while_it_is_measured_gives_no_room() {
        assert_eq!(after([(1, [1000, 1])]), (1, 0));
        assert_eq!(after([(900, [1, 1000])]), (900, 0));
        assert_eq!(after([(0, [1000, 1000]), (0, [1000, 1000]), (1000, [1000, 1000])]), (1000, 0));
        assert_eq!(after([(900, [400, 400])]), (400, 0), "made before there were quotas");
    }

    #[test]
    fn what_strangers_put_into_a_project_gets_some_room_of_its_own() {
        let full = |found| std::iter::repeat_n((found, [1000, 1000]), 11);
        assert_eq!(after(full(800)), (800, 200));
        assert_eq!(after(full(600)), (600, 300), "but no more than the host's limit");
        assert_eq!(after(full(800).take(10)), (800, 0));
        assert_eq!(after(full(800).chain([(800, [850, 850])])), (800, 50), "it goes with them");
    }

    #[test]
    fn without_quotas_nothing_is_done() {
        let quotas = Quotas::of(Path::new("/proc"));
        let host = HostId::Container(ContainerId::from_bytes([1; 32]));
        quotas.adopt(&host, Path::new("/nowhere"));
        assert!(quotas.0.is_none());
    }
}
