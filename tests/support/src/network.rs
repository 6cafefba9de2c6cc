//! Networks and volumes of a test: made under names of their own, removed when they go out of scope.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::container::Container;
use crate::engine::Engine;

/// A network that is removed when dropped. It displays as its id.
#[derive(Debug)]
pub struct Network<'e> {
    engine: &'e Engine,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A volume that is removed when dropped. It displays as its name.
#[derive(Debug)]
pub struct Volume<'e> {
    engine: &'e Engine,
    /// Its name.
    pub name: String,
}

impl Engine {
    /// Makes a network with a name of its own.
    pub fn network(&self, body: Value) -> Network<'_> {
        self.network_named(&self.name("net"), body)
    }

    /// Makes a network under a given name.
    pub fn network_named(&self, name: &str, mut body: Value) -> Network<'_> {
        body["Name"] = json!(name);
        let reply = self.request("POST", "/networks/create").json(&body).send();
        reply.expect_status(201);
        let id = reply.json()["Id"].as_str().expect("an id").to_owned();
        Network { engine: self, id, name: name.to_owned() }
    }

    /// Makes a network on a subnet of the caller's.
    pub fn network_on(&self, subnet: &str) -> Network<'_> {
        self.network(json!({"IPAM": {"Config": [{"Subnet": subnet}]}}))
    }

    /// Makes a volume with a name of its own.
    pub fn volume(&self, mut body: Value) -> Volume<'_> {
        let name = self.name("vol");
        body["Name"] = json!(name);
        self.request("POST", "/volumes/create").json(&body).send().expect_status(201);
        Volume { engine: self, name }
    }
}

impl Network<'_> {
    /// What inspect says.
    pub fn inspect(&self) -> Value {
        self.engine.get(&format!("/networks/{}", self.id))
    }

    /// Connects a container, with an endpoint's settings or null.
    pub fn connect(&self, container: &Container<'_>, endpoint: Value) {
        let target = format!("/networks/{}/connect", self.id);
        let body = json!({"Container": container.id, "EndpointConfig": endpoint});
        self.engine.request("POST", &target).json(&body).send().expect_status(200);
    }

    /// Disconnects a container.
    pub fn disconnect(&self, container: &Container<'_>) {
        let target = format!("/networks/{}/disconnect", self.id);
        self.engine.request("POST", &target).json(&json!({"Container": container.id})).send().expect_status(200);
    }

    /// What the container's inspect says of its endpoint here.
    pub fn endpoint(&self, container: &Container<'_>) -> Value {
        container.inspect()["NetworkSettings"]["Networks"][&self.name].clone()
    }

    /// The container's IPv4 address here.
    pub fn address(&self, container: &Container<'_>) -> String {
        let endpoint = self.endpoint(container);
        let address = endpoint["IPAddress"].as_str().filter(|address| !address.is_empty());
        address.unwrap_or_else(|| panic!("no address in {endpoint}")).to_owned()
    }
}

/// The first three numbers of a /24 that no other test uses, such as `10.130.7`.
pub fn subnet() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(11) + NEXT.fetch_add(1, Ordering::Relaxed);
    format!("10.{}.{}", 130 + (number >> 8) % 100, number % 256)
}

/// A create body's `HostConfig` on a network.
pub fn on(network: &Network<'_>) -> Value {
    json!({"NetworkMode": network.name})
}

impl std::fmt::Display for Network<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl std::fmt::Display for Volume<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn remove(engine: &Engine, target: &str) {
    let remove = || drop(engine.request("DELETE", target).send());
    if std::thread::panicking() {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
    } else {
        remove();
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        remove(self.engine, &format!("/networks/{}", self.id));
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        remove(self.engine, &format!("/volumes/{}?force=1", self.name));
    }
}
