//! An engine for a test: Droste in namespaces of its own, or the real Docker that
//! `DROSTE_TEST_DOCKER_HOST` names. It owns starting, restarting and ending; what is left behind at
//! the end of the test process, `guard.sh` clears away.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::container::Container;
use crate::http::Request;

/// The version prefix that a target without one is given.
pub const API: &str = "/v1.51";

/// An engine that listens.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    kind: Kind,
    images: OnceLock<()>,
    anchor: OnceLock<i32>,
}

#[derive(Debug)]
enum Kind {
    /// The real Docker.
    Docker,
    /// A Droste that this process started.
    Droste(Mutex<Guard>),
    /// A container that is a host: its root as the caller can open it.
    Nested(PathBuf),
}

#[derive(Debug)]
struct Guard {
    _child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    dir: PathBuf,
    cgroup_parent: Option<String>,
}

impl Engine {
    /// The engine that this test process shares, with the base image loaded.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        let engine = SHARED.get_or_init(Self::start);
        engine.images.get_or_init(|| crate::image::load_base(engine));
        engine
    }

    /// An engine of the caller's own (of Docker there is only the one), without images.
    pub fn start() -> Self {
        if let Ok(host) = std::env::var("DROSTE_TEST_DOCKER_HOST") {
            let socket = host.strip_prefix("unix://").expect("DROSTE_TEST_DOCKER_HOST is unix://PATH");
            return Self {
                socket: socket.into(),
                kind: Kind::Docker,
                images: OnceLock::new(),
                anchor: OnceLock::new(),
            };
        }
        Self::start_droste(&[])
    }

    /// A Droste of the caller's own with more daemon options.
    pub fn start_droste(options: &[&str]) -> Self {
        require_root();
        let program = droste_program();
        let dir = tempfile::Builder::new()
            .prefix("droste-test-")
            .tempdir_in("/var/tmp")
            .expect("make a directory in /var/tmp")
            .keep();
        let guard = Guard::spawn(&program, &dir, options);
        log_on_panic(dir.join("log"));
        let engine = Self {
            socket: dir.join("docker.sock"),
            kind: Kind::Droste(Mutex::new(guard)),
            images: OnceLock::new(),
            anchor: OnceLock::new(),
        };
        engine.power_on();
        engine
    }

    /// Whether this is the real Docker.
    pub fn is_docker(&self) -> bool {
        matches!(self.kind, Kind::Docker)
    }

    /// For cases in which Droste means to differ: true (with a line that says so) on the real Docker.
    pub fn not_on_docker(&self, why: &str) -> bool {
        if self.is_docker() {
            println!("not on Docker: {why}");
        }
        self.is_docker()
    }

    /// For containers that look for the engine at `/var/run/docker.sock`: true on a real Docker that listens elsewhere.
    pub fn not_on_docker_elsewhere(&self) -> bool {
        self.socket != Path::new("/var/run/docker.sock")
            && self.not_on_docker("it does not listen at /var/run/docker.sock")
    }

    /// Where the engine listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The engine's address as `DOCKER_HOST` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Droste's own directory: `data`, `run`, `log`, `pid`.
    pub fn dir(&self) -> PathBuf {
        self.guard().dir.clone()
    }

    /// The control group of this engine's own, if it was started with one.
    pub fn cgroup_parent(&self) -> Option<String> {
        self.guard().cgroup_parent.clone()
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        let Kind::Droste(guard) = &self.kind else {
            panic!("only a Droste that this test started can be controlled");
        };
        guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts the daemon and waits until it answers.
    pub fn power_on(&self) {
        self.guard().command("start");
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&self.socket).is_err() {
            assert!(Instant::now() < deadline, "the engine does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.request("GET", "/_ping").send().expect_status(200);
        self.anchor();
    }

    /// Ends the daemon with SIGKILL; its containers run on.
    pub fn kill_daemon(&self) {
        self.guard().command("kill");
    }

    /// Ends the daemon with SIGTERM and waits for it; its containers run on.
    pub fn stop_daemon(&self) {
        self.guard().command("stop");
    }

    /// A request. A target without a version gets the current one; `~` before it prevents that.
    pub fn request(&self, method: &str, target: &str) -> Request {
        let target = match target.strip_prefix('~') {
            Some(exact) => exact.to_owned(),
            None if target.starts_with("/v1.") => target.to_owned(),
            None => format!("{API}{target}"),
        };
        Request::new(&self.socket, method, &target)
    }

    /// A GET that must give 200 with JSON.
    pub fn get(&self, target: &str) -> serde_json::Value {
        let reply = self.request("GET", target).send();
        reply.expect_status(200);
        reply.json()
    }

    /// The process that listens, as the caller sees it.
    pub fn pid(&self) -> i32 {
        let stream = UnixStream::connect(&self.socket).expect("connect to the engine");
        let peer = rustix::net::sockopt::socket_peercred(&stream).expect("read peer credentials");
        peer.pid.as_raw_nonzero().get()
    }

    /// A process that is where the daemon is and outlives it: the one that started it.
    fn anchor(&self) -> i32 {
        *self.anchor.get_or_init(|| {
            let daemon = self.pid();
            let status = std::fs::read_to_string(format!("/proc/{daemon}/status"));
            let status = status.expect("read the daemon's status");
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            match &self.kind {
                Kind::Droste(_) => parent.and_then(|pid| pid.trim().parse().ok()),
                _ => Some(daemon),
            }
            .expect("a process has a parent")
        })
    }

    /// A path of the host's root as the caller can open it, its `/proc` included.
    pub fn root_path(&self, path: &str) -> PathBuf {
        let root = match &self.kind {
            Kind::Nested(root) => root.display().to_string(),
            _ => format!("/proc/{}/root", self.anchor()),
        };
        format!("{root}{path}").into()
    }

    /// The host's network namespace as the caller can open it.
    pub fn netns_path(&self) -> PathBuf {
        match &self.kind {
            Kind::Nested(_) => self.root_path("/proc/1/ns/net"),
            _ => format!("/proc/{}/ns/net", self.anchor()).into(),
        }
    }

    /// The host that a running container with a socket is, spoken to through that socket.
    pub fn host_of(&self, container: &Container<'_>) -> Self {
        let pid = container.inspect()["State"]["Pid"].clone();
        let root = self.root_path(&format!("/proc/{pid}/root"));
        Self {
            socket: root.join("var/run/docker.sock"),
            kind: Kind::Nested(root),
            images: OnceLock::new(),
            anchor: OnceLock::new(),
        }
    }

    /// A name that nobody else uses.
    pub fn name(&self, hint: &str) -> String {
        unique(hint)
    }

    /// An empty directory that both the test and the engine see under the same path.
    pub fn scratch(&self) -> tempfile::TempDir {
        tempfile::Builder::new().prefix("droste-scratch-").tempdir_in("/tmp").expect("make a directory in /tmp")
    }
}

impl Guard {
    fn spawn(program: &Path, dir: &Path, options: &[&str]) -> Self {
        let script = dir.join("guard.sh");
        std::fs::write(&script, include_str!("guard.sh")).expect("write the guard");
        let errors = std::fs::File::create(dir.join("guard.log")).expect("create the guard's log");
        let mut child = Command::new("bash")
            .arg(&script)
            .arg("outer")
            .arg(dir)
            .arg(program)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .expect("start bash");
        let commands = child.stdin.take().expect("a piped input");
        let answers = BufReader::new(child.stdout.take().expect("a piped output"));
        let parent = options.iter().position(|option| *option == "--cgroup-parent");
        let cgroup_parent = parent.map(|at| options[at + 1].to_owned());
        Self { _child: child, commands, answers, dir: dir.to_owned(), cgroup_parent }
    }

    fn command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("speak to the guard");
        let mut answer = String::new();
        let _ = self.answers.read_line(&mut answer);
        let said = || std::fs::read_to_string(self.dir.join("guard.log")).unwrap_or_default();
        assert_eq!(answer.trim_end(), command, "the guard said: {}", said());
    }
}

