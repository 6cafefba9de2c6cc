//! A container's life on the engine itself, on a real kernel. Needs root and Debian's `busybox-static`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use droste_engine::{AttachOptions, Engine, ExecStart, ImportOptions, LogOptions, RemoveOptions, Settings, WaitCondition};
use droste_model::container::{Config, CreateContainer, ExecConfig, HostConfig};

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests launch containers: run them as root");
        Self { folder: tempfile::tempdir_in("/var/tmp").unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings {
            data_root: self.folder.path().join("data"),
            exec_root: self.folder.path().join("exec"),
            cgroup_parent: format!("/droste-test-{}", std::process::id()),
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
        host: HostConfig {
            network_mode: droste_model::network::NetworkMode::None,
            ..HostConfig::default()
        },
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
    let mut attached = host
        .attach("one", AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() })
        .await
        .unwrap();
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
