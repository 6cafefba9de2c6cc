//! A test suite's day with the unmodified Testcontainers for Rust, and one that is killed: what `sdks/suite.py` and
//! `sdks/suite.js` are in their languages. They are cases of this program, which `testcontainers` runs where it wants a
//! suite to run. Given: `IMAGE` (busybox), `SCRATCH`, `RYUK` (a version of it), `DOCKER_HOST` or none.

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use testcontainers::bollard::models::{ContainerConfig, ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use testcontainers::bollard::query_parameters::{CommitContainerOptionsBuilder, CreateContainerOptions};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::wait::HttpWaitStrategy;
use testcontainers::core::{CmdWaitFor, ContainerPort, ExecCommand, IntoContainerPort, Mount, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, CopyTargetOptions, GenericImage, ImageExt};

type Running = ContainerAsync<GenericImage>;

const SERVE: &str = "mkdir -p /www; echo page >/www/index.html; cat /conf/* >>/www/index.html; echo begins; exec httpd -f -p 80 -h /www";
const PAGE: &str = "page\nfrom a bind\n";
const WEB: ContainerPort = ContainerPort::Tcp(80);
const RYUK: ContainerPort = ContainerPort::Tcp(8080);
const SESSION: &str = "org.testcontainers.session-id";

fn given(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// The library's clean-up at the end of a container's life needs a runtime with threads.
fn on_a_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

fn image() -> GenericImage {
    let name = given("IMAGE");
    let (repository, tag) = name.split_once(':').unwrap();
    GenericImage::new(repository, tag)
}

fn server(wait: WaitFor) -> ContainerRequest<GenericImage> {
    let conf = PathBuf::from(given("SCRATCH")).join("conf");
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::write(conf.join("line"), "from a bind\n").unwrap();
    let mount = Mount::bind_mount(conf.to_str().unwrap(), "/conf");
    image().with_exposed_port(WEB).with_wait_for(wait).with_cmd(["sh", "-c", SERVE]).with_mount(mount)
}

fn page() -> WaitFor {
    WaitFor::http(HttpWaitStrategy::new("/").with_port(WEB).with_expected_status_code(200_u16))
}

/// A name of this suite's alone.
fn own(what: &str) -> String {
    format!("{what}-{}-{}", given("HOSTNAME"), std::process::id())
}

/// A connection to what a container's port is mapped to.
async fn connect(container: &Running, port: ContainerPort) -> TcpStream {
    let host = container.get_host().await.unwrap().to_string();
    TcpStream::connect((host, container.get_host_port_ipv4(port).await.unwrap())).unwrap()
}

async fn get(container: &Running) -> String {
    let mut stream = connect(container, WEB).await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What a command prints in a container, and its exit code.
async fn exec(container: &Running, command: &[&str]) -> (i64, String) {
    let command = ExecCommand::new(command.iter().copied()).with_cmd_ready_condition(CmdWaitFor::exit());
    let mut done = container.exec(command).await.unwrap();
    let printed = String::from_utf8(done.stdout_to_vec().await.unwrap()).unwrap();
    (done.exit_code().await.unwrap().unwrap(), printed)
}

/// The whole day.
#[test]
#[ignore = "testcontainers runs it"]
fn day() {
    on_a_runtime(async {
        waits().await;
        exec_and_copy().await;
        network().await;
        println!("the day is done");
    });
}

/// A log line, HTTP, a command.
async fn waits() {
    let said = server(WaitFor::message_on_stdout("begins")).start().await.unwrap();
    assert_eq!(said.stdout_to_vec().await.unwrap(), b"begins\n");
    said.rm().await.unwrap();
    let serves = server(page()).start().await.unwrap();
    assert_eq!(get(&serves).await, PAGE);
    serves.rm().await.unwrap();
    let listens = server(WaitFor::Nothing).start().await.unwrap();
    let until = ExecCommand::new(["sh", "-c", "until wget -qO- http://127.0.0.1/; do sleep 0.1; done"]);
    listens.exec(until.with_cmd_ready_condition(CmdWaitFor::exit_code(0))).await.unwrap();
    assert_eq!(get(&listens).await, PAGE);
    listens.rm().await.unwrap();
}

async fn exec_and_copy() {
    let early = CopyTargetOptions::new("/early").with_mode(0o600);
    let container = server(WaitFor::message_on_stdout("begins")).with_copy_to(early, b"before the start\n".to_vec()).start().await.unwrap();
    assert_eq!(exec(&container, &["sh", "-c", "echo in; exit 3"]).await, (3, "in\n".to_owned()));
    assert_eq!(exec(&container, &["sh", "-c", "cat /early; stat -c %a /early"]).await, (0, "before the start\n600\n".to_owned()));
    let back: Vec<u8> = container.copy_file_from("/www/index.html", Vec::new()).await.unwrap();
    assert_eq!(back, PAGE.as_bytes());
    let file = Path::new(&given("SCRATCH")).join("back");
    container.copy_file_from("/early", file.as_path()).await.unwrap();
    assert_eq!(std::fs::read(file).unwrap(), b"before the start\n");
    // A first process that minds no signal but the last one.
    container.stop_with_timeout(Some(0)).await.unwrap();
    assert_eq!(container.exit_code().await.unwrap(), Some(137));
    container.start().await.unwrap();
    assert!(container.is_running().await.unwrap());
    container.rm().await.unwrap();
}

/// Containers of a network find each other by their names; this client gives no aliases besides.
async fn network() {
    let (network, web) = (own("net"), own("web"));
    let serves = server(page()).with_network(&network).with_container_name(&web).start().await.unwrap();
    let other = image().with_cmd(["sleep", "1000"]).with_network(&network).start().await.unwrap();
    assert_eq!(exec(&other, &["wget", "-qO-", &format!("http://{web}/")]).await, (0, PAGE.to_owned()));
    let docker = docker_client_instance().await.unwrap();
    docker.inspect_network(&network, None).await.unwrap();
    drop((serves, other));
    assert!(docker.inspect_network(&network, None).await.is_err(), "the network went with its last container");
}

/// A suite that waits to be killed. This client has no Ryuk of its own, so it starts one, as others do.
#[test]
#[ignore = "testcontainers runs it"]
fn orphans() {
    on_a_runtime(async {
        let session = own("session");
        let reaper = reaper().start().await.unwrap();
        let mut line = BufReader::new(connect(&reaper, RYUK).await);
        line.get_mut().write_all(format!("label={SESSION}={session}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        line.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ACK\n");
        let labels = HashMap::from([(SESSION.to_owned(), session.clone())]);
        leave(&labels).await;
        let waits = server(WaitFor::message_on_stdout("begins"));
        let _container = waits.with_labels(&labels).with_network(&session).start().await.unwrap();
        // On a line of its own: where there is one processor, the harness has begun one.
        println!("\nsession={session}");
        std::future::pending::<()>().await;
    });
}

fn reaper() -> ContainerRequest<GenericImage> {
    let socket = std::env::var("DOCKER_HOST").map_or_else(|_| "/var/run/docker.sock".to_owned(), |host| host.trim_start_matches("unix://").to_owned());
    let ryuk = GenericImage::new("testcontainers/ryuk".to_owned(), given("RYUK"));
    let ryuk = ryuk.with_exposed_port(8080.tcp()).with_wait_for(WaitFor::message_on_stdout("Started!"));
    let ryuk = ryuk.with_mount(Mount::bind_mount(socket, "/var/run/docker.sock")).with_env_var("RYUK_RECONNECTION_TIMEOUT", "1s");
    ryuk.with_host_config_modifier(|host_config| host_config.auto_remove = Some(true))
}

/// Makes what this client makes no labels for: a network, a volume and an image.
async fn leave(labels: &HashMap<String, String>) {
    let docker = docker_client_instance().await.unwrap();
    let network = NetworkCreateRequest { name: labels[SESSION].clone(), labels: Some(labels.clone()), ..Default::default() };
    docker.create_network(network).await.unwrap();
    docker.create_volume(VolumeCreateRequest { labels: Some(labels.clone()), ..Default::default() }).await.unwrap();
    let body = ContainerCreateBody { image: Some(given("IMAGE")), cmd: Some(vec!["true".to_owned()]), labels: Some(labels.clone()), ..Default::default() };
    let idle = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap();
    let options = CommitContainerOptionsBuilder::default().container(&idle.id).repo("orphan").tag("latest").build();
    docker.commit_container(options, ContainerConfig { labels: Some(labels.clone()), ..Default::default() }).await.unwrap();
}
