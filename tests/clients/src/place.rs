//! Where a client of a language's own runs: on the machine, or installed in an image of which a container that is a
//! host is made. Its scripts are in `sdks/` and `days/`, which are `/sdks` and `/days` there.

use std::path::Path;
use std::process::Command;

use droste_test_support::image::{BASE, encode, import, rootfs};
use droste_test_support::{Container, Engine, json};
use tempfile::TempDir;

use crate::{clients, folder};

/// Its socket, which makes a container a host.
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code, or none after a signal.
    pub code: Option<i64>,
    /// Both of its outputs.
    pub text: String,
}

impl Said {
    /// What it said, if it succeeded.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }
}

/// The bind that brings the running test program into a container.
pub fn itself() -> String {
    format!("{}:/itself:ro", std::env::current_exe().unwrap().display())
}

/// An engine's client and where it runs.
pub trait Place {
    /// The host on which its containers are.
    fn host(&self) -> &Engine;
    /// Runs a script of a shell to its end, where `IMAGE` is busybox, `SDKS` the folder with scripts, `SCRATCH` one
    /// that is the client's own and `ITSELF` the running test program, in a container if `itself` is bound there.
    fn shell(&self, script: &str) -> Said;
}

/// On the machine, in the engine's network.
pub struct Machine<'e> {
    engine: &'e Engine,
    scratch: TempDir,
}

impl<'e> Machine<'e> {
    /// The machine on which the engine runs.
    pub fn new(engine: &'e Engine) -> Self {
        Self { engine, scratch: engine.scratch() }
    }
}

impl Place for Machine<'_> {
    fn host(&self) -> &Engine {
        self.engine
    }

    fn shell(&self, script: &str) -> Said {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.engine.netns_path().display()))
            .args(["sh", "-c", script])
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_HOST", self.engine.host())
            .env("IMAGE", BASE)
            .env("SDKS", folder("sdks"))
            .env("SCRATCH", self.scratch.path())
            .env("ITSELF", std::env::current_exe().unwrap())
            .env("HOME", self.scratch.path())
            .env("TMPDIR", self.scratch.path())
            .env("NODE_PATH", clients().join("sdks/js/testcontainers/node_modules"))
            .env("PATH", format!("{}:{path}", clients().join("py/bin").display()))
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Said { code: output.status.code().map(i64::from), text }
    }
}

/// In a container that is a host.
pub struct Inside<'e> {
    container: Container<'e>,
    host: Engine,
}

impl<'e> Inside<'e> {
    /// A container of an image, with more of a `HostConfig`'s binds.
    pub fn new(engine: &'e Engine, image: &str, more: &[String]) -> Self {
        let binds: Vec<_> = std::iter::once(SOCKET).chain(more.iter().map(String::as_str)).collect();
        let env = [&format!("IMAGE={BASE}"), "SDKS=/sdks", "SCRATCH=/tmp", "ITSELF=/itself"];
        let wait = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
        let container = engine.run(json!({"Image": image, "Cmd": ["sh", "-c", wait], "Env": env, "HostConfig": {"Binds": binds, "Init": true}}));
        let host = engine.host_of(&container);
        Self { container, host }
    }

    /// The container.
    pub fn container(&self) -> &Container<'e> {
        &self.container
    }
}

impl Place for Inside<'_> {
    fn host(&self) -> &Engine {
        &self.host
    }

    fn shell(&self, script: &str) -> Said {
        let outcome = self.container.exec(&["sh", "-c", script]);
        Said { code: Some(outcome.code), text: outcome.out + &outcome.err }
    }
}

/// An image in which a client is installed.
pub struct Installed<'e> {
    engine: &'e Engine,
    /// Its name.
    pub name: String,
}

impl Drop for Installed<'_> {
    /// What is in a Droste of the test's own goes with it, and to unlink thousands of files takes long.
    fn drop(&mut self) {
        if self.engine.is_docker() {
            self.engine.request("DELETE", &format!("/images/{}?force=1", self.name)).send();
        }
    }
}

/// An image of busybox, a language's runtime and a client of it.
pub fn installed<'e>(engine: &'e Engine, language: &str, client: &str) -> Installed<'e> {
    let sdks = clients().join("sdks");
    let mut archive = rootfs().link("usr/bin/env", "/bin/env").tree("sdks", &folder("sdks")).tree("days", &folder("days"));
    let mut place = |path: &str, from: &Path| {
        let with = std::mem::take(&mut archive);
        archive = with.tree(path, from);
    };
    let env = match language {
        "python" => {
            place("", &sdks.join("python"));
            place("opt/client", &sdks.join("py").join(client));
            "ENV PYTHONPATH=/opt/client PATH=/opt/client/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1"
        }
        "node" => {
            place("", &sdks.join("node"));
            place("opt/client", &sdks.join("js").join(client));
            "ENV NODE_PATH=/opt/client/node_modules PATH=/opt/client/node_modules/.bin:/usr/bin:/bin"
        }
        other => panic!("no language is called {other}"),
    };
    let name = format!("{}:latest", engine.name(client));
    import(engine, &name, &[env], archive.finish());
    Installed { engine, name }
}

/// Where Testcontainers for Python says which Ryuk it wants.
pub const PYTHONS_RYUK: &str = "py/testcontainers/testcontainers/core/config.py";

/// The version of Ryuk that a client's source asks for.
pub fn asked_for(source: &str) -> String {
    let text = std::fs::read_to_string(clients().join("sdks").join(source)).unwrap();
    let (_, version) = text.split_once("\"testcontainers/ryuk:").unwrap();
    version.split('"').next().unwrap().to_owned()
}

/// Names an image with Python in it as Testcontainers' Ryuk, in a version, with the stand-in as its program and less
/// patience than the real one has.
pub fn ryuk(engine: &Engine, image: &Installed<'_>, version: &str) {
    let from = engine.create(json!({"Image": image.name, "Cmd": ["true"]}));
    let changes = encode("CMD [\"python3\",\"/sdks/ryuk.py\"]\nLABEL org.testcontainers.ryuk=true\nENV RYUK_RECONNECTION_TIMEOUT=1s");
    let target = format!("/commit?container={from}&repo=testcontainers/ryuk&tag={version}&changes={changes}");
    engine.request("POST", &target).send().expect_status(201);
}
