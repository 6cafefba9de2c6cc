//! An engine of the test's own with an image of busybox, and what the cases do with containers.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use droste_engine::{AttachOptions, Engine, ExecStart, Host, ImportOptions, ListenerChange, RemoveOptions, Settings, WaitCondition};
use droste_model::container::{Config, CreateContainer, ExecConfig, HostConfig, Resources};
use droste_model::mount::{Mount, MountSource, Propagation};
use droste_model::network::NetworkMode;
use droste_model::path::{ClientPath, ContainerPath};
use droste_test_support::image;

pub(crate) const MIB: i64 = 1 << 20;
/// Where everybody expects the engine's socket.
const SOCKET: &str = "/var/run/docker.sock";

/// An engine; it is also its own machine.
pub(crate) struct Own {
    pub(crate) engine: Arc<Engine>,
    machine: Host,
    cgroup: PathBuf,
    _folder: tempfile::TempDir,
}

impl Deref for Own {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.machine
    }
}

/// How a container ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i64,
    pub(crate) output: String,
    pub(crate) oom_killed: bool,
}

impl Own {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let cgroup_parent = format!("/droste-test-{}", std::process::id());
        let settings = Settings { data_root: folder.path().join("data"), exec_root: folder.path().join("exec"), cgroup_parent: cgroup_parent.clone(), ..Settings::default() };
        let engine = Engine::open(settings).await.unwrap();
        let options = ImportOptions { reference: Some("base".parse().unwrap()), ..ImportOptions::default() };
        let rootfs = std::io::Cursor::new(image::rootfs().finish());
        engine.machine().import(Box::new(rootfs), options, Arc::new(|_| ())).await.unwrap();
        let cgroup = PathBuf::from("/sys/fs/cgroup").join(&cgroup_parent[1..]);
        Self { machine: engine.machine(), engine, cgroup, _folder: folder }
    }

    /// The folder of a container's cgroup on the machine, at whatever level the container is.
    pub(crate) fn folder(&self, host: &Host, name: &str) -> PathBuf {
        let id = host.container(name).unwrap().id.to_string();
        find(&self.cgroup, &id).unwrap_or_else(|| panic!("no cgroup of {name}"))
    }

    /// A file of a container's cgroup, as the machine sees it.
    pub(crate) fn read(&self, host: &Host, name: &str, file: &str) -> String {
        let path = self.folder(host, name).join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Starts a container that is a host, and gives the host.
    pub(crate) async fn start_host(&self, above: &Host, listeners: &mut Listeners, request: CreateContainer) -> Host {
        start(above, with_socket(request)).await;
        match listeners.recv().await {
            Some(ListenerChange::Open { host, .. }) => host,
            _ => panic!("no socket was opened"),
        }
    }

    /// Nothing of the engine's is left in the cgroup tree.
    pub(crate) fn assert_no_cgroups(&self) {
        let entries = std::fs::read_dir(&self.cgroup).unwrap().map(|entry| entry.unwrap());
        let left: Vec<_> = entries.filter(|entry| entry.file_type().unwrap().is_dir()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub(crate) type Listeners = tokio::sync::mpsc::UnboundedReceiver<ListenerChange>;

fn find(folder: &std::path::Path, name: &str) -> Option<PathBuf> {
    let below: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    below.iter().find(|path| path.ends_with(name)).cloned().or_else(|| below.iter().find_map(|path| find(path, name)))
}

/// A container without a network.
pub(crate) fn request(name: &str, cmd: &[&str]) -> CreateContainer {
    CreateContainer {
        name: Some(name.parse().unwrap()),
        platform: None,
        config: Config { image: "base".to_owned(), cmd: Some(cmd.iter().map(|word| (*word).to_owned()).collect()), ..Config::default() },
        host: HostConfig { network_mode: NetworkMode::None, ..HostConfig::default() },
        networks: BTreeMap::new(),
    }
}

/// One that sleeps, with limits.
pub(crate) fn sleeper(name: &str, resources: Resources) -> CreateContainer {
    limited(request(name, &["sleep", "100000"]), resources)
}

pub(crate) fn limited(mut request: CreateContainer, resources: Resources) -> CreateContainer {
    request.host.resources = resources;
    request
}

fn with_socket(mut request: CreateContainer) -> CreateContainer {
    request.host.binds = Some(vec![Mount {
        source: MountSource::Bind { source: ClientPath::absolute(SOCKET).unwrap(), create: true, non_recursive: false },
        target: ContainerPath::absolute(SOCKET).unwrap(),
        read_only: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        propagation: Propagation::default(),
        mode: String::new(),
        typed: Some(format!("{SOCKET}:{SOCKET}")),
    }]);
    request
}

pub(crate) async fn start(host: &Host, request: CreateContainer) {
    let name = request.name.clone().unwrap().to_string();
    host.create(request).await.unwrap_or_else(|error| panic!("create {name}: {error}"));
    host.start(&name).await.unwrap_or_else(|error| panic!("start {name}: {error}"));
}

/// Runs a container to its end. It is not removed.
pub(crate) async fn run(host: &Host, request: CreateContainer) -> Ended {
    let name = request.name.clone().unwrap().to_string();
    host.create(request).await.unwrap();
    let all = AttachOptions { stdout: true, stderr: true, ..AttachOptions::default() };
    let mut attached = host.attach(&name, all).await.unwrap();
    let waiting = host.wait(&name, WaitCondition::NextExit).await.unwrap();
    host.start(&name).await.unwrap_or_else(|error| panic!("start {name}: {error}"));
    let mut output = Vec::new();
    while let Some(piece) = attached.output.recv().await {
        output.extend_from_slice(&piece.bytes);
    }
    let code = waiting.done().await.code;
    let view = host.container(&name).unwrap();
    let oom_killed = view.state.exit().is_some_and(|exit| exit.oom_killed);
    Ended { code, output: String::from_utf8_lossy(&output).into_owned(), oom_killed }
}

/// What a command in a running container says.
pub(crate) async fn exec(host: &Host, name: &str, cmd: &[&str]) -> String {
    let cmd = cmd.iter().map(|word| (*word).to_owned()).collect();
    let config = ExecConfig { cmd, attach_stdout: true, attach_stderr: true, ..ExecConfig::default() };
    let id = host.exec_create(name, config).await.unwrap();
    let mut attached = host.exec_start(id.as_str(), ExecStart::default()).await.unwrap();
    let mut output = Vec::new();
    while let Some(piece) = attached.output.recv().await {
        output.extend_from_slice(&piece.bytes);
    }
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// Ends and removes a container.
pub(crate) async fn remove(host: &Host, name: &str) {
    host.remove(name, RemoveOptions { force: true, ..RemoveOptions::default() }).await.unwrap();
}
