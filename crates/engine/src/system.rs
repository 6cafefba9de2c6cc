//! What a host tells of itself: info, statistics, processes and disk usage.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use droste_cgroup::process::{Format, Pids, Process, Snapshot};
use droste_model::event::Event;
use droste_model::state::{Running, State};
use droste_model::time::Timestamp;
use droste_network::LinkStats;
use droste_runtime::namespaces::HostNamespaces;
use droste_runtime::read_small;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Listener;
use crate::host::{Host, HostState};
use crate::options::{Top, UpdateContainer};
use crate::view::{DiskUsage, Info, LimitSupport};

/// One sample of a container's statistics.
#[derive(Clone, Debug)]
pub struct StatsSample {
    /// The container.
    pub id: droste_model::id::ContainerId,
    /// Its name.
    pub name: String,
    /// When it was taken.
    pub read: Timestamp,
    /// Whether it runs; if not, all numbers are zero.
    pub running: bool,
    /// What its cgroup counts.
    pub cgroup: droste_cgroup::Stats,
    /// Nanoseconds that all CPUs of the machine have spent.
    pub system_cpu: u64,
    /// CPUs that are online.
    pub online_cpus: u32,
    /// Counters of its interfaces.
    pub networks: BTreeMap<String, LinkStats>,
}

/// /etc files of a host, from which its containers' are made.
pub(crate) struct HostFiles {
    pub(crate) hosts: String,
    pub(crate) resolv_conf: String,
}

impl Host {
    /// The host's own /etc/hosts and /etc/resolv.conf, read on the host. Blocking.
    pub(crate) fn files_of_host(&self) -> Result<HostFiles> {
        let read = || {
            let text = |path: &str| read_small(path).unwrap_or_default();
            let mut resolv_conf = text("/etc/resolv.conf");
            if droste_network::ResolvConf::parse(&resolv_conf).is_systemd_stub() {
                let real = text("/run/systemd/resolve/resolv.conf");
                resolv_conf = if real.is_empty() { resolv_conf } else { real };
            }
            HostFiles { hosts: text("/etc/hosts"), resolv_conf }
        };
        let failed = |error: &dyn std::fmt::Display| Error::hidden("the host's files could not be read", error);
        let view = self.state.power()?.namespaces.view().map_err(|error| failed(&error))?;
        view.run(read).map_err(|error| failed(&error))
    }

