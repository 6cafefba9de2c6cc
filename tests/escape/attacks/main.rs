//! A client of a nested host, root in its container, tries to reach what is not its own. `list.md` says of each attack
//! what it tries and what stops it; `list` holds the two together.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod archives;
mod audit;
mod burden;
mod fields;
mod floor;
mod kernel;
mod list;
mod measure;
mod paths;
mod races;
mod registries;
mod routes;
mod wire;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use droste_test_support::container::sh_with;
use droste_test_support::image::BASE;
use droste_test_support::{Container, Engine, Reply, Value, json};

/// The bind that makes a container a host.
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

/// A running container that is a host, with more of a `HostConfig`, and the host.
fn host<'e>(e: &'e Engine, mut host_config: Value) -> (Container<'e>, Engine) {
    let more = host_config["Binds"].as_array().cloned().unwrap_or_default();
    host_config["Binds"] = [vec![json!(SOCKET)], more].concat().into();
    let c = e.run(sh_with("trap 'exit 0' TERM; while :; do sleep 1000 & wait; done", host_config));
    let host = e.host_of(&c);
    (c, host)
}

/// A body that sleeps, with a `HostConfig`.
fn sleeper(host_config: Value) -> Value {
    sh_with("exec sleep 100000", host_config)
}

/// The answer to a body's creation, or, if that is not refused, to its start.
fn attempt(h: &Engine, mut body: Value) -> Reply {
    body["Image"] = json!(BASE);
    let created = h.request("POST", "/containers/create").json(&body).send();
    if created.status != 201 {
        return created;
    }
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    let _gone = Container::adopt(h, &id);
    h.request("POST", &format!("/containers/{id}/start")).send()
}

/// The message of a refusal.
fn refused(reply: &Reply) -> String {
    assert!(reply.status >= 400, "{reply:?}");
    reply.json()["message"].as_str().unwrap().to_owned()
}

/// Runs a script in a host itself; it must succeed. Gives its output.
fn inside(c: &Container, script: &str) -> String {
    let outcome = c.exec(&["sh", "-c", script]);
    assert_eq!(outcome.code, 0, "{script}: {outcome:?}");
    outcome.out
}

/// Sends bytes and reads all that comes until the other side closes, or says nothing more.
fn raw(h: &Engine, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(h.socket()).unwrap();
    let _ = stream.write_all(bytes);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
