//! Much of everything, by eight clients at once: afterwards the machine is as it was. What is counted: links, rules of
//! the firewall, namespaces, mounts, processes, control groups, the daemon's open files, and files in its folders.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use droste_test_support::container::sh_with;
use droste_test_support::{Engine, json};

const CLIENTS: usize = 8;

/// What there is where an engine runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    links: Vec<String>,
    rules: Vec<String>,
    namespaces: usize,
    mounts: usize,
    processes: usize,
    open_files: usize,
    files: Vec<String>,
}

fn lines(e: &Engine, program: &str, words: &[&str]) -> Vec<String> {
    let output = e.in_netns(|| Command::new(program).args(words).output().unwrap());
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Processes in the engine's PID namespace, as its own `/proc` shows them.
fn processes(e: &Engine) -> Vec<String> {
    let table = std::fs::read_dir(e.root_path("/proc")).unwrap();
    table.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect()
}

/// Control groups that are named after one of those containers.
fn groups_of(ids: &BTreeSet<String>) -> Vec<String> {
    let found = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", "*droste*"]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().filter(|path| path.rsplit('/').next().is_some_and(|name| ids.contains(name))).map(str::to_owned).collect()
}

fn count(e: &Engine) -> Counted {
    let processes = processes(e);
    let kinds = ["net", "mnt", "pid", "uts", "ipc"];
    let of = |pid: &String| kinds.map(|kind| std::fs::read_link(e.root_path(&format!("/proc/{pid}/ns/{kind}"))).ok());
    let namespaces: BTreeSet<_> = processes.iter().flat_map(of).flatten().collect();
    let daemon = std::fs::read_to_string(e.dir().join("pid")).unwrap();
    let daemon = daemon.trim();
    let files = Command::new("find").arg(e.dir()).args(["-not", "-path", "*/log", "-not", "-path", "*/data/layers/*", "-printf", "%P\n"]).output().unwrap();
    let mut files: Vec<_> = String::from_utf8_lossy(&files.stdout).lines().map(str::to_owned).collect();
    files.sort();
    // The kernel's own numbers for rules differ each time.
    let rules = lines(e, "nft", &["list", "ruleset"]).into_iter().filter(|line| !line.contains("counter")).collect();
    Counted {
        links: lines(e, "ip", &["-o", "link"]).iter().map(|line| line.split(':').nth(1).unwrap().trim().to_owned()).collect(),
        rules,
        namespaces: namespaces.len(),
        mounts: std::fs::read_to_string(e.root_path(&format!("/proc/{daemon}/mountinfo"))).unwrap().lines().count(),
        processes: processes.len(),
        open_files: std::fs::read_dir(e.root_path(&format!("/proc/{daemon}/fd"))).unwrap().count(),
        files,
    }
}

/// What there is once nothing is on its way any more: the same twice, a moment apart.
fn at_rest(e: &Engine) -> Counted {
    let mut before = count(e);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = count(e);
        if now == before {
            return now;
        }
        before = now;
    }
}

/// Waits until it is as it was; what ends a container may take a moment after its answer.
fn settles(e: &Engine, before: &Counted) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let mut now = count(e);
        // Connections of clients end a moment later, and idle threads come and go.
        if now.open_files <= before.open_files + 4 {
            now.open_files = before.open_files;
        }
        if now == *before {
            return;
        }
        if std::time::Instant::now() > deadline {
            assert_eq!(*before, now);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
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
    let before = at_rest(e);
    clients(2000, |client, _| one(client));
    settles(e, &before);
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
    let before = at_rest(e);
    clients(1000, |_, _| one());
    settles(e, &before);
    assert_eq!(groups_of(&ids.lock().unwrap()), Vec::<String>::new());
}
