//! bollard's day. On Droste it speaks the version that it was built for, without asking; the real
//! Docker 28.5.2 refuses that one, so there it negotiates.

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker};
use droste_test_support::Engine;
use droste_test_support::image::{Archive, BASE};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

/// The whole day.
pub(crate) fn run(e: &Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(day(e));
}

async fn day(e: &Engine) {
    let socket = e.socket().to_str().unwrap();
    let mut docker = Docker::connect_with_unix(socket, 120, API_DEFAULT_VERSION).unwrap();
    if e.is_docker() {
        docker = docker.negotiate_version().await.unwrap();
    }
    let label = e.name("day");
    system(&docker).await;
    let name = e.name("box");
    life(e, &docker, &name, &label).await;
    files(&docker, &name).await;
    images(e, &docker, &name).await;
    attach(e, &docker, &label).await;
    events(e, &docker, &label).await;
    prune(&docker, &label).await;
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn body(label: &str, command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody { image: Some(BASE.to_owned()), cmd: words(command), labels: Some(HashMap::from([(label.to_owned(), "x".to_owned())])), ..Default::default() }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let options = query::CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.unwrap().id
}

async fn start(docker: &Docker, name: &str) {
    docker.start_container(name, None::<query::StartContainerOptions>).await.unwrap();
}

async fn exit_code(docker: &Docker, name: &str) -> i64 {
    let mut wait = Box::pin(docker.wait_container(name, None::<query::WaitContainerOptions>));
    match wait.next().await.unwrap() {
        Ok(reply) => reply.status_code,
        Err(Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

async fn text(output: impl Stream<Item = Result<LogOutput, Error>>) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    let mut output = Box::pin(output);
    while let Some(item) = output.next().await {
        match item.unwrap() {
            LogOutput::StdErr { message } => err += &String::from_utf8_lossy(&message),
            other => out += &other.to_string(),
        }
    }
    (out, err)
}

fn status(error: Error) -> u16 {
    match error {
        Error::DockerResponseServerError { status_code, .. } => status_code,
        other => panic!("{other}"),
    }
}

async fn system(docker: &Docker) {
    assert_eq!(docker.ping().await.unwrap(), "OK");
    assert_eq!(docker.info().await.unwrap().os_type.as_deref(), Some("linux"));
    assert!(docker.version().await.unwrap().api_version.is_some());
    let bridge = docker.inspect_network("bridge", None::<query::InspectNetworkOptions>).await.unwrap();
    assert_eq!(bridge.driver.as_deref(), Some("bridge"));
    docker.df(None::<query::DataUsageOptions>).await.unwrap();
}

async fn life(e: &Engine, docker: &Docker, name: &str, label: &str) {
    let missing = ContainerCreateBody { image: Some(e.name("nope")), ..Default::default() };
    assert_eq!(status(docker.create_container(None::<query::CreateContainerOptions>, missing).await.unwrap_err()), 404);
    let scratch = e.scratch();
    std::fs::write(scratch.path().join("file"), "seen\n").unwrap();
    let script = "trap 'exit 6' TERM; echo err >&2; echo up; while :; do sleep 1000 & wait; done";
    let mut wanted = body(label, &["sh", "-c", script]);
    wanted.exposed_ports = words(&["80/tcp"]);
    wanted.host_config = Some(HostConfig {
        binds: Some(vec![format!("{}:/mnt", scratch.path().display())]),
        port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(vec![PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None }]))])),
        memory: Some(64 << 20),
        ..Default::default()
    });
    let id = create(docker, name, wanted).await;
    start(docker, name).await;
    let inspect = docker.inspect_container(name, None::<query::InspectContainerOptions>).await.unwrap();
    assert_eq!(inspect.id, Some(id.clone()));
    assert_eq!(inspect.state.unwrap().running, Some(true));
    let listed = query::ListContainersOptionsBuilder::default().filters(&HashMap::from([("label", vec![label])])).build();
    let listed = docker.list_containers(Some(listed)).await.unwrap();
    assert_eq!(listed.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), [Some(id)]);
    assert_eq!(exec(docker, name, &["sh", "-c", "cat /mnt/file; exit 5"], "").await, (5, "seen\n".to_owned()));
    assert_eq!(exec(docker, name, &["cat"], "piped\n").await, (0, "piped\n".to_owned()));
    let top = docker.top_processes(name, None::<query::TopOptions>).await.unwrap();
    assert_eq!(top.titles.unwrap()[1], "PID");
    let one = query::StatsOptionsBuilder::default().stream(false).build();
    let stats: Vec<_> = docker.stats(name, Some(one)).try_collect().await.unwrap();
    assert!(stats[0].memory_stats.as_ref().unwrap().usage.unwrap() > 0);
    docker.pause_container(name).await.unwrap();
    docker.unpause_container(name).await.unwrap();
    docker.restart_container(name, None::<query::RestartContainerOptions>).await.unwrap();
    let out = || query::LogsOptionsBuilder::default().stdout(true).build();
    // The shell must have set its trap before it is told to end.
    while text(docker.logs(name, Some(out()))).await.0 != "up\nup\n" {}
    docker.stop_container(name, None::<query::StopContainerOptions>).await.unwrap();
    assert_eq!(exit_code(docker, name).await, 6);
    let both = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail("all").build();
    assert_eq!(text(docker.logs(name, Some(both))).await, ("up\nup\n".to_owned(), "err\nerr\n".to_owned()));
    assert_eq!(status(docker.kill_container(name, None::<query::KillContainerOptions>).await.unwrap_err()), 409);
}

