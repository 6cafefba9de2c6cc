//! Bytes on disk and of logs that hosts use: measured from time to time, never on the way of a request.
//!
//! A file system can't have taken in more for a host than it has grown by itself; so a host is measured again when the
//! file system has grown by half of what the host has left, looked at once a second, and every few minutes where
//! somebody set its limit. A host that has nothing left is measured all the time, so that it may go on as soon as it has
//! made room. No host is measured for more than a small part of the time, whatever it has written.
//!
//! A host is measured with its own container: what that writes counts on it, and not among what its parent's other
//! containers write. What is found is held as places of the account, and so counts on all hosts above. Images are taken
//! from the limit at once. Whoever has gone on writing past the limit is ended.

mod images;
mod quota;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use droste_model::host::HostId;
use droste_model::id::ContainerId;
use droste_model::limit::Resource;
use droste_model::name::VolumeName;

pub(crate) use self::quota::Quotas;
use self::quota::Told;
use self::walk::Tree;
use crate::container::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::host::{Host, HostState};
use crate::lifecycle::kill_now;
use crate::limits::Place;

/// How often the file system is looked at.
const TICK: Duration = Duration::from_secs(1);

/// After how long a host with a limit of its own is measured again whatever the file system says.
const AT_LEAST: Duration = Duration::from_secs(300);

/// For how many times as long as a measuring took there is no other one.
const REST: u32 = 10;

/// What a container may have written since the last measuring within the limit without being ended. Logs of a line now
/// and then are no reason.
const SLACK: u64 = 1 << 20;

/// By how much the file system has grown since the daemon's start, counting no shrinking.
#[derive(Debug, Default)]
pub(crate) struct Growth(AtomicU64);

impl Growth {
    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at the file system of `path`, of which so much was used before.
    fn look(&self, path: &Path, before: &mut Option<u64>) {
        if let Ok(found) = rustix::fs::statvfs(path) {
            let used = found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize;
            let grown = before.map_or(0, |before| used.saturating_sub(before));
            self.0.fetch_add(grown, Ordering::Relaxed);
            *before = Some(used);
        }
    }
}

/// What was measured of a host itself, without those below.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// The latest measuring; `None` before the first.
    latest: Option<Measuring>,
    /// What is held for what the latest found.
    places: Option<[Place; 2]>,
    /// What was taken since.
    taken: Vec<Place>,
    /// What the latest measuring found that was within the limit.
    within: Sizes,
    /// What the kernel knows of it.
    told: Told,
}

#[derive(Clone, Copy, Debug)]
struct Measuring {
    ended: Instant,
    took: Duration,
    /// How far the file system had grown by its beginning.
    growth: u64,
}

impl Measuring {
    fn is_resting(self) -> bool {
        self.ended.elapsed() < self.took * REST
    }
}

#[derive(Clone, Debug, Default)]
struct Sizes {
    layers: BTreeMap<ContainerId, Tree>,
    volumes: BTreeMap<VolumeName, Tree>,
    logs: BTreeMap<ContainerId, Tree>,
}

impl Sizes {
    fn disk(&self) -> u64 {
        self.layers.values().chain(self.volumes.values()).map(|tree| tree.bytes).sum()
    }

    fn logs(&self) -> u64 {
        self.logs.values().map(|tree| tree.bytes).sum()
    }
}

impl Measured {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a place until a measuring finds what it is for.
    fn keep(&self, place: Place) {
        self.last().taken.push(place);
    }
}

impl HostState {
    /// Whether it has a limit that somebody set and was not measured since the daemon's start.
    fn is_unknown(&self) -> bool {
        self.measured.last().latest.is_none() && SPACE.into_iter().any(|resource| self.account.is_set(resource))
    }
}

/// What is measured.
const SPACE: [Resource; 2] = [Resource::Disk, Resource::Logs];

