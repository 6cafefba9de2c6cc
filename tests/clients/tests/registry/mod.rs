//! A registry to push to and pull from: Debian's `docker-registry` on a loopback address of the
//! engine's network namespace, over plain HTTP, which Docker allows there.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use droste_test_support::Engine;
use tempfile::TempDir;

/// A registry that ends when dropped.
pub(crate) struct Registry {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Registry {
    /// Starts one that everybody may use, and waits until it listens.
    pub(crate) fn start(e: &Engine, clients: &Path) -> Self {
        Self::with(e, clients, "")
    }

    /// Starts one that wants a user's password.
    pub(crate) fn with_password(e: &Engine, clients: &Path, user: &str, password: &str) -> Self {
        let known = Command::new("htpasswd").args(["-Bbn", user, password]).output().expect("apache2-utils (scripts/setup test)");
        let file = e.dir().join("htpasswd");
        std::fs::write(&file, known.stdout).unwrap();
        Self::with(e, clients, &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()))
    }

    fn with(e: &Engine, clients: &Path, more: &str) -> Self {
        let dir = e.scratch();
        let port = e.in_netns(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!("version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{more}", storage.display());
        std::fs::write(&config, text).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", e.pid()))
            .arg(clients.join("bin/docker-registry"))
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry");
        let mut registry = Self { child, port, _dir: dir };
        while e.in_netns(|| TcpStream::connect(("127.0.0.1", port))).is_err() {
            assert!(registry.child.try_wait().unwrap().is_none(), "docker-registry ended at once");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        registry
    }

    /// `host:port`, as an image's name begins.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