/// A name that no other test and no other test process uses.
pub fn unique(hint: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{number}-{hint}", std::process::id())
}

/// The program under test: `DROSTE_BIN`, or the newest one built in the target directory.
pub fn droste_program() -> PathBuf {
    if let Some(program) = std::env::var_os("DROSTE_BIN") {
        return program.into();
    }
    let test = std::env::current_exe().expect("know the test's own path");
    let target = test
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .expect("the test runs from a cargo target directory");
    let places = ["x86_64-unknown-linux-gnu/release", "release", "debug"];
    places
        .iter()
        .map(|place| target.join(place).join("droste"))
        .filter(|program| program.exists())
        .max_by_key(|program| program.metadata().and_then(|m| m.modified()).ok())
        .unwrap_or_else(|| panic!("no droste in {}: build it, or set DROSTE_BIN", target.display()))
}

/// The binds that bring the program under test into a container that has no libraries, as `/bin/droste`.
pub fn droste_binds() -> Vec<String> {
    let program = droste_program().canonicalize().expect("the program under test is there");
    let needs = Command::new("ldd").arg(&program).output().expect("ldd runs").stdout;
    let needs = String::from_utf8_lossy(&needs);
    let libraries =
        needs.split_whitespace().filter(|word| word.starts_with('/')).map(|path| format!("{path}:{path}:ro"));
    libraries.chain([format!("{}:/bin/droste:ro", program.display())]).collect()
}

fn require_root() {
    assert!(rustix::process::geteuid().is_root(), "these tests start containers: run them as root");
}

/// Makes a failing test show the end of the daemon's log.
fn log_on_panic(log: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let Ok(text) = std::fs::read_to_string(&log) else {
            return;
        };
        let lines: Vec<&str> = text.lines().collect();
        let mut tail = String::new();
        for line in &lines[lines.len().saturating_sub(25)..] {
            let _ = writeln!(tail, "  | {line}");
        }
        eprintln!("the daemon's log ends:\n{tail}");
    }));
}