impl Engine {
    /// Measures hosts from now on, as long as the engine is there.
    pub(crate) fn watch_space(self: &Arc<Self>) {
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut before = None;
            loop {
                tokio::time::sleep(TICK).await;
                let Some(engine) = engine.upgrade() else { return };
                let hosts = engine.hosts();
                if !hosts.is_empty() {
                    let watched = tokio::task::spawn_blocking(move || engine.look_at_space(&hosts, before)).await;
                    before = watched.unwrap_or(before);
                }
            }
        });
    }

    fn look_at_space(&self, hosts: &[Arc<HostState>], mut before: Option<u64>) -> Option<u64> {
        self.growth.look(&self.settings().data_root, &mut before);
        let growth = self.growth.total();
        hosts.iter().filter(|host| self.is_due(host, growth)).for_each(|host| self.measure(host));
        // What one host has left may depend on others.
        hosts.iter().for_each(|host| self.quotas.tell(host, &mut host.measured.last().told));
        before
    }

    /// Whether it is time: the file system has grown so far that the host may be near its limit.
    fn is_due(&self, host: &HostState, growth: u64) -> bool {
        let last = host.measured.last();
        let Some(latest) = last.latest else { return true };
        if latest.is_resting() {
            return false;
        }
        let least = SPACE.into_iter().filter_map(|resource| host.account.left(resource)).min().unwrap_or(u64::MAX);
        !last.taken.is_empty()
            || growth.saturating_sub(latest.growth) >= least / 2
            || latest.ended.elapsed() >= AT_LEAST && SPACE.into_iter().any(|resource| host.account.is_set(resource))
            || self.quotas.is_due(host, last.told)
    }

    /// Measures a host, and ends those of its containers that go on writing past a limit.
    fn measure(&self, host: &HostState) {
        let (began, growth, before) = (Instant::now(), self.growth.total(), self.quotas.used(host));
        let taken = std::mem::take(&mut host.measured.last().taken);
        let writers = self.writers(host);
        let now = self.sizes(host, &writers);
        let (took, disk) = ([before, self.quotas.used(host)], now.disk() + self.images_of(host));
        let mut last = host.measured.last();
        drop(taken);
        last.hold(host, [disk, now.logs()]);
        last.told.measured(now.disk(), took, host.account.limit(Resource::Disk).unwrap_or(u64::MAX), began);
        self.quotas.tell(host, &mut last.told);
        let ended = Instant::now();
        let is_first = last.latest.replace(Measuring { ended, took: ended - began, growth }).is_none();
        if is_first {
            last.within = now;
            return;
        }
        let too_much = last.judge(host, &writers, now);
        drop(last);
        too_much.iter().for_each(|(container, resource)| end_writer(container, *resource));
    }

    /// The host on which a container's files count: itself, if it is one.
    pub(crate) fn counted_on(&self, container: &Container) -> Arc<HostState> {
        self.host_of(&container.id).unwrap_or_else(|| Arc::clone(&container.host))
    }

    /// The containers whose files count on a host: its own, and those on it that are not hosts themselves.
    fn writers(&self, host: &HostState) -> Vec<Arc<Container>> {
        let is_leaf = |container: &Arc<Container>| self.host_of(&container.id).is_none();
        host.members().into_iter().filter(is_leaf).chain(host.myself()).collect()
    }

    fn sizes(&self, host: &HostState, writers: &[Arc<Container>]) -> Sizes {
        let each = |size: &dyn Fn(&Container) -> Tree| {
            writers.iter().map(|container| (container.id.clone(), size(container))).collect()
        };
        let volumes = self.volumes.plain(&host.id).into_iter();
        Sizes {
            layers: each(&|container| self.files_of(container)),
            logs: each(&|container| Tree { bytes: self.logs_of(container), is_whole: true }),
            volumes: volumes.map(|name| (name.clone(), walk::measure(&self.volumes.path(&host.id, &name)))).collect(),
        }
    }

    /// What a container's processes can write of its own: its layer, and its files in /etc that the engine makes.
    fn files_of(&self, container: &Container) -> Tree {
        let folder = self.container_dir(&container.id);
        let layer = walk::measure(&folder.join("diff"));
        let beside: u64 = crate::etc::FILES.iter().map(|name| walk::file(&folder.join(name))).sum();
        Tree { bytes: layer.bytes + beside, ..layer }
    }

    /// Bytes of a container's log and of what was rotated of it.
    fn logs_of(&self, container: &Container) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Some(name) = crate::logs::file_name(&container.record()) else { return 0 };
        let path = self.container_dir(&container.id).join(name);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return 0 };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes()));
        logs.filter_map(|entry| entry.metadata().ok()).map(|found| found.blocks() * 512).sum()
    }
}

impl Host {
    /// Refuses what would write while this host, or one above, has no space left. Whoever has just made room is not
    /// refused for what was measured before.
    pub(crate) async fn require_space(&self) -> Result<()> {
        self.engine.require_space(&self.state).await
    }

    /// Measures this host and those below it, as far as that is not too much work.
    pub(crate) async fn measure_all(&self) {
        let hosts = self.levels().into_iter().map(|(_, host)| host.state);
        self.engine.measure_now(hosts.collect()).await;
    }
}

impl Engine {
    /// Refuses what would write on a host without space.
    pub(crate) async fn require_space(self: &Arc<Self>, host: &Arc<HostState>) -> Result<()> {
        if host.account.check_space().is_err() || host.is_unknown() {
            self.measure_now(vec![Arc::clone(host)]).await;
        }
        host.account.check_space()
    }

