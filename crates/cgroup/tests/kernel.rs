//! Cgroups on the kernel that this runs on, whichever layout it has.
//!
//! Needs root and a writable cgroup file system. Each test has cgroups of its own, `droste-test-PID-NAME`, and removes
//! them whatever happens.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use droste_cgroup::devices::Rule;
use droste_cgroup::process::{Format, Pids, Process, Snapshot};
use droste_cgroup::{
    Cgroup, CgroupPath, Cgroups, DeviceNumber, DeviceValue, Effective, Layout, Limits, Support, Version, View, system,
};
use droste_model::container::Resources;

const MIB: i64 = 1 << 20;

/// Cgroups of one test.
struct Place {
    cgroups: Cgroups,
    children: Vec<Child>,
}

impl Place {
    fn new(name: &str) -> Place {
        let layout = Layout::detect().expect("cgroups are mounted");
        let parent = format!("/droste-test-{}-{name}", std::process::id());
        let cgroups = Cgroups::open(layout, &parent).expect("root, and cgroups that can be written");
        Place { cgroups, children: Vec::new() }
    }

    fn create(&self, name: &str) -> Cgroup {
        let path = name.split('/').fold(self.cgroups.parent().clone(), |path, part| path.child(part).unwrap());
        self.cgroups.create(&path).unwrap()
    }

    /// Starts a shell that enters the cgroup and then runs the script.
    fn run(&mut self, group: &Cgroup, script: &str) -> usize {
        let enter = "for file in \"$@\"; do echo 0 > \"$file\" || exit 99; done; ";
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{enter}{script}"), "sh"])
            .args(group.procs_files())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        self.children.push(child);
        self.children.len() - 1
    }

    fn wait(&mut self, child: usize) -> std::process::ExitStatus {
        self.children[child].wait().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parent = self.cgroups.get(self.cgroups.parent());
        let killed = parent.kill();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let removed = parent.remove();
        if !thread::panicking() {
            killed.unwrap();
            removed.unwrap();
            assert!(!parent.exists());
        }
    }
}

/// Waits for something that must come about; the time is only there to end a run that fails.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "never came about: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn processes_are_counted_killed_and_their_cgroup_removed() {
    let mut place = Place::new("life");
    let group = place.create("one");
    assert!(group.exists() && !group.is_populated().unwrap());
    place.run(&group, "sleep 1000 & sleep 1000 & wait");
    until("three processes", || group.pids().unwrap().len() == 3);
    assert!(group.is_populated().unwrap());
    group.kill().unwrap();
    assert!(!group.is_populated().unwrap());
    group.remove().unwrap();
    assert!(!group.exists());
    group.remove().expect("what is not there counts as removed");
    group.kill().expect("nothing to kill");
}

#[test]
fn a_cgroup_that_somebody_has_only_begun_to_make_takes_processes() {
    let mut place = Place::new("begun");
    let begun = place.cgroups.get(&place.cgroups.parent().child("begun").unwrap());
    for file in begun.procs_files() {
        let dir = file.parent().unwrap();
        fs::create_dir(dir).or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) }).unwrap();
    }
    let group = place.create("begun/one");
    let child = place.run(&group, "exit 7");
    assert_eq!(place.wait(child).code(), Some(7));
}

#[test]
fn frozen_processes_stand_still_and_can_be_killed() {
    let mut place = Place::new("freeze");
    let group = place.create("one");
    let child = place.run(&group, "while :; do :; done");
    until("the process", || group.cpu_stats().unwrap().total > 0 && group.is_populated().unwrap());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    group.kill_once().unwrap();
    // v1's freezer holds even a killed process.
    if group.is_frozen().unwrap() && place.cgroups.layout().unified.is_none() {
        group.thaw().unwrap();
    }
    assert!(!place.wait(child).success());
    until("no process", || !group.is_populated().unwrap());
}

#[test]
fn limits_are_set_raised_and_lowered() {
    let place = Place::new("limits");
    let group = place.create("one");
    let set = |memory: i64, swap: i64| {
        let limits = Limits { memory: Some(memory * MIB), memory_swap: Some(swap * MIB), ..Limits::default() };
        group.limit(&limits).unwrap();
        let stats = group.memory_stats().unwrap().unwrap();
        assert_eq!(stats.limit, u64::try_from(memory * MIB).unwrap());
    };
    // Up and down: memory may never be above memory with swap, whichever is written first.
    for (memory, swap) in [(64, 128), (256, 512), (32, 32), (64, 64)] {
        set(memory, swap);
    }
    let limits = Limits {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        pids: Some(17),
        cpuset_cpus: Some("0".to_owned()),
        ..Limits::default()
    };
    group.limit(&limits).unwrap();
    assert_eq!(group.stats().unwrap().pids.limit, 17);
    let effective = group.effective();
    assert_eq!(effective, Effective { cpu_quota: Some(0.5), cpus: Some(1), memory: Some(64 << 20) });
    assert_eq!(effective.whole_cpus(8), 1);
    // A shorter period with the same quota, then a quota above the period.
    group.limit(&Limits { cpu_period: Some(50_000), ..Limits::default() }).unwrap();
    group.limit(&Limits { cpu_quota: Some(200_000), cpu_period: Some(100_000), ..Limits::default() }).unwrap();
    assert_eq!(group.effective().cpu_quota, Some(2.0));
    let none =
        Limits { memory: Some(-1), memory_swap: Some(-1), pids: Some(-1), cpu_quota: Some(-1), ..Limits::default() };
    group.limit(&none).unwrap();
    let effective = group.effective();
    assert_eq!((effective.memory, effective.cpu_quota), (None, None));
    assert_eq!(group.stats().unwrap().pids.limit, 0);
}

