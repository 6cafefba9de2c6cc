//! Networks on an interface of the host's: macvlan and ipvlan.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use droste_test_support::container::{idle, sh_with};
use droste_test_support::network::{on, subnet};
use droste_test_support::{Engine, Value, json, t};

/// An interface of the host's that containers may hang on, the other end of it beside it.
struct Interface<'e>(&'e Engine, String);

impl<'e> Interface<'e> {
    fn new(e: &'e Engine) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("mv{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let made = Self(e, name.clone());
        made.ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}x")]);
        for end in [name.clone(), format!("{name}x")] {
            made.ip(&["link", "set", &end, "up"]);
        }
        made
    }

    fn ip(&self, words: &[&str]) -> bool {
        self.0.in_netns(|| Command::new("ip").args(words).status().unwrap().success())
    }

    fn network(&self, driver: &str, more: Value) -> Value {
        let mut options = json!({"parent": self.1});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Driver": driver, "Options": options, "IPAM": {"Config": [{"Subnet": format!("{}.0/24", subnet())}]}})
    }

    /// Refused with that status and those words.
    fn refused(&self, mut body: Value, status: u16, words: &str) {
        body["Name"] = json!(self.0.name("refused"));
        let reply = self.0.request("POST", "/networks/create").json(&body).send();
        reply.check(".message", "has", &json!(words));
        reply.expect_status(status);
    }
}

impl Drop for Interface<'_> {
    fn drop(&mut self) {
        self.ip(&["link", "del", &self.1]);
    }
}

#[test]
fn macvlan_containers_are_on_their_parents_link() {
    let e = Engine::shared();
    let parent = Interface::new(e);
    let net = e.network(parent.network("macvlan", json!({})));
    t!(e, GET "/networks/{net}", 200, ".Driver" == "macvlan", ".Options" == {"parent": (parent.1)}, ".Internal" == false);
    let mut body = idle();
    body["HostConfig"] = on(&net);
    let one = e.run(body);
    let mut body = sh_with("sleep 1000", on(&net));
    body["NetworkingConfig"] = json!({"EndpointsConfig": {net.name.as_str(): {"MacAddress": "02:42:0a:d4:00:77"}}});
    let two = e.run(body);
    assert_eq!(two.exec(&["cat", "/sys/class/net/eth0/address"]).out, "02:42:0a:d4:00:77\n");
    assert_eq!(one.exec(&["ping", "-c", "1", "-W", "10", &net.address(&two)]).code, 0);
    assert_eq!(one.exec(&["ping", "-c", "1", "-W", "10", &two.name]).code, 0, "by name");
    let gateway = net.endpoint(&one)["Gateway"].as_str().unwrap().to_owned();
    assert!(one.exec(&["ip", "route"]).out.contains(&format!("default via {gateway} dev eth0")), "the gateway is beyond the link");
    // The parent's other end is on the same link.
    let beyond = format!("{}x", parent.1);
    assert!(parent.ip(&["addr", "add", &format!("{gateway}/24"), "dev", &beyond]));
    assert_eq!(one.exec(&["ping", "-c", "1", "-W", "10", &gateway]).code, 0);
    t!(e, DELETE "/networks/{net}", 403, ".message" has "has active endpoints");
    drop((one, two));
    t!(e, DELETE "/networks/{net}", 204);
    assert!(parent.ip(&["link", "show", &parent.1]), "an interface that was there stays");
}

#[test]
fn who_may_share_a_parent() {
    let e = Engine::shared();
    let parent = Interface::new(e);
    let first = e.network(parent.network("macvlan", json!({})));
    let second = e.network(parent.network("macvlan", json!({"macvlan_mode": "private"})));
    let passthru = || parent.network("macvlan", json!({"macvlan_mode": "passthru"}));
    parent.refused(passthru(), 500, "is already using parent interface");
    drop((first, second));
    let whole = e.network(passthru());
    parent.refused(parent.network("macvlan", json!({})), 500, "in mode passthru");
    drop(whole);
    let ipvlan = e.network(parent.network("ipvlan", json!({})));
    parent.refused(parent.network("ipvlan", json!({})), 500, "is already using parent interface");
    drop(ipvlan);
}

#[test]
fn parents_and_modes_are_checked() {
    let e = Engine::shared();
    let parent = Interface::new(e);
    for driver in ["macvlan", "ipvlan"] {
        let at = |name: &str| parent.network(driver, json!({"parent": name}));
        parent.refused(at("nope0"), 500, "eth0.10");
        parent.refused(at("lo"), 500, &format!("loopback interface is not a valid {driver} parent link"));
        let mode = format!("{driver}_mode");
        parent.refused(parent.network(driver, json!({mode: "nope"})), 500, &format!("requested {driver} mode 'nope' is not valid"));
    }
    parent.refused(parent.network("ipvlan", json!({"ipvlan_flag": "nope"})), 500, "requested ipvlan flag 'nope' is not valid");
}

#[test]
fn ipvlan_containers_share_their_parents_address() {
    let e = Engine::shared();
    let parent = Interface::new(e);
    let net = e.network(parent.network("ipvlan", json!({})));
    let mut body = idle();
    body["HostConfig"] = on(&net);
    let one = e.create(body.clone());
    let started = e.request("POST", &format!("/containers/{one}/start")).send();
    if started.status != 204 {
        // A kernel without ipvlan: said so, and nothing is half-made.
        let message = started.json()["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains("operation not supported"), "{message}");
        t!(e, GET "/containers/{one}/json", 200, ".State.Status" == "created");
        return;
    }
    let two = e.run(body);
    assert_eq!(one.exec(&["ping", "-c", "1", "-W", "10", &two.name]).code, 0);
    let address = |c: &droste_test_support::Container| c.exec(&["cat", "/sys/class/net/eth0/address"]).out;
    assert_eq!(address(&one), address(&two));
}
