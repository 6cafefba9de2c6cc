//! What a host shows of its containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::container::{Config, HostConfig};
use droste_model::mount::{Mount, MountSource};
use droste_model::name::VolumeName;
use droste_model::network::NetworkMode;
use droste_model::state::Health;

use crate::container::Container;
use crate::error::Result;
use crate::host::{Host, Target};
use crate::links;
use crate::network::shown_names;
use crate::record::{ContainerRecord, EndpointRecord, Membership};
use crate::view::{ContainerView, EndpointView, FilesView, MountKind, MountView, OverlayView};

impl Host {
    /// All containers of this host, newest first. SELF is not among them: a machine does not list itself. The views
    /// hold what lists show and filter by: no paths, no process ids, and little of what was asked.
    pub fn containers(&self) -> Vec<Arc<ContainerView>> {
        let (mut means, mut linked) = (BTreeMap::new(), links::aliases(&self.state));
        let brief = |container: &Arc<Container>| {
            let mut view = self.dressed(brief(&container.record()), false);
            view.linked_as = linked.remove(&view.id).unwrap_or_default();
            self.name_image(&mut view, &mut means);
            Arc::new(view)
        };
        let mut all: Vec<Arc<ContainerView>> = self.state.members().iter().map(brief).collect();
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// Lists show the name by which a container's image was asked for as long as it still means that image, and the id
    /// afterwards, as in Docker. `means` remembers names across a list.
    fn name_image(&self, view: &mut ContainerView, means: &mut BTreeMap<String, Option<String>>) {
        let asked = &view.config.image;
        let meant =
            means.entry(asked.clone()).or_insert_with(|| self.find_image_id(asked).ok().map(|id| id.to_string()));
        if meant.as_ref() != Some(&view.image_id) {
            view.config.image.clone_from(&view.image_id);
        }
    }

    /// One container, or SELF.
    pub fn container(&self, at: &str) -> Result<Arc<ContainerView>> {
        let target = self.target(at)?;
        let is_self = matches!(target, Target::Myself(_));
        Ok(Arc::new(self.view_of(target.container(), is_self)))
    }

    /// A container's view. Of SELF it shows what SELF could see anyway: nothing of the host above.
    fn view_of(&self, container: &Container, is_self: bool) -> ContainerView {
        let record = container.record().clone();
        let running = record.state.running().is_some();
        let shows_paths = self.level() == 0 && !is_self;
        let pid = record.state.running().map_or(0, |running| self.pid_here(running.pid));
        ContainerView {
            files: if shows_paths { self.files_view(&record) } else { FilesView::default() },
            exec_ids: if is_self { Vec::new() } else { self.listed_execs(container) },
            sandbox_key: if running && shows_paths { format!("/proc/{pid}/ns/net") } else { String::new() },
            sandbox_id: if running { record.id.to_string() } else { String::new() },
            overlay: if shows_paths { self.overlay_view(container, &record) } else { None },
            pid: if is_self { 1 } else { pid },
            apparmor_profile: crate::apparmor::shown(&record, &container.host),
            ..self.dressed(record, is_self)
        }
    }

    /// What a record alone tells.
    fn dressed(&self, record: ContainerRecord, is_self: bool) -> ContainerView {
        let links = links::shown(&record, self);
        let mut args = record.args();
        let path = if args.is_empty() { String::new() } else { args.remove(0) };
        ContainerView {
            path,
            args,
            last_finished: record.last_finished,
            os: "linux".to_owned(),
            restart_count: record.restart_count,
            mounts: listed_mounts(&record).map(|mount| self.mount_view(mount, is_self)).collect(),
            networks: self.endpoints(&record, is_self),
            ports: if is_self { Vec::new() } else { record.ports.clone() },
            files: FilesView::default(),
            exec_ids: Vec::new(),
            sandbox_key: String::new(),
            sandbox_id: String::new(),
            overlay: None,
            pid: 0,
            apparmor_profile: String::new(),
            linked_as: Vec::new(),
            is_host: record.is_host(),
            health: record.health,
            image_id: record.image,
            image_manifest: record.manifest,
            id: record.id,
            name: record.name,
            created: record.created,
            state: record.state,
            config: record.config,
            host: if is_self { redacted(record.host_config) } else { HostConfig { links, ..record.host_config } },
        }
    }

    /// A process id of the machine's as this host's processes know it.
    pub(crate) fn pid_here(&self, pid: u32) -> u32 {
        if self.level() == 0 {
            return pid;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let ids: Vec<u32> =
            line.map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect()).unwrap_or_default();
        ids.get(self.level()).copied().unwrap_or(0)
    }

    fn listed_execs(&self, container: &Container) -> Vec<droste_model::id::ExecId> {
        let ids = container.live().execs.clone();
        let execs = self.state.execs();
        ids.into_iter().filter(|id| execs.get(id).is_some_and(|exec| exec.is_listed())).collect()
    }

    fn files_view(&self, record: &ContainerRecord) -> FilesView {
        let folder = self.engine.container_dir(&record.id);
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        FilesView {
            resolv_conf: file("resolv.conf"),
            hostname: file("hostname"),
            hosts: file("hosts"),
            log: crate::logs::file_name(record).map(|name| file(&name)).unwrap_or_default(),
        }
    }

    fn overlay_view(&self, container: &Container, record: &ContainerRecord) -> Option<OverlayView> {
        let folder = self.engine.container_dir(&record.id);
        let overlay = self.engine.layers_of(container).ok()?;
        Some(OverlayView {
            lower: overlay.lower_paths(),
            upper: overlay.upper,
            work: overlay.work,
            merged: folder.join("merged"),
        })
    }

    fn mount_view(&self, mount: &Mount, is_self: bool) -> MountView {
        let base = MountView {
            kind: MountKind::Bind,
            name: String::new(),
            source: String::new(),
            destination: mount.target.to_string(),
            driver: String::new(),
            mode: mount.mode.clone(),
            writable: !mount.read_only,
            propagation: String::new(),
        };
        match &mount.source {
            // Seen from inside, the source is where it is mounted: the path of the host above is not shown.
            MountSource::Bind { .. } | MountSource::Volume { .. } | MountSource::Image { .. } if is_self => MountView {
                source: mount.target.to_string(),
                propagation: mount.propagation.as_str().to_owned(),
                ..base
            },
            MountSource::Bind { source, .. } => {
                MountView { source: source.to_string(), propagation: mount.propagation.as_str().to_owned(), ..base }
            }
            MountSource::Volume { name: Some(name), .. } => self.volume_mount_view(name, base),
            MountSource::Volume { name: None, .. } => MountView { kind: MountKind::Volume, ..base },
            MountSource::Tmpfs { .. } => MountView { kind: MountKind::Tmpfs, ..base },
            MountSource::Image { reference, .. } => MountView {
                kind: MountKind::Image,
                name: reference.clone(),
                propagation: mount.propagation.as_str().to_owned(),
                ..base
            },
        }
    }

    /// A volume in a container. Docker shows the letter that it gives to volumes for which none was typed.
    fn volume_mount_view(&self, name: &VolumeName, base: MountView) -> MountView {
        let volumes = &self.engine.volumes;
        let known = volumes.find(&self.state.id, name);
        let driver = known.map_or_else(|| crate::volumes::LOCAL.to_owned(), |volume| volume.record.driver.clone());
        let source = volumes.shown_path(&self.state, name).to_string_lossy().into_owned();
        MountView { kind: MountKind::Volume, name: name.to_string(), source, driver, ..base }
    }

    /// What a container asks of its networks, and what it has there while it runs.
    fn endpoints(&self, record: &ContainerRecord, is_self: bool) -> BTreeMap<String, EndpointView> {
        if is_self {
            return self.own_endpoints();
        }
        let running = record.state.running().is_some();
        let one = |(name, membership): (&String, &Membership)| {
            let mut view = EndpointView {
                request: membership.request.clone(),
                network_id: membership.network.as_ref().map(ToString::to_string).unwrap_or_default(),
                dns_names: if membership.named { shown_names(record, membership) } else { Vec::new() },
                ..EndpointView::default()
            };
            match &membership.endpoint {
                Some(endpoint) => view.fill(endpoint),
                None if running => view.endpoint_id = record.id.to_string(),
                None => {}
            }
            (name.clone(), view)
        };
        record.networks.iter().map(one).collect()
    }
}

impl EndpointView {
    /// Shows a place.
    pub(crate) fn fill(&mut self, endpoint: &EndpointRecord) {
        self.endpoint_id = endpoint.id.to_string();
        (self.v4, self.v6) = (endpoint.v4, endpoint.v6);
        (self.gateway4, self.gateway6) = (endpoint.gateway4, endpoint.gateway6);
        self.mac.clone_from(&endpoint.mac);
    }
}

/// What lists show of a record, without copying the rest of it.
fn brief(record: &ContainerRecord) -> ContainerRecord {
    let config = Config {
        image: record.config.image.clone(),
        entrypoint: record.config.entrypoint.clone(),
        cmd: record.config.cmd.clone(),
        labels: record.config.labels.clone(),
        exposed_ports: record.config.exposed_ports.clone(),
        ..Config::default()
    };
    let host_config = HostConfig {
        network_mode: record.host_config.network_mode.clone(),
        annotations: record.host_config.annotations.clone(),
        tmpfs: record.host_config.tmpfs.clone(),
        ..HostConfig::default()
    };
    ContainerRecord {
        id: record.id.clone(),
        name: record.name.clone(),
        host: record.host.clone(),
        created: record.created,
        image: record.image.clone(),
        manifest: None,
        config,
        host_config,
        networks: record.networks.clone(),
        mounts: record.mounts.clone(),
        mounted_images: Vec::new(),
        anonymous_volumes: Vec::new(),
        socket: record.socket.clone(),
        state: record.state.clone(),
        restart_count: record.restart_count,
        stopped_by_hand: record.stopped_by_hand,
        last_finished: record.last_finished,
        health: record.health.as_ref().map(|health| Health { log: Vec::new(), ..*health }),
        ports: record.ports.clone(),
    }
}

/// What Docker calls mounts: all but what `--tmpfs` asked for.
fn listed_mounts(record: &ContainerRecord) -> impl Iterator<Item = &Mount> {
    record.mounts.iter().filter(|mount| {
        let asked = record.host_config.tmpfs.iter().flatten();
        !matches!(mount.source, MountSource::Tmpfs { .. })
            || !asked.into_iter().any(|(target, _)| target.trim_end_matches('/') == mount.target.as_str())
    })
}

/// A container's own configuration without the words of the host above: its paths and names of its neighbours.
fn redacted(mut host: HostConfig) -> HostConfig {
    host.binds = None;
    host.mounts = None;
    host.volumes_from = None;
    host.links = None;
    host.container_id_file.clear();
    host.resources.cgroup_parent.clear();
    if let NetworkMode::Container(_) = host.network_mode {
        host.network_mode = NetworkMode::Default;
    }
    for mode in [&mut host.ipc_mode, &mut host.pid_mode] {
        if let droste_model::container::NamespaceMode::Container(_) = mode {
            *mode = droste_model::container::NamespaceMode::Private;
        }
    }
    host
}