    /// `docker info`.
    pub async fn info(&self) -> Result<Info> {
        let settings = self.engine.settings();
        let support = &self.engine.support;
        let (mut running, mut paused, mut stopped) = (0, 0, 0);
        for container in self.state.members() {
            match container.state() {
                State::Running(Running { paused: true, .. }) => paused += 1,
                State::Running(_) | State::Restarting { .. } => running += 1,
                _ => stopped += 1,
            }
        }
        let group = self.engine.cgroups.get(&self.limiting_cgroup());
        let effective = group.effective();
        let uname = rustix::system::uname();
        let release = os_release(&self.state);
        let machine_memory = droste_cgroup::system::memory().unwrap_or(0);
        Ok(Info {
            id: self.state.record().engine_id.clone(),
            name: self.name(),
            containers: (running, paused, stopped),
            images: self.images().len(),
            cpus: effective.whole_cpus(droste_cgroup::system::online_cpus().unwrap_or(1)) as usize,
            memory: effective.memory.map_or(machine_memory, |limit| limit.min(machine_memory)),
            kernel: uname.release().to_string_lossy().into_owned(),
            operating_system: release.get("PRETTY_NAME").cloned().unwrap_or_else(|| "Linux".to_owned()),
            os_version: release.get("VERSION_ID").cloned().unwrap_or_default(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            cgroup_version: if support.is_v2 { 2 } else { 1 },
            backing_filesystem: backing_filesystem(&settings.data_root),
            root_dir: if self.level() == 0 {
                settings.data_root.to_string_lossy().into_owned()
            } else {
                "/var/lib/docker".to_owned()
            },
            runtimes: self.runtimes(),
            default_runtime: if settings.default_runtime.is_empty() {
                "droste".to_owned()
            } else {
                settings.default_runtime.clone()
            },
            log_driver: settings.log.driver.clone(),
            security_options: settings.security.shown(crate::apparmor::enabled()),
            labels: if self.level() == 0 { settings.labels.clone() } else { Vec::new() },
            ip_forwarding: true,
            warnings: limit_warnings(support).into_iter().chain(crate::apparmor::warning()).collect(),
            insecure_registries: settings.registry.insecure.clone(),
            mirrors: settings.registry.mirrors.clone(),
            proxies: crate::registry::proxies_of(&settings, self.level() == 0).masked(),
            event_listeners: self.state.events.listeners(),
            debug: settings.debug,
            level: self.level(),
            limits: LimitSupport {
                memory: support.memory,
                swap: support.swap,
                kernel_memory_tcp: false,
                oom_kill_disable: support.oom_kill_disable,
                cpu_shares: support.cpu_shares,
                cpu_cfs: support.cpu_cfs,
                cpuset: support.cpuset,
                pids: support.pids,
            },
        })
    }

    fn runtimes(&self) -> BTreeMap<String, String> {
        let settings = self.engine.settings();
        let configured =
            settings.runtimes.iter().map(|(name, path)| (name.clone(), path.to_string_lossy().into_owned()));
        let own = ("droste".to_owned(), "droste".to_owned());
        if self.level() == 0 { configured.chain([own]).collect() } else { BTreeMap::from([own]) }
    }

    /// The host's name: the machine's, or the container's hostname.
    pub(crate) fn name(&self) -> String {
        match self.state.myself() {
            Some(container) => container.record().config.hostname.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }

    /// The cgroup whose limits bound everything on this host.
    fn limiting_cgroup(&self) -> droste_cgroup::CgroupPath {
        self.state.cgroup.parent().unwrap_or_else(droste_cgroup::CgroupPath::root)
    }

    /// Events from `since` to `until`, and the live ones unless `until` is past.
    pub fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<Arc<Event>>, Option<Listener<Arc<Event>>>) {
        let (replay, live) = self.state.events.listen(since, until);
        let past = until.is_some_and(|until| until <= Timestamp::now());
        (replay, (!past).then_some(live))
    }

    /// One sample of a container's statistics; zeros if it does not run.
    pub async fn stats(&self, at: &str) -> Result<StatsSample> {
        let container = match self.target(at)? {
            crate::host::Target::Member(container) | crate::host::Target::Myself(container) => container,
        };
        let engine = Arc::clone(&self.engine);
        let taken = tokio::task::spawn_blocking(move || engine.sample(&container));
        taken.await.map_err(|error| Error::hidden("the statistics could not be read", error))?
    }

    /// The processes of a container, as `ps` with these arguments shows them.
    pub async fn top(&self, at: &str, ps_args: &str) -> Result<Top> {
        let container = self.member(at)?;
        if container.state().running().is_none() {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        let words: Vec<String> = ps_args.split_whitespace().map(str::to_owned).collect();
        let format = Format::parse(&words).map_err(|error| Error::internal(error.to_string()))?;
        let failed = |error: droste_cgroup::CgroupError| Error::hidden("the processes could not be read", error);
        let shown = match (self.level(), self.state.myself().and_then(|myself| myself.shim())) {
            (0, _) | (_, None) => Pids::OfMachine,
            (_, Some(init)) => Pids::OfHost(u32::try_from(init.pid()).unwrap_or(1)),
        };
        let ids = self.engine.cgroup(&container)?.pids().map_err(failed)?;
        let processes = Process::read_all(&ids, shown).map_err(failed)?;
        let snapshot = Snapshot::read(Path::new("/")).map_err(failed)?;
        let table = format.table(&processes, &snapshot);
        Ok(Top { titles: table.titles, processes: table.rows })
    }

    /// What this host's objects use on disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let mut images = self.images();
        self.shared_sizes(&mut images);
        let mut containers = Vec::new();
        for view in self.containers() {
            let (written, whole) = self.container_size(view.id.as_str()).await?;
            containers.push((view, written, whole));
        }
        let volumes = self.volume_usage().await;
        Ok(DiskUsage { layers: self.layers_size(&images), images, containers, volumes })
    }
}

impl Engine {
    fn sample(&self, container: &Arc<Container>) -> Result<StatsSample> {
        let mut sample = StatsSample {
            id: container.id.clone(),
            name: container.record().name.to_string(),
            read: Timestamp::now(),
            running: false,
            cgroup: droste_cgroup::Stats::default(),
            system_cpu: droste_cgroup::system::cpu_usage().unwrap_or(0),
            online_cpus: droste_cgroup::system::online_cpus().unwrap_or(1),
            networks: BTreeMap::new(),
        };
        let (Some(shim), Some(_)) = (container.shim(), container.state().running().cloned()) else { return Ok(sample) };
        sample.running = true;
        sample.cgroup = self.cgroup(container)?.stats().unwrap_or_default();
        if container.live().network.is_some() {
            let sandbox = HostNamespaces::of(shim.pidfd().as_fd(), shim.pid())
                .map_err(|error| Error::hidden("the container's network could not be read", error))?
                .net;
            let links =
                droste_network::interface_stats(&droste_network::Namespace::from_fd(sandbox)).unwrap_or_default();
            sample.networks = links.into_iter().map(|link| (link.name, link.stats)).collect();
        }
        Ok(sample)
    }

