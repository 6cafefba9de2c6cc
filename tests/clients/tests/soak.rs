//! Much of everything, by eight clients at once: afterwards the machine is as it was (`support::census` counts it).
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use droste_test_support::container::sh_with;
use droste_test_support::{Engine, json};

const CLIENTS: usize = 8;

/// Control groups that are named after one of those containers.
fn groups_of(ids: &BTreeSet<String>) -> Vec<String> {
    let found = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", "*droste*"]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().filter(|path| path.rsplit('/').next().is_some_and(|name| ids.contains(name))).map(str::to_owned).collect()
}

/// Runs `work` so many times by eight clients, each with its number and the round's.
fn clients(rounds: usize, work: impl Fn(usize, usize) + Sync) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let work = &work;
            scope.spawn(move || (0..rounds / CLIENTS).for_each(|round| work(client, round)));
        }
    });
}

#[test]
fn two_thousand_networks_and_connections_leave_the_machine_as_it_was() {
    let e = Engine::shared();
    if e.not_on_docker("an engine of the test's own is counted") {
        return;
    }
    let containers: Vec<_> = (0..CLIENTS).map(|_| e.run(sh_with("exec sleep 100000", json!({})))).collect();
    let one = |client: usize| {
        let net = e.network(json!({}));
        net.connect(&containers[client], json!({"Aliases": ["soak"]}));
        net.disconnect(&containers[client]);
    };
    // The first of a kind may leave what is kept for all later ones.
    clients(CLIENTS, |client, _| one(client));
    let before = e.at_rest();
    clients(2000, |client, _| one(client));
    e.settles(&before);
    // What is there still works.
    let net = e.network(json!({}));
    net.connect(&containers[0], json!({}));
    net.connect(&containers[1], json!({"Aliases": ["works"]}));
    assert_eq!(e.addresses(&containers[0], "works"), [net.address(&containers[1])]);
}

#[test]
fn a_thousand_containers_leave_the_machine_as_it_was() {
    let e = Engine::shared();
    if e.not_on_docker("an engine of the test's own is counted") {
        return;
    }
    let net = e.network(json!({}));
    let ids = Mutex::new(BTreeSet::new());
    let one = || {
        let mut body = sh_with("true", json!({"NetworkMode": net.name, "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}, "Mounts": [{"Type": "volume", "Target": "/d"}]}));
        body["ExposedPorts"] = json!({"80/tcp": {}});
        let c = e.run(body);
        assert_eq!(c.wait(), 0);
        ids.lock().unwrap().insert(c.id.clone());
    };
    clients(CLIENTS, |_, _| one());
    let before = e.at_rest();
    clients(1000, |_, _| one());
    e.settles(&before);
    assert_eq!(groups_of(&ids.lock().unwrap()), Vec::<String>::new());
}
