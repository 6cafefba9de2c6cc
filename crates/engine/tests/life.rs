//! A container's life on the engine itself, on a real kernel. Needs root and Debian's `busybox-static`.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use droste_engine::{
    AttachOptions, Engine, ExecStart, ImportOptions, ListenerChange, LogOptions, RemoveOptions, Settings, WaitCondition,
};
use droste_model::container::{Config, CreateContainer, ExecConfig, HostConfig};

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(cgroups) =
            droste_cgroup::Layout::detect().and_then(|layout| droste_cgroup::Cgroups::open(layout, &self.cgroup))
        {
            let _ = cgroups.get(cgroups.parent()).remove();
        }
    }
}

struct Scratch {
    cgroup: String,
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests launch containers: run them as root");
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let cgroup = format!("/droste-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { cgroup, folder: tempfile::tempdir_in("/var/tmp").unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings {
            data_root: self.folder.path().join("data"),
            exec_root: self.folder.path().join("exec"),
            cgroup_parent: self.cgroup.clone(),
            ..Settings::default()
        }
    }
}

fn busybox() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists());
    let program = std::fs::read(program.expect("install busybox-static")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, "bin/busybox", program.as_slice()).unwrap();
    for applet in ["sh", "cat", "sleep", "echo", "true", "id", "ls", "mount", "ps", "hostname", "kill"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

fn request(name: &str, cmd: &[&str]) -> CreateContainer {
    CreateContainer {
        name: Some(name.parse().unwrap()),
        platform: None,
        config: Config {
            image: "busybox".to_owned(),
            cmd: Some(cmd.iter().map(|word| (*word).to_owned()).collect()),
            ..Config::default()
        },
        host: HostConfig { network_mode: droste_model::network::NetworkMode::None, ..HostConfig::default() },
        networks: BTreeMap::new(),
    }
}

async fn engine(scratch: &Scratch) -> Arc<Engine> {
    let engine = Engine::open(scratch.settings()).await.unwrap();
    let options = ImportOptions { reference: Some("busybox".parse().unwrap()), ..ImportOptions::default() };
    engine.machine().import(Box::new(std::io::Cursor::new(busybox())), options, Arc::new(|_| ())).await.unwrap();
    engine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_logs_execs_and_leaves_nothing() {
    let scratch = Scratch::new();
    let engine = engine(&scratch).await;
    let host = engine.machine();
    host.create(request("one", &["sh", "-c", "echo out; echo err >&2; exit 3"])).await.unwrap();
    let mut attached =
        host.attach("one", AttachOptions { stdout: true, stderr: true, ..AttachOptions::default() }).await.unwrap();
    let waiting = host.wait("one", WaitCondition::NextExit).await.unwrap();
    host.start("one").await.unwrap();
    assert_eq!(waiting.done().await.code, 3);
    let mut seen = Vec::new();
    while let Some(piece) = attached.output.recv().await {
        seen.push((piece.stream as u8, String::from_utf8(piece.bytes.to_vec()).unwrap()));
    }
    seen.sort();
    assert_eq!(seen, [(1, "out\n".to_owned()), (2, "err\n".to_owned())]);
    let mut logs = host.logs("one", LogOptions { stdout: true, stderr: true, ..LogOptions::default() }).await.unwrap();
    let mut lines = 0;
    while let Some(line) = logs.lines.recv().await {
        line.unwrap();
        lines += 1;
    }
    assert_eq!(lines, 2);

    host.create(request("two", &["sleep", "1000"])).await.unwrap();
    host.start("two").await.unwrap();
    let exec = ExecConfig { cmd: vec!["hostname".into()], attach_stdout: true, ..ExecConfig::default() };
    let id = host.exec_create("two", exec).await.unwrap();
    let mut attached = host.exec_start(id.as_str(), ExecStart::default()).await.unwrap();
    let mut output = Vec::new();
    while let Some(piece) = attached.output.recv().await {
        output.extend_from_slice(&piece.bytes);
    }
    let two = host.container("two").unwrap();
    assert_eq!(String::from_utf8(output).unwrap().trim(), two.id.short());
    assert_eq!(host.exec(id.as_str()).unwrap().exit_code, Some(0));
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    host.remove("two", force).await.unwrap();
    host.remove("one", RemoveOptions::default()).await.unwrap();
    assert!(host.containers().is_empty());
    for folder in ["data/containers", "exec/containers"] {
        let left: Vec<_> = std::fs::read_dir(scratch.folder.path().join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}

/// Asks for the engine's socket as everybody does.
fn with_socket(mut request: CreateContainer) -> CreateContainer {
    use droste_model::mount::{Mount, MountSource, Propagation};
    let path = "/var/run/docker.sock";
    request.host.binds = Some(vec![Mount {
        source: MountSource::Bind {
            source: droste_model::path::ClientPath::absolute(path).unwrap(),
            create: true,
            non_recursive: false,
        },
        target: droste_model::path::ContainerPath::absolute(path).unwrap(),
        read_only: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        propagation: Propagation::default(),
        mode: String::new(),
        typed: Some(format!("{path}:{path}")),
    }]);
    request
}

fn bridged(mut request: CreateContainer) -> CreateContainer {
    request.host.network_mode = droste_model::network::NetworkMode::Default;
    request
}

async fn output_of(host: &droste_engine::Host, name: &str, cmd: &[&str]) -> String {
    let config = ExecConfig {
        cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecConfig::default()
    };
    let id = host.exec_create(name, config).await.unwrap();
    let mut attached = host.exec_start(id.as_str(), ExecStart::default()).await.unwrap();
    let mut output = Vec::new();
    while let Some(piece) = attached.output.recv().await {
        output.extend_from_slice(&piece.bytes);
    }
    String::from_utf8_lossy(&output).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_with_a_socket_is_a_host_three_levels_deep() {
    droste_network::Namespace::create()
        .unwrap()
        .run_in(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(three_levels());
        })
        .unwrap();
}

async fn three_levels() {
    let scratch = Scratch::new();
    let engine = engine(&scratch).await;
    let mut listeners = engine.take_listeners().unwrap();
    let machine = engine.machine();
    let mut hosts = vec![machine.clone()];
    for level in 0..2 {
        let above = hosts[level].clone();
        above.create(with_socket(bridged(request("host", &["sleep", "1000"])))).await.unwrap();
        above.start("host").await.unwrap();
        let Some(ListenerChange::Open { host, .. }) = listeners.recv().await else { panic!("no socket was opened") };
        assert_eq!(host.level(), level + 1);
        assert!(host.containers().is_empty());
        hosts.push(host);
    }
    let deepest = &hosts[2];
    deepest.create(bridged(request("host", &["sleep", "1000"]))).await.unwrap();
    deepest.start("host").await.unwrap();
    // The deepest container is a process of every host above, and of none beside.
    let seen = output_of(&machine, "host", &["ps", "-o", "pid,args"]).await;
    assert_eq!(seen.matches("sleep 1000").count(), 3, "{seen}");
    let seen = output_of(deepest, "host", &["ps", "-o", "pid,args"]).await;
    assert_eq!(seen.matches("sleep 1000").count(), 1, "{seen}");
    // Names are a host's own; ids of another level are unknown.
    let outer = machine.container("host").unwrap();
    assert!(deepest.container(outer.id.as_str()).is_err());
    assert_eq!(hosts[1].container(outer.id.short()).unwrap().id, outer.id, "SELF answers to its short id");
    // Subnets do not overlap with the host's own uplink.
    let subnet = |host: &droste_engine::Host| host.network("bridge").unwrap().subnets[0].subnet.clone();
    let subnets: std::collections::BTreeSet<String> = hosts.iter().map(subnet).collect();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    // The outermost dies: everything below ends with it, and is remembered as ended.
    machine.kill("host", None).await.unwrap();
    for host in &hosts[1..] {
        assert!(host.containers().iter().all(|container| container.state.running().is_none()));
    }
    machine.start("host").await.unwrap();
    assert_eq!(hosts[1].containers().len(), 1, "a host that starts again has what it had");
    machine.remove("host", RemoveOptions { force: true, ..RemoveOptions::default() }).await.unwrap();
    for folder in ["data/containers", "exec/containers"] {
        let left: Vec<_> = std::fs::read_dir(scratch.folder.path().join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}
