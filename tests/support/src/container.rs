//! A container of a test: made under a name of its own, removed when it goes out of scope.

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::{Raw, demultiplex};
use crate::image::BASE;

/// A container that is removed, by force, when dropped. It displays as its id.
#[derive(Debug)]
pub struct Container<'e> {
    engine: &'e Engine,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
}

/// What a command in a container did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i64,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A create body that runs a shell script.
pub fn sh(script: &str) -> Value {
    json!({"Cmd": ["sh", "-c", script]})
}

/// A create body that runs a shell script, with a `HostConfig`.
pub fn sh_with(script: &str, host_config: Value) -> Value {
    json!({"Cmd": ["sh", "-c", script], "HostConfig": host_config})
}

/// A create body for a container that does nothing until it is told to end.
pub fn idle() -> Value {
    sh("trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
}

impl Engine {
    /// Creates a container from the base image, unless the body names another.
    pub fn create(&self, body: Value) -> Container<'_> {
        self.create_named(&self.name("c"), body)
    }

    /// Creates a container under a given name.
    pub fn create_named(&self, name: &str, mut body: Value) -> Container<'_> {
        if body.get("Image").is_none() {
            body["Image"] = json!(BASE);
        }
        let reply = self.request("POST", &format!("/containers/create?name={name}")).json(&body).send();
        reply.expect_status(201);
        let id = reply.json()["Id"].as_str().expect("an id").to_owned();
        Container { engine: self, id, name: name.to_owned() }
    }

    /// Creates and starts a container.
    pub fn run(&self, body: Value) -> Container<'_> {
        let container = self.create(body);
        container.start();
        container
    }

    /// Creates and starts a container that must fail at one of the two, with those words in the message.
    /// Docker finds some mistakes only at the start; to find them earlier is no difference to a client.
    pub fn refuses(&self, mut body: Value, words: &str) {
        body["Image"] = json!(BASE);
        let create = self.request("POST", "/containers/create").json(&body).send();
        let reply = if create.status == 201 {
            let id = create.json()["Id"].as_str().expect("an id").to_owned();
            let container = Container::adopt(self, &id);
            self.request("POST", &container.target("/start")).send()
        } else {
            create
        };
        reply.expect_one_of(&[400, 404, 409, 500]);
        reply.check(".message", "has", &json!(words));
    }

    /// Runs a container to its end.
    pub fn outcome(&self, body: Value) -> Outcome {
        let container = self.run(body);
        let code = container.wait();
        let (out, err) = container.logs();
        Outcome { code, out, err }
    }

    /// What a shell script prints in a container with that `HostConfig`; it must succeed.
    pub fn output(&self, script: &str, host_config: Value) -> String {
        let outcome = self.outcome(sh_with(script, host_config));
        assert_eq!(outcome.code, 0, "{script}: {outcome:?}");
        outcome.out
    }
}

impl<'e> Container<'e> {
    /// Takes a container over that something else made.
    pub fn adopt(engine: &'e Engine, id: &str) -> Self {
        Self { engine, id: id.to_owned(), name: id.to_owned() }
    }

    fn target(&self, rest: &str) -> String {
        format!("/containers/{}{rest}", self.id)
    }

    /// A POST on the container that must give `status`.
    pub fn post(&self, rest: &str, status: u16) {
        let reply = self.engine.request("POST", &self.target(rest)).send();
        reply.expect_status(status);
    }

    /// Starts it.
    pub fn start(&self) {
        self.post("/start", 204);
    }

    /// Waits for its end; gives the exit code.
    pub fn wait(&self) -> i64 {
        let reply = self.engine.request("POST", &self.target("/wait")).send();
        reply.expect_status(200);
        reply.json()["StatusCode"].as_i64().expect("a status code")
    }

    /// All of its standard output and standard error.
    pub fn logs(&self) -> (String, String) {
        let target = self.target("/logs?stdout=1&stderr=1");
        let reply = self.engine.request("GET", &target).send();
        reply.expect_status(200);
        demultiplex(&reply.body)
    }

    /// Follows the output until a line contains `wanted`.
    pub fn await_log(&self, wanted: &str) {
        let target = self.target("/logs?stdout=1&stderr=1&follow=1");
        let mut open = self.engine.request("GET", &target).open();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let piece = open.piece();
            let piece = piece.unwrap_or_else(|| panic!("the log ended before {wanted:?}: {seen:?}"));
            seen.extend(piece);
        }
    }

    /// What inspect says.
    pub fn inspect(&self) -> Value {
        self.engine.get(&self.target("/json"))
    }

    /// Creates an exec; gives its id.
    pub fn exec_create(&self, body: &Value) -> String {
        let reply = self.engine.request("POST", &self.target("/exec")).json(body).send();
        reply.expect_status(201);
        reply.json()["Id"].as_str().expect("an id").to_owned()
    }

    /// Runs a command inside to its end.
    pub fn exec(&self, command: &[&str]) -> Outcome {
        self.exec_with(json!({"Cmd": command}))
    }

    /// Runs a command inside to its end, with exec options.
    pub fn exec_with(&self, mut body: Value) -> Outcome {
        body["AttachStdout"] = json!(true);
        body["AttachStderr"] = json!(true);
        let id = self.exec_create(&body);
        let mut raw = exec_start(self.engine, &id, false);
        let (out, err) = demultiplex(&raw.rest());
        let inspect = self.engine.get(&format!("/exec/{id}/json"));
        let code = inspect["ExitCode"].as_i64();
        Outcome { code: code.unwrap_or_else(|| panic!("no exit code: {inspect}")), out, err }
    }

    /// Attaches with a hijack and the given query.
    pub fn attach(&self, query: &str) -> Raw {
        let target = self.target(&format!("/attach?{query}"));
        let open = self.engine.request("POST", &target).upgrade().open();
        assert_eq!(open.status, 101, "{target}: {:?}", open.headers);
        open.hijack()
    }
}

/// Starts an exec with a hijack.
pub fn exec_start(engine: &Engine, id: &str, tty: bool) -> Raw {
    let open = engine.request("POST", &format!("/exec/{id}/start")).json(&json!({"Tty": tty})).upgrade().open();
    assert_eq!(open.status, 101, "start of exec {id}");
    open.hijack()
}

impl std::fmt::Display for Container<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let remove = || drop(self.engine.request("DELETE", &self.target("?force=1&v=1")).send());
        if std::thread::panicking() {
            // A test that fails because its daemon is gone shall say that, and not abort here.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
        } else {
            remove();
        }
    }
}
