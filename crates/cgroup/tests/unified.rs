//! What is written to and read from cgroup v2's files, with plain files standing for them.
//!
//! That the kernel takes it is proved by `tests/kernel.rs` on a machine with v2.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::{Path, PathBuf};

use droste_cgroup::{
    Cgroup, CgroupError, Cgroups, DeviceNumber, DeviceValue, Effective, Layout, Limits, Support, Version, View,
};

struct Tree {
    root: PathBuf,
    cgroups: Cgroups,
}

impl Tree {
    fn new(name: &str) -> Tree {
        let root = std::env::temp_dir().join(format!("droste-cgroup-{}-{name}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        fs::write(root.join("cgroup.subtree_control"), "memory\n").unwrap();
        let controllers = ["cpuset", "cpu", "io", "memory", "pids"].map(str::to_owned).to_vec();
        let layout = Layout {
            version: Version::V2,
            unified: Some(root.clone()),
            unified_controllers: controllers,
            hierarchies: Vec::new(),
        };
        let cgroups = Cgroups::open(layout, "droste").unwrap();
        Tree { root, cgroups }
    }

    fn group(&self) -> Cgroup {
        self.cgroups.get(self.cgroups.parent())
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.root.join("droste").join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.join("droste").join(name)).unwrap()
    }

    /// Sets limits on files that are there and empty; gives back what was written to each.
    fn limit(&self, limits: &Limits, names: &[&str]) -> Vec<String> {
        names.iter().for_each(|name| self.put(name, ""));
        self.group().limit(limits).unwrap();
        names.iter().map(|name| self.text(name)).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

#[test]
fn controllers_are_passed_on() {
    let tree = Tree::new("controllers");
    // In place of the kernel's list, the plain file has what was written.
    let written = fs::read_to_string(tree.root.join("cgroup.subtree_control")).unwrap();
    assert_eq!(written, "+cpuset +cpu +io +pids");
    assert_eq!(tree.group().view(), View::Unified { dir: tree.root.join("droste") });
    assert_eq!(tree.group().procs_files(), [tree.root.join("droste/cgroup.procs")]);
}

#[test]
fn memory() {
    let tree = Tree::new("memory");
    let limits = Limits {
        memory: Some(100),
        memory_swap: Some(300),
        memory_reservation: Some(50),
        oom_group: Some(true),
        ..Limits::default()
    };
    let names = ["memory.max", "memory.swap.max", "memory.low", "memory.oom.group"];
    assert_eq!(tree.limit(&limits, &names), ["100", "200", "50", "1"]);
    let none = Limits { memory: Some(-1), ..Limits::default() };
    assert_eq!(tree.limit(&none, &names[..2]), ["max", "max"]);
    let wrong = Limits { memory_swap: Some(300), ..Limits::default() };
    assert!(matches!(tree.group().limit(&wrong), Err(CgroupError::Contradiction(_))));
}

#[test]
fn unlimited_swap_needs_no_swap_accounting() {
    let tree = Tree::new("noswap");
    let limits = Limits { memory: Some(100), memory_swap: Some(-1), ..Limits::default() };
    assert_eq!(tree.limit(&limits, &["memory.max"]), ["100"]);
    let limits = Limits { memory: Some(100), memory_swap: Some(200), ..Limits::default() };
    let error = tree.group().limit(&limits).unwrap_err().to_string();
    assert!(error.contains("memory.swap.max"), "{error}");
}

#[test]
fn cpu_and_processes() {
    let tree = Tree::new("cpu");
    let limits = Limits {
        cpu_shares: Some(1024),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0-1".to_owned()),
        pids: Some(-1),
        ..Limits::default()
    };
    let names = ["cpu.weight", "cpu.max", "cpuset.cpus", "pids.max"];
    assert_eq!(tree.limit(&limits, &names), ["100", "50000 100000", "0-1", "max"]);
    tree.put("cpu.max", "50000 100000\n");
    tree.group().limit(&Limits { cpu_period: Some(20_000), ..Limits::default() }).unwrap();
    assert!(tree.text("cpu.max").starts_with("50000 20000"));
    assert_eq!(tree.limit(&Limits { cpu_quota: Some(-1), ..Limits::default() }, &["cpu.max"]), ["max"]);
}

#[test]
fn block_io() {
    let tree = Tree::new("io");
    let device = DeviceNumber { major: 8, minor: 16 };
    let rate = |value| vec![DeviceValue { device, value }];
    assert_eq!(tree.limit(&Limits { blkio_weight: Some(500), ..Limits::default() }, &["io.weight"]), ["4950"]);
    let by_device = Limits { blkio_weight_device: rate(1000), ..Limits::default() };
    assert_eq!(tree.limit(&by_device, &["io.weight"]), ["8:16 10000"]);
    assert_eq!(tree.limit(&by_device, &["io.bfq.weight"]), ["8:16 1000"]);
    for (limits, line) in [
        (Limits { read_bps: rate(1), ..Limits::default() }, "8:16 rbps=1"),
        (Limits { write_bps: rate(2), ..Limits::default() }, "8:16 wbps=2"),
        (Limits { read_iops: rate(3), ..Limits::default() }, "8:16 riops=3"),
        (Limits { write_iops: rate(4), ..Limits::default() }, "8:16 wiops=4"),
    ] {
        assert_eq!(tree.limit(&limits, &["io.max"]), [line]);
    }
}

#[test]
fn statistics() {
    let tree = Tree::new("stats");
    tree.put(
        "cpu.stat",
        "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 3\nnr_throttled 2\nthrottled_usec 5\n",
    );
    tree.put("memory.current", "4096\n");
    tree.put("memory.max", "8192\n");
    tree.put("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n");
    tree.put("memory.stat", "anon 100\nfile 200\ninactive_file 50\nsomething_new 7\n");
    tree.put("pids.current", "3\n");
    tree.put("pids.max", "max\n");
    tree.put("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n");
    let stats = tree.group().stats().unwrap();
    assert_eq!((stats.cpu.total, stats.cpu.user, stats.cpu.system), (30_000, 10_000, 20_000));
    assert_eq!((stats.cpu.periods, stats.cpu.throttled_periods, stats.cpu.throttled_time), (3, 2, 5_000));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.limit, memory.fail_count, memory.used()), (4096, 8192, 2, 4046));
    assert_eq!((memory.details["anon"], memory.details["slab"], memory.details.len()), (100, 0, 31));
    assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
    assert_eq!(stats.block_io.io_service_bytes_recursive.len(), 2);
    assert_eq!(tree.group().oom_kills().unwrap(), 1);
}

#[test]
fn a_cgroup_that_is_gone_has_empty_statistics() {
    let tree = Tree::new("gone");
    let group = tree.group().child("never").unwrap();
    assert_eq!(group.stats().unwrap().cpu.total, 0);
    assert!(!group.is_populated().unwrap());
    assert_eq!(group.pids().unwrap(), Vec::<u32>::new());
    assert_eq!(group.oom_kills().unwrap(), 0);
}

#[test]
fn what_holds_is_the_least_on_the_way_up() {
    let tree = Tree::new("effective");
    tree.put("memory.max", "1000\n");
    tree.put("cpu.max", "150000 100000\n");
    let child = tree.root.join("droste/c");
    fs::create_dir(&child).unwrap();
    fs::write(child.join("memory.max"), "max\n").unwrap();
    fs::write(child.join("cpu.max"), "max 100000\n").unwrap();
    fs::write(child.join("cpuset.cpus.effective"), "0-2\n").unwrap();
    let effective = tree.group().child("c").unwrap().effective();
    assert_eq!(effective, Effective { cpu_quota: Some(1.5), cpus: Some(3), memory: Some(1000) });
    assert_eq!((effective.whole_cpus(8), effective.whole_cpus(1)), (2, 1));
}

#[test]
fn a_hosts_leaf_mirrors_its_limits() {
    let tree = Tree::new("mirror");
    tree.put("memory.max", "1000\n");
    tree.put("cpu.max", "max 100000\n");
    let leaf = tree.root.join("droste/self");
    fs::create_dir(&leaf).unwrap();
    fs::write(leaf.join("memory.max"), "max\n").unwrap();
    fs::write(leaf.join("cpu.max"), "5 100000\n").unwrap();
    tree.group().child("self").unwrap().mirror_limits_of(&tree.group()).unwrap();
    assert_eq!(fs::read_to_string(leaf.join("memory.max")).unwrap(), "1000");
    assert!(fs::read_to_string(leaf.join("cpu.max")).unwrap().starts_with("max 100000"));
}

#[test]
fn freezing_kill_and_processes() {
    let tree = Tree::new("freeze");
    tree.put("cgroup.freeze", "");
    tree.put("cgroup.kill", "");
    tree.put("cgroup.events", "populated 0\nfrozen 1\n");
    tree.put("cgroup.procs", "7\n5\n7\n");
    tree.group().freeze().unwrap();
    assert_eq!(tree.text("cgroup.freeze"), "1");
    tree.group().kill().unwrap();
    assert_eq!(tree.text("cgroup.kill"), "1");
    assert_eq!(tree.group().pids().unwrap(), [5, 7]);
}

#[test]
fn support_is_seen_in_files() {
    let tree = Tree::new("support");
    assert!(!Support::of(&tree.cgroups).memory);
    for name in ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max", "io.max"] {
        tree.put(name, "");
    }
    tree.put("cpuset.cpus.effective", "0-3\n");
    let support = Support::of(&tree.cgroups);
    assert!(support.memory && support.swap && support.cpu_cfs && support.blkio_rates == [true; 4] && support.is_v2);
    assert!(!support.swappiness && !support.oom_kill_disable && !support.blkio_weight);
    assert_eq!(support.cpus, "0-3");
}

#[test]
fn the_root_must_be_a_cgroup_file_system() {
    let layout = Layout {
        version: Version::V2,
        unified: Some(Path::new("/nonexistent").to_owned()),
        unified_controllers: vec!["memory".to_owned()],
        hierarchies: Vec::new(),
    };
    let error = Cgroups::open(layout, "droste").unwrap_err().to_string();
    assert!(error.contains("/nonexistent/cgroup.subtree_control"), "{error}");
}