/// A disk of this machine; one that has none gets `null_blk`'s.
fn disk() -> DeviceNumber {
    let first = || fs::read_dir("/sys/block").unwrap().next().map(|entry| read(&entry.unwrap().path().join("dev")));
    let numbers = first().or_else(|| {
        assert!(Command::new("modprobe").arg("null_blk").status().unwrap().success(), "no disk and no null_blk");
        first()
    });
    let numbers = numbers.unwrap();
    let (major, minor) = numbers.split_once(':').unwrap();
    DeviceNumber { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
}

#[test]
fn block_io_is_limited_in_either_version() {
    let place = Place::new("io");
    let group = place.create("one");
    let device = disk();
    let rate = |value| vec![DeviceValue { device, value }];
    let limits = Limits {
        read_bps: rate(1 << 20),
        write_bps: rate(2 << 20),
        read_iops: rate(300),
        write_iops: rate(400),
        ..Limits::default()
    };
    group.limit(&limits).unwrap();
    let files = group.procs_files();
    let lines = |name: &str| {
        files.iter().map(|file| file.with_file_name(name)).find(|file| file.exists()).map(|file| read(&file))
    };
    let disk = format!("{}:{}", device.major, device.minor);
    if let Some(all) = lines("io.max") {
        assert_eq!(all, format!("{disk} rbps=1048576 wbps=2097152 riops=300 wiops=400"));
        return;
    }
    for (name, value) in [("read_bps", 1 << 20), ("write_bps", 2 << 20), ("read_iops", 300), ("write_iops", 400)] {
        let file = format!("blkio.throttle.{name}_device");
        assert_eq!(lines(&file), Some(format!("{disk} {value}")), "{file}");
    }
}

#[test]
fn a_refused_limit_names_its_file() {
    let place = Place::new("refused");
    let group = place.create("one");
    let error = group.limit(&Limits { cpuset_cpus: Some("4000".to_owned()), ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus") && error.to_string().contains("4000"), "{error}");
}

#[test]
fn too_many_processes_are_refused() {
    let mut place = Place::new("pids");
    let group = place.create("one");
    group.limit(&Limits { pids: Some(1), ..Limits::default() }).unwrap();
    let child = place.run(&group, "(sleep 1000) & exit 0");
    assert!(!place.wait(child).success());
}

#[test]
fn out_of_memory_is_counted_and_told() {
    let mut place = Place::new("oom");
    let group = place.create("one");
    let limits = Limits { memory: Some(16 * MIB), memory_swap: Some(16 * MIB), ..Limits::default() };
    group.limit(&limits).unwrap();
    assert_eq!(group.oom_kills().unwrap(), 0);
    let watch = group.watch_oom().unwrap();
    // A shell that doubles a string takes all the memory there is.
    let child = place.run(&group, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    let mut polled = [rustix::event::PollFd::new(&watch, watch.events())];
    let most = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&most)).unwrap(), 1);
    watch.clear().unwrap();
    assert!(!place.wait(child).success());
    until("the kill is counted", || group.oom_kills().unwrap() == 1);
    let above = place.cgroups.get(place.cgroups.parent());
    assert_eq!(above.oom_kills().unwrap(), 1);
}

#[test]
fn statistics_tell_what_happened() {
    let mut place = Place::new("stats");
    let group = place.create("one");
    place.run(&group, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000");
    until("it sleeps", || {
        let pids = group.pids().unwrap();
        pids.iter().any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n"))
    });
    let stats = group.stats().unwrap();
    assert!(stats.cpu.total > 1_000_000, "{:?}", stats.cpu);
    let memory = stats.memory.unwrap();
    assert!(memory.usage > 0 && memory.limit == system::memory().unwrap());
    assert_eq!(memory.details.len(), if memory.is_v2 { 31 } else { 32 });
    assert_eq!(stats.pids.current, 1);
    let is_v2 = place.cgroups.layout().version == Version::V2;
    assert_eq!(stats.cpu.per_cpu.is_empty(), is_v2);
    assert!(system::cpu_usage().unwrap() > stats.cpu.total);
    assert!(system::online_cpus().unwrap() >= 1);
}

#[test]
fn a_host_limits_its_containers_and_ends_them() {
    let mut place = Place::new("host");
    let host = place.create("h");
    let limits = Limits {
        memory: Some(64 * MIB),
        cpu_quota: Some(100_000),
        cpu_period: Some(100_000),
        pids: Some(50),
        ..Limits::default()
    };
    host.limit(&limits).unwrap();
    let itself = place.cgroups.create(&host.path().of_host_itself()).unwrap();
    itself.mirror_limits_of(&host).unwrap();
    let containers = host.path().of_hosts_containers();
    let path = CgroupPath::of_container(&containers, "/team", "c").unwrap();
    assert_eq!(path.to_string(), format!("{}/nested/team/c", host.path()));
    let child = place.cgroups.create(&path).unwrap();
    child.limit(&Limits { memory: Some(128 * MIB), cpu_quota: Some(300_000), ..Limits::default() }).unwrap();
    let expected = Effective { cpu_quota: Some(1.0), cpus: child.effective().cpus, memory: Some(64 << 20) };
    assert_eq!(child.effective(), expected);
    // The host's own leaf shows the limits, for programs that look.
    assert_eq!(itself.memory_stats().unwrap().unwrap().limit, 64 << 20);
    assert_eq!(itself.stats().unwrap().pids.limit, 50);
    place.run(&itself, "exec sleep 1000");
    place.run(&child, "exec sleep 1000");
    until("both run", || host.pids().unwrap().len() == 2);
    host.kill().unwrap();
    host.remove().unwrap();
    assert!(!child.exists());
}

#[test]
fn devices_that_no_rule_allows_are_refused() {
    let mut place = Place::new("devices");
    let group = place.create("one");
    let rules: Vec<Rule> = ["-a *:* rwm", "c *:* m", "c 1:3 rwm"].iter().map(|text| text.parse().unwrap()).collect();
    let attached = std::cell::RefCell::new(None);
    let attach = |dir: &Path, program: &[u8]| {
        attached.replace(Some((dir.to_owned(), program.len())));
        Ok(())
    };
    group.set_devices(&rules, &attach).unwrap();
    if place.cgroups.layout().hierarchy("devices").is_some() {
        let good = place.run(&group, "exec true < /dev/null");
        let bad = place.run(&group, "exec true < /dev/zero");
        assert!(place.wait(good).success());
        assert!(!place.wait(bad).success());
    } else {
        // Attaching is the runtime's part.
        let (dir, length) = attached.take().expect("a program is attached");
        assert_eq!(Some(dir), group.unified_dir());
        assert_eq!(length % 8, 0);
    }
}

#[test]
fn top_shows_the_processes() {
    let mut place = Place::new("top");
    let group = place.create("one");
    place.run(&group, "exec sleep 1000");
    let shows_sleep = || {
        let processes = Process::read_all(&group.pids().unwrap(), Pids::OfMachine).unwrap();
        let format = Format::parse(&["-o".to_owned(), "pid,args".to_owned()]).unwrap();
        let table = format.table(&processes, &Snapshot::read(Path::new("/")).unwrap());
        table.rows.len() == 1 && table.rows[0][1] == "sleep 1000"
    };
    until("sleep is shown", shows_sleep);
}

#[test]
fn the_view_is_that_of_the_layout() {
    let place = Place::new("view");
    let group = place.create("one");
    match (group.view(), place.cgroups.layout().version) {
        (View::Unified { dir }, Version::V2) => assert!(dir.join("cgroup.procs").exists()),
        (View::Legacy(mounts), Version::V1 | Version::Hybrid) => {
            assert!(!mounts.is_empty());
            for mount in &mounts {
                assert!(mount.dir.join("cgroup.procs").exists(), "{mount:?}");
            }
        }
        (view, version) => panic!("{view:?} on {version:?}"),
    }
    let files = group.procs_files();
    assert!(files.iter().all(|file| read(file).is_empty()));
}

#[test]
fn the_machine_supports_what_docker_needs() {
    let place = Place::new("support");
    let support = Support::of(&place.cgroups);
    assert!(support.memory && support.cpu_cfs && support.cpu_shares && support.pids && support.cpuset, "{support:?}");
    assert!(!support.cpus.is_empty() && !support.mems.is_empty(), "{support:?}");
    let mut asked = Resources { memory: 64 * MIB, pids_limit: Some(5), nano_cpus: 500_000_000, ..Resources::default() };
    assert_eq!(support.admit(&mut asked, false).unwrap().len(), usize::from(!support.swap));
    let mut none = Support { cpu_count: 2, ..Support::default() };
    assert_eq!(
        none.admit(&mut Resources { memory: 64 * MIB, ..Resources::default() }, false).unwrap(),
        ["Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."]
    );
    none.cpuset = true;
    let error = none.admit(&mut Resources { memory: 5, ..Resources::default() }, false).unwrap_err();
    assert_eq!(error.to_string(), "Minimum memory limit allowed is 6MB");
}
