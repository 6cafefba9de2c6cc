//! Burdens: what a host can lay on the daemon, which all hosts share. Work that ends it, memory that it holds, processes
//! and files that nobody counts.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use droste_test_support::container::sh_with;
use droste_test_support::image::load_base;
use droste_test_support::{Container, Engine, json, t};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::{attempt, host, inside, raw, refused, sleeper};

/// Nests directories below one, deeper than a path can name and than a thread's stack is.
fn nest(folder: &Path) {
    let mut at: OwnedFd = File::open(folder).unwrap().into();
    for _ in 0..8000 {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

/// A folder in a container of a host's, as the test can open it.
fn folder(h: &Engine, c: &Container, path: &str) -> std::path::PathBuf {
    h.root_path(&format!("/proc/{}/root{path}", c.inspect()["State"]["Pid"]))
}

/// An engine of the caller's own, whose memory nobody else's test uses.
fn alone() -> Engine {
    let e = Engine::start_droste(&[]);
    load_base(&e);
    e
}

/// The most memory that the daemon has had, in MiB.
fn peak(e: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", e.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn deep_trees_take_no_stack() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let v = h.name("v");
    let c = h.run(sleeper(json!({"Binds": [format!("{v}:/v")]})));
    inside(&c, "mkdir /deep /shallow && echo x > /shallow/file");
    nest(&folder(&h, &c, "/deep"));
    nest(&folder(&h, &c, "/v"));
    t!(h, GET "/containers/{c}/changes", 400, ".message" == "directories are nested more than 500 levels deep");
    t!(h, POST "/commit?container={c}" {}, 400 | 500, ".message" has "directories are nested more than 500 levels deep");
    for path in ["export", "archive?path=/deep", "archive?path=/v"] {
        // It breaks off, perhaps before its head.
        let answer = raw(&h, format!("GET /v1.51/containers/{c}/{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(!answer.contains(&"d/".repeat(600)), "{path}");
    }
    t!(h, GET "/containers/{c}/json?size=1", 200);
    t!(h, GET "/containers/{c}/archive?path=/shallow", 200);
    t!(h, DELETE "/containers/{c}?force=1", 204);
    t!(h, DELETE "/volumes/{v}", 204);
    t!(e, GET "/_ping", 200);
}

#[test]
fn devices_are_looked_for_within_bounds() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let privileged = || attempt(&h, sleeper(json!({"Privileged": true})));
    let named = || {
        let device = json!({"PathOnHost": "/dev/deep", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"});
        attempt(&h, sleeper(json!({"Devices": [device]})))
    };
    inside(&c, "mkdir /dev/deep");
    nest(&e.root_path(&format!("/proc/{}/root/dev/deep", c.inspect()["State"]["Pid"])));
    assert_eq!(privileged().status, 204);
    assert!(refused(&named()).contains("not a device node"));
    inside(&c, "mkdir /dev/deep/many && cd /dev/deep/many && seq 17000 | xargs touch");
    for reply in [privileged(), named()] {
        assert!(refused(&reply).contains("more than 16384 files among this host's devices"), "{reply:?}");
    }
}

#[test]
fn files_that_the_engine_makes_are_no_way_around_limits() {
    let e = alone();
    let (outer, h) = host(&e, json!({}));
    t!(h, POST "/networks/create" {"Name": "one"}, 201);
    t!(h, POST "/networks/create" {"Name": "two"}, 201);
    let c = h.run(sleeper(json!({"NetworkMode": "one"})));
    let before = peak(&e);
    inside(&c, "truncate -s 2G /etc/hosts");
    t!(h, POST "/networks/two/connect" {"Container": c.id}, 200);
    let sharer = sleeper(json!({"NetworkMode": format!("container:{c}")}));
    assert!(refused(&attempt(&h, sharer)).contains("hosts could not be written"));
    assert!(peak(&e) - before < 256, "{before} MiB before, {} now", peak(&e));
    // What is written there counts.
    let used = || e.get(&format!("/droste/hosts/{}/json", outer.name))["Limits"]["disk"]["Used"].as_u64().unwrap();
    inside(&c, "for f in hosts hostname resolv.conf; do dd if=/dev/zero of=/etc/$f bs=1M count=8; done; sync");
    while used() < 24 << 20 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn checks_that_time_out_leave_nobody() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let mut body = sleeper(json!({}));
    body["Healthcheck"] = json!({"Test": ["CMD", "sleep", "7777"], "Interval": 1_000_000, "Timeout": 1_000_000});
    let c = h.run(body);
    while c.inspect()["State"]["Health"]["FailingStreak"].as_u64().unwrap() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let left = inside(&c, "ps | grep -c '[s]leep 7777' || true");
    assert!(left.trim().parse::<u64>().unwrap() < 5, "{left} checks run");
    assert!(std::fs::read_dir(e.dir().join("run/execs")).unwrap().count() < 5);
}

#[test]
fn logs_are_read_line_by_line() {
    let e = alone();
    let (_c, h) = host(&e, json!({}));
    // Compressed, it is a hundredth of what it unpacks to.
    let rotated = json!({"Type": "json-file", "Config": {"max-size": "100m", "max-file": "3", "compress": "true"}});
    for log in [json!({}), rotated] {
        let script = "head -c 4000 /dev/zero | tr '\\0' a > /l; echo >> /l; for i in $(seq 40); do cat /l; done > /m; for i in $(seq 900); do cat /m; done";
        let c = h.run(sh_with(script, json!({"LogConfig": log})));
        assert_eq!(c.wait(), 0);
        let before = peak(&e);
        let get = |query: &str| h.request("GET", &format!("/containers/{c}/logs?stdout=1&{query}"));
        let unread: Vec<_> = ["", "tail=999999999", "follow=1"].into_iter().map(|query| get(query).open()).collect();
        let whole = get("tail=30000").send().body.len();
        assert!(whole > 4009 * 25_000, "{whole} bytes");
        drop(unread);
        assert!(peak(&e) - before < 64, "{before} MiB before, {} now", peak(&e));
    }
    let large = "x".repeat(100 << 10);
    let mut body = sleeper(json!({"LogConfig": {"Type": "json-file", "Config": {"labels": "large"}}}));
    body["Labels"] = json!({"large": large});
    assert!(refused(&attempt(&h, body)).contains("a line of the log takes"));
}

/// Sockets, of which the daemon can have so many, and connections that nobody asks anything by.
#[test]
fn idle_connections_leave_descriptors_for_others() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let most = Some(8192);
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let e = alone();
    let (_c, h) = host(&e, json!({}));
    let (_d, below) = host(&h, json!({}));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", e.pid())).unwrap().count();
    let before = open();
    let connect = |h: &Engine| std::os::unix::net::UnixStream::connect(h.socket()).unwrap();
    let mut idle: Vec<_> = (0..700).map(|_| connect(&below)).collect();
    idle.extend((0..420).map(|_| connect(&h)));
    while open() < before + 1000 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    t!(e, GET "/_ping", 200);
    assert!(open() < before + 1050, "{before} descriptors before, {} now", open());
    drop(idle);
    t!(h, GET "/_ping", 200);
    t!(below, GET "/_ping", 200);
}
