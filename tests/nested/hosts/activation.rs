//! Sockets from a service manager: the daemon takes them over, answers who has already connected, and says how it is.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use droste_test_support::engine::droste_program;

/// As systemd starts it: the socket is descriptor 3, and the variables name this very process.
const MANAGER: &str = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";

/// What is left running, however the test ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, socket: UnixListener) -> Daemon {
    let path = |name: &str| dir.join(name).display().to_string();
    let child = Command::new("unshare")
        .args(["--net", "--mount", "bash", "-c", MANAGER, "bash"])
        .arg(droste_program())
        .args(["daemon", "-H", "fd://", "--data-root", &path("data"), "--exec-root", &path("run")])
        .args(["--pidfile", &path("pid")])
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .stdin(OwnedFd::from(socket))
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .spawn();
    Daemon(child.expect("unshare and bash run"))
}

fn ping(mut stream: UnixStream) -> String {
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: droste\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_service_managers_socket_is_served() {
    let dir = tempfile::Builder::new().prefix("droste-test-").tempdir_in("/var/tmp").unwrap();
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", std::fs::read_to_string(dir.path().join("log")).unwrap()));
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let at = dir.path().join("managers.sock");
    let socket = UnixListener::bind(&at).unwrap();
    let early = UnixStream::connect(&at).unwrap();
    let mut daemon = start(dir.path(), socket);
    assert_eq!(told(), "READY=1\n");
    for stream in [early, UnixStream::connect(&at).unwrap()] {
        let answer = ping(stream);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("OK"), "{answer}");
    }
    let pid = daemon.0.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    assert_eq!(told(), "STOPPING=1\n");
    assert!(daemon.0.wait().unwrap().success());
    assert!(at.exists(), "the socket is the manager's, and stays");
}