    async fn measure_now(self: &Arc<Self>, hosts: Vec<Arc<HostState>>) {
        let engine = Arc::clone(self);
        let is_open = |host: &&Arc<HostState>| {
            host.id != HostId::Machine && host.measured.last().latest.is_none_or(|latest| !latest.is_resting())
        };
        let measuring = move || hosts.iter().filter(is_open).for_each(|host| engine.measure(host));
        if let Err(error) = tokio::task::spawn_blocking(measuring).await {
            tracing::warn!(%error, "hosts were not measured");
        }
    }
}

impl Last {
    /// Holds what was found, bytes on disk and of logs.
    fn hold(&mut self, host: &HostState, found: [u64; 2]) {
        let places = self.places.get_or_insert_with(|| SPACE.map(|resource| host.account.hold(resource, 0)));
        places.iter_mut().zip(found).for_each(|(place, bytes)| place.resize(bytes));
    }

    /// Who has written what is too much. What was found is remembered as far as it is within the limit.
    fn judge(&mut self, host: &HostState, writers: &[Arc<Container>], now: Sizes) -> Vec<(Arc<Container>, Resource)> {
        let running = || writers.iter().filter(|container| container.state().running().is_some());
        let mut too_much = Vec::new();
        if host.account.is_passed(Resource::Disk) {
            let wrote = running().filter(|container| wrote(container, &self.within, &now));
            too_much.extend(wrote.map(|container| (Arc::clone(container), Resource::Disk)));
        } else {
            if host.account.is_set(Resource::Disk) {
                let hidden = running().filter(|container| hides(container, &now));
                too_much.extend(hidden.map(|container| (Arc::clone(container), Resource::Disk)));
            }
            (self.within.layers, self.within.volumes) = (now.layers, now.volumes);
        }
        if host.account.is_passed(Resource::Logs) {
            let logged = running().filter(|container| grew(&self.within.logs, &now.logs, &container.id));
            too_much.extend(logged.map(|container| (Arc::clone(container), Resource::Logs)));
        } else {
            self.within.logs = now.logs;
        }
        too_much
    }
}

fn wrote(container: &Container, before: &Sizes, now: &Sizes) -> bool {
    grew(&before.layers, &now.layers, &container.id)
        || crate::volumes::mounted(&container.record()).any(|volume| grew(&before.volumes, &now.volumes, volume))
        || hides(container, now)
}

/// Whether there is more in what a container writes to than can be measured.
fn hides(container: &Container, now: &Sizes) -> bool {
    let is_partial = |tree: Option<&Tree>| tree.is_some_and(|tree| !tree.is_whole);
    is_partial(now.layers.get(&container.id))
        || crate::volumes::mounted(&container.record()).any(|volume| is_partial(now.volumes.get(volume)))
}

fn grew<K: Ord>(before: &BTreeMap<K, Tree>, now: &BTreeMap<K, Tree>, key: &K) -> bool {
    let bytes = |sizes: &BTreeMap<K, Tree>| sizes.get(key).map_or(0, |tree| tree.bytes);
    bytes(now) > bytes(before).saturating_add(SLACK)
}

/// Ends a container that wrote beyond the limit; its restart policy does not act, and inspect says why.
fn end_writer(container: &Container, resource: Resource) {
    tracing::warn!(container = %container.id, %resource, "it wrote beyond its host's limit and is ended");
    let mut live = container.live();
    live.stopping = true;
    live.ended_for =
        Some(format!("it was ended: it wrote beyond the limit of {resource} of its host (label {})", resource.label()));
    drop(live);
    kill_now(container);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_no_shrinking() {
        let (growth, mut before) = (Growth::default(), None);
        let folder = tempfile::tempdir().unwrap();
        growth.look(folder.path(), &mut before);
        assert_eq!(growth.total(), 0, "what was there before is no growth");
        before = before.map(|used| used.saturating_sub(1 << 20));
        growth.look(folder.path(), &mut before);
        let grown = growth.total();
        assert!(grown > 0);
        before = Some(u64::MAX);
        growth.look(folder.path(), &mut before);
        assert_eq!(growth.total(), grown);
    }

    #[test]
    fn a_line_now_and_then_is_no_writing() {
        let sizes = |bytes| BTreeMap::from([("c", Tree { bytes, is_whole: true })]);
        assert!(!grew(&sizes(5), &sizes(5 + SLACK), &"c"));
        assert!(grew(&sizes(5), &sizes(6 + SLACK), &"c"));
        assert!(grew(&BTreeMap::new(), &sizes(1 + SLACK), &"c"));
    }

    #[test]
    fn a_measuring_is_followed_by_rest() {
        let long_ago = Instant::now() - Duration::from_secs(5);
        let measuring = |took| Measuring { ended: long_ago, took, growth: 0 };
        assert!(measuring(Duration::from_secs(1)).is_resting());
        assert!(!measuring(Duration::from_millis(100)).is_resting());
    }
}