    /// Freezes a container's processes.
    pub(crate) async fn freeze(&self, container: &Arc<Container>) -> Result<()> {
        let group = self.cgroup(container)?;
        let frozen = tokio::task::spawn_blocking(move || group.freeze());
        let failed = |error: &dyn std::fmt::Display| Error::hidden("the container could not be frozen", error);
        frozen.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    /// Lets a frozen container's processes go on; one that is not frozen does not mind.
    pub(crate) fn thaw(&self, container: &Container) {
        let frozen = matches!(container.state(), State::Running(Running { paused: true, .. }));
        let outcome = self
            .cgroup(container)
            .map(|group| if frozen || group.is_frozen_itself().unwrap_or(false) { group.thaw() } else { Ok(()) });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(container = %container.id, %error, "it was not thawed"),
            Err(error) => tracing::warn!(container = %container.id, %error, "it was not thawed"),
        }
    }

    /// Changes limits and the restart policy; a running container has the new limits at once.
    pub(crate) async fn update(&self, container: &Arc<Container>, change: UpdateContainer) -> Result<Vec<String>> {
        let old = container.record().clone();
        let mut new = old.clone();
        if let Some(policy) = change.restart_policy {
            if new.host_config.auto_remove && policy.name() != "no" && !policy.name().is_empty() {
                return Err(Error::conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            new.host_config.restart_policy = policy;
        }
        crate::update::apply(&mut new.host_config.resources, &change.resources)?;
        let warnings = self
            .support
            .admit(&mut new.host_config.resources, true)
            .map_err(|error| Error::invalid(error.to_string()))?;
        if old.state.running().is_some() {
            let limits = self.limits(&new, &container.host.power()?)?;
            let group = self.cgroup(container)?;
            let failed = |error: droste_cgroup::CgroupError| {
                Error::internal(format!("Cannot update container {}: {error}", old.id))
            };
            group.limit(&limits).map_err(failed)?;
            if old.is_host() {
                self.cgroups.get(&group.path().of_host_itself()).mirror_limits_of(&group).map_err(failed)?;
            }
        }
        container.record().host_config = new.host_config;
        self.remember_now(container).await?;
        Ok(warnings)
    }

    /// Lets go of what the daemon holds; containers run on.
    pub async fn shutdown(&self) {
        self.store
            .commit(Vec::new())
            .await
            .unwrap_or_else(|error| tracing::error!(%error, "the last records were lost"));
    }
}

/// The host's /etc/os-release.
fn os_release(host: &HostState) -> BTreeMap<String, String> {
    let read = || read_small("/etc/os-release").or_else(|_| read_small("/usr/lib/os-release")).unwrap_or_default();
    let view = host.power().ok().and_then(|power| power.namespaces.view().ok());
    let text = view.and_then(|view| view.run(read).ok()).unwrap_or_default();
    let entry = |line: &str| {
        line.split_once('=').map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// Docker's warnings about limits that the machine can't set.
fn limit_warnings(support: &droste_cgroup::Support) -> Vec<String> {
    let lacks = [
        (support.memory, "No memory limit support"),
        (support.swap, "No swap limit support"),
        (support.cpu_cfs, "No cpu cfs quota support"),
        (support.cpu_shares, "No cpu shares support"),
        (support.cpuset, "No cpuset support"),
        (support.pids, "No pids limit support"),
    ];
    lacks.iter().filter(|(has, _)| !has).map(|(_, text)| format!("WARNING: {text}")).collect()
}

/// The name that Docker gives to the file system below a path.
fn backing_filesystem(path: &Path) -> String {
    let magic = rustix::fs::statfs(path).map(|found| found.f_type).unwrap_or(0);
    match magic {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlayfs",
        _ => "<unknown>",
    }
    .to_owned()
}
