//! The host that lives: with a container that serves on a published port and by name, one that asks, a volume, a tag, a
//! network, and a host with a container of its own. It is killed too, and its restart policies bring it back.

use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::sync::Mutex;

use droste_test_support::container::sh_with;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Value, json};

use super::at_last;
use super::victim::Process;
use crate::{host_body, init_of, sleeper};

/// The host that lives.
pub(super) struct Keeper<'e> {
    e: &'e Engine,
    container: Container<'e>,
    known: Mutex<Known>,
}

/// What was known when it was complete: its first process, to be killed whether the daemon is there or not.
#[derive(Default)]
struct Known {
    pid: Value,
    process: Option<Process>,
    killed: bool,
}

fn always(mut config: Value) -> Value {
    config["RestartPolicy"] = json!({"Name": "always"});
    config
}

impl<'e> Keeper<'e> {
    pub(super) fn new(e: &'e Engine) -> Self {
        let container = e.create_named("keeper", host_body(always(json!({}))));
        container.start();
        let keeper = Self { e, container, known: Mutex::default() };
        keeper.furnish(&keeper.host());
        keeper.is_complete();
        keeper
    }

    /// It, by the process that it is now.
    pub(super) fn host(&self) -> Engine {
        self.e.host_of(&self.container)
    }

    fn furnish(&self, host: &Engine) {
        let post = |target: &str, body: Value, status: u16| {
            host.request("POST", target).json(&body).send().expect_status(status);
        };
        post("/networks/create", json!({"Name": "kept"}), 201);
        post("/volumes/create", json!({"Name": "kept"}), 201);
        host.request("POST", &format!("/images/{BASE}/tag?repo=kept&tag=1")).send().expect_status(201);
        let on = |more: Value| {
            let mut config = always(json!({"NetworkMode": "kept", "Binds": ["kept:/kept"]}));
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            config
        };
        let mut web = sh_with("echo word > /kept/word; exec httpd -f -p 80 -h /kept", on(json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})));
        web["ExposedPorts"] = json!({"80/tcp": {}});
        let below = host_body(always(json!({})));
        for (name, body) in [("web", web), ("asks", sleeper(on(json!({})))), ("below", below)] {
            let made = ManuallyDrop::new(host.create_named(name, body));
            made.start();
            if name == "below" {
                let deeper = host.host_of(&made);
                ManuallyDrop::new(deeper.create_named("deep", sleeper(always(json!({}))))).start();
            }
        }
    }

    pub(super) fn kill(&self) {
        let mut known = self.known.lock().unwrap();
        known.killed = true;
        known.process.as_ref().unwrap().kill();
    }

    /// Waits until all of it is there.
    pub(super) fn is_complete(&self) {
        at_last(|| self.check());
        let process = Some(Process::new(init_of(self.e, &self.container)));
        *self.known.lock().unwrap() = Known { pid: self.container.inspect()["State"]["Pid"].clone(), process, killed: false };
    }

    fn check(&self) -> Result<(), String> {
        let state = state_of(self.e, "keeper")?;
        let known = self.known.lock().unwrap();
        if known.killed && state["Pid"] == known.pid {
            return Err("that its death was noticed".to_owned());
        }
        drop(known);
        let host = self.host();
        if !host.socket().exists() {
            return Err("its socket".to_owned());
        }
        let below = state_of(&host, "below")?;
        let starts = [&state, &below].map(|state| state["StartedAt"].as_str().unwrap_or_default().to_owned());
        let deeper = host.host_of(&adopt(&host, "below"));
        if !deeper.socket().exists() {
            return Err("the socket of the host on it".to_owned());
        }
        let deep = state_of(&deeper, "deep")?;
        let deep = deep["StartedAt"].as_str().unwrap_or_default();
        if !(starts[0] <= starts[1] && starts[1].as_str() <= deep) {
            return Err(format!("an order of starts: {starts:?} {deep}"));
        }
        state_of(&host, "web")?;
        state_of(&host, "asks")?;
        self.answers(&host)
    }

    /// Its port, its names, its networks, its volume and its tag.
    fn answers(&self, host: &Engine) -> Result<(), String> {
        let port = host.in_netns(|| get_word(8080)).map_err(|error| format!("its port: {error}"))?;
        let said = adopt(host, "asks").exec(&["wget", "-q", "-O", "-", "http://web/word"]);
        if !port.ends_with("\r\n\r\nword\n") || said.out != "word\n" {
            return Err(format!("an answer: {port:?} {said:?}"));
        }
        for target in ["/networks/kept", "/volumes/kept", "/images/kept:1/json"] {
            if host.request("GET", target).send().status != 200 {
                return Err(target.to_owned());
            }
        }
        Ok(())
    }
}

/// A container that stays when this is dropped.
fn adopt<'h>(host: &'h Engine, name: &str) -> ManuallyDrop<Container<'h>> {
    ManuallyDrop::new(Container::adopt(host, name))
}

/// What a server on the loopback address answers.
fn get_word(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /word HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The state of a container that must run.
fn state_of(e: &Engine, name: &str) -> Result<Value, String> {
    let reply = e.request("GET", &format!("/containers/{name}/json")).send();
    let state = reply.json()["State"].clone();
    if state["Running"] == true { Ok(state) } else { Err(format!("{name}: {} {state}", reply.status)) }
}