async fn exec(docker: &Docker, name: &str, command: &[&str], stdin: &str) -> (i64, String) {
    let options = CreateExecOptions { cmd: words(command), attach_stdin: Some(!stdin.is_empty()), attach_stdout: Some(true), attach_stderr: Some(true), ..Default::default() };
    let id = docker.create_exec(name, options).await.unwrap().id;
    let StartExecResults::Attached { output, mut input } = docker.start_exec(&id, None).await.unwrap() else {
        panic!("the exec is detached");
    };
    input.write_all(stdin.as_bytes()).await.unwrap();
    input.shutdown().await.unwrap();
    let (out, _) = text(output).await;
    (docker.inspect_exec(&id).await.unwrap().exit_code.unwrap(), out)
}

async fn files(docker: &Docker, name: &str) {
    let archive = Archive::new().file("put", 0o644, b"body").finish();
    let to = query::UploadToContainerOptionsBuilder::default().path("/tmp").build();
    docker.upload_to_container(name, Some(to), bollard::body_full(archive.into())).await.unwrap();
    let from = query::DownloadFromContainerOptionsBuilder::default().path("/tmp/put").build();
    let chunks: Vec<_> = docker.download_from_container(name, Some(from)).try_collect().await.unwrap();
    assert!(chunks.concat().windows(4).any(|window| window == b"body"));
    let changes = docker.container_changes(name).await.unwrap().unwrap();
    assert!(changes.iter().any(|change| change.path == "/tmp/put"));
}

async fn images(e: &Engine, docker: &Docker, container: &str) {
    let repo = e.name("made");
    let options = query::CommitContainerOptionsBuilder::default().container(container).repo(&repo).tag("v1").comment("why").build();
    let id = docker.commit_container(options, ContainerConfig::default()).await.unwrap().id;
    let name = format!("{repo}:v1");
    assert_eq!(docker.inspect_image(&name).await.unwrap().id, Some(id));
    assert_eq!(docker.image_history(&name).await.unwrap()[0].comment, "why");
    let saved: Vec<_> = docker.export_image(&name).try_collect().await.unwrap();
    let remove = || docker.remove_image(&name, None::<query::RemoveImageOptions>, None);
    remove().await.unwrap();
    assert_eq!(status(remove().await.unwrap_err()), 404);
    let load = query::ImportImageOptionsBuilder::default().build();
    let lines: Vec<_> = docker.import_image(load, bollard::body_full(saved.concat().into()), None).try_collect().await.unwrap();
    assert_eq!(lines.last().unwrap().stream, Some(format!("Loaded image: {name}\n")));
    remove().await.unwrap();
}

async fn attach(e: &Engine, docker: &Docker, label: &str) {
    let mut wanted = body(label, &["cat"]);
    (wanted.open_stdin, wanted.stdin_once, wanted.attach_stdin) = (Some(true), Some(true), Some(true));
    let name = e.name("cat");
    create(docker, &name, wanted).await;
    let options = query::AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stream(true).build();
    let mut attached = docker.attach_container(&name, Some(options)).await.unwrap();
    start(docker, &name).await;
    attached.input.write_all(b"through\n").await.unwrap();
    attached.input.shutdown().await.unwrap();
    assert_eq!(text(attached.output).await.0, "through\n");
    assert_eq!(exit_code(docker, &name).await, 0);
}

async fn events(e: &Engine, docker: &Docker, label: &str) {
    let name = e.name("ev");
    let filters = HashMap::from([("container", vec![name.as_str()]), ("event", vec!["start", "die"])]);
    // The stream asks the daemon when it is first polled; what happened before that is replayed.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let options = query::EventsOptionsBuilder::default().filters(&filters).since(&since).build();
    let mut events = Box::pin(docker.events(Some(options)));
    create(docker, &name, body(label, &["true"])).await;
    start(docker, &name).await;
    assert_eq!(events.next().await.unwrap().unwrap().action.as_deref(), Some("start"));
    assert_eq!(events.next().await.unwrap().unwrap().action.as_deref(), Some("die"));
}

async fn prune(docker: &Docker, label: &str) {
    let filters = HashMap::from([("label", vec![label])]);
    let options = query::PruneContainersOptionsBuilder::default().filters(&filters).build();
    let pruned = docker.prune_containers(Some(options)).await.unwrap();
    assert_eq!(pruned.containers_deleted.unwrap().len(), 3);
}
