//! Containers that are hosts, two and three levels deep. `power` is life and death, `words` what Docker's
//! words mean on a host, `bounds` what must not be possible, `grants` what a socket lets its holder do,
//! `limits` how much a host may use, `audit` what is written down of it, `volumes` what it keeps, `plugins` who
//! keeps it for a host, `daemon` what holds while the daemon is away, `chaos` what holds whatever dies, `activation`
//! how a service manager starts it, `serve` a host that is handed on over the network, `above` what the machine's
//! administrator sees. Each test speaks to a nested host through the socket
//! that the engine mounted in its container.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod above;
mod activation;
mod audit;
mod bounds;
mod chaos;
mod daemon;
mod grants;
mod limits;
mod plugins;
mod power;
mod registries;
mod serve;
mod volumes;
mod words;

use droste_test_support::container::sh_with;
use droste_test_support::{Container, Engine, Value, image, json};

/// The bind that makes a container a host.
const SOCKET: &str = "/var/run/docker.sock:/var/run/docker.sock";

/// The body of a host that does nothing of itself, with more of a `HostConfig`.
fn host_body(mut host_config: Value) -> Value {
    let mut binds = vec![json!(SOCKET)];
    if let Some(more) = host_config.get("Binds").and_then(Value::as_array) {
        binds.extend(more.iter().cloned());
    }
    host_config["Binds"] = json!(binds);
    sh_with("trap 'exit 0' TERM; while :; do sleep 1000 & wait; done", host_config)
}

/// A running container that is a host, and the host.
fn host<'e>(e: &'e Engine, host_config: Value) -> (Container<'e>, Engine) {
    let c = e.run(host_body(host_config));
    let host = e.host_of(&c);
    (c, host)
}

/// A body that sleeps, with a `HostConfig`.
fn sleeper(host_config: Value) -> Value {
    sh_with("exec sleep 100000", host_config)
}

/// Whether any process is in a control group of that container.
fn has_processes(e: &Engine, id: &str) -> bool {
    let table = std::fs::read_dir(e.root_path("/proc")).unwrap();
    table.filter_map(Result::ok).any(|process| {
        let groups = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let state = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        groups.contains(id) && !state.contains("State:\tZ")
    })
}

/// Waits until `done`; a test that waits too long is ended by the runner.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The names that a host lists, in alphabetical order.
fn names(e: &Engine) -> Vec<String> {
    let list = e.get("/containers/json?all=1");
    let mut names: Vec<_> = list.as_array().unwrap().iter().map(|c| c["Names"][0].as_str().unwrap()[1..].to_owned()).collect();
    names.sort();
    names
}

/// Kills the first process of a running container from outside.
fn kill_init(e: &Engine, c: &Container) {
    kill(init_of(e, c));
}

fn kill(process: rustix::process::Pid) {
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// The first process of a running container by its number in this program's PID namespace. The engine's number is from
/// a namespace of its own, where another process may have what is this one's number here; so the process is known by
/// its mount namespace, and by being the first of its PID namespace.
fn init_of(e: &Engine, c: &Container) -> rustix::process::Pid {
    let pid = c.inspect()["State"]["Pid"].as_i64().unwrap();
    let wanted = std::fs::read_link(e.root_path(&format!("/proc/{pid}/ns/mnt"))).unwrap();
    let is_first = |process: i32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1")
    };
    let numbers = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let same = |process: &i32| std::fs::read_link(format!("/proc/{process}/ns/mnt")).is_ok_and(|found| found == wanted);
    let mut found = numbers.filter(|process| same(process) && is_first(*process));
    let process = found.next().expect("the container's first process is seen from here");
    assert!(found.next().is_none(), "one process of a mount namespace is the first of its PID namespace");
    rustix::process::Pid::from_raw(process).unwrap()
}
