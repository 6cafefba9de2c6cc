//! Launch, view, pause, kill, statistics.

use std::time::Duration;

use droste_cgroup::{Layout, Version};
use droste_model::container::Resources;

use crate::engine::{MIB, Own, exec, remove, request, run, sleeper, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_pure_and_can_limit() {
    let layout = Layout::detect().unwrap();
    assert_eq!((layout.version, layout.hierarchies.len()), (Version::V2, 0));
    let own = Own::new().await;
    let info = own.info().await.unwrap();
    assert_eq!(info.cgroup_version, 2);
    let limits = info.limits;
    for (what, there) in
        [("memory", limits.memory), ("swap", limits.swap), ("shares", limits.cpu_shares), ("quota", limits.cpu_cfs), ("cpuset", limits.cpuset), ("pids", limits.pids)]
    {
        assert!(there, "{what}");
    }
    assert!(!limits.oom_kill_disable, "v2 always kills");
    assert_eq!((info.cpus, info.warnings), (2, Vec::<String>::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sees_its_own_cgroup_as_the_root() {
    let own = Own::new().await;
    let script = "cat /proc/1/cgroup; cat /sys/fs/cgroup/cgroup.procs; grep ' /sys/fs/cgroup ' /proc/mounts; mkdir /sys/fs/cgroup/x";
    let ended = run(&own, request("one", &["sh", "-c", script])).await;
    assert!(ended.output.starts_with("0::/\n1\n"), "{ended:?}");
    assert!(ended.output.contains(" /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec,relatime"), "{ended:?}");
    assert!(ended.output.contains("Read-only file system"), "{ended:?}");
    assert_eq!(ended.code, 1);
    start(&own, sleeper("two", Resources::default())).await;
    assert_eq!(exec(&own, "two", &["cat", "/proc/self/cgroup", "/proc/1/cgroup"]).await, "0::/\n0::/");
    remove(&own, "two").await;
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_may_divide_its_cgroup() {
    let own = Own::new().await;
    let mut request = request("one", &["sh", "-c", "mkdir /sys/fs/cgroup/part && echo 0 > /sys/fs/cgroup/part/cgroup.procs && cat /proc/self/cgroup"]);
    request.host.privileged = true;
    let ended = run(&own, request).await;
    // `cat` was forked after its parent went there.
    assert_eq!((ended.code, ended.output.as_str()), (0, "0::/part\n"));
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_processes_are_frozen() {
    let own = Own::new().await;
    start(&own, sleeper("one", Resources::default())).await;
    let frozen = || own.read(&own, "one", "cgroup.events").contains("frozen 1");
    assert!(!frozen());
    own.pause("one").await.unwrap();
    assert!(frozen());
    assert_eq!(own.container("one").unwrap().state.word(), "paused");
    own.unpause("one").await.unwrap();
    assert!(!frozen());
    assert_eq!(exec(&own, "one", &["echo", "awake"]).await, "awake");
    own.pause("one").await.unwrap();
    own.kill("one", None).await.unwrap();
    let view = own.container("one").unwrap();
    let exit = view.state.exit().expect("a paused container can be killed");
    assert_eq!((exit.code, exit.oom_killed), (137, false));
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_ends_all_and_leaves_no_cgroup() {
    let own = Own::new().await;
    start(&own, request("one", &["sh", "-c", "sleep 100000 & setsid sleep 100000 & wait"])).await;
    while own.read(&own, "one", "pids.current") != "3" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pids = own.read(&own, "one", "cgroup.procs");
    own.kill("one", None).await.unwrap();
    assert_eq!(own.container("one").unwrap().state.exit().map(|exit| exit.code), Some(137));
    for pid in pids.lines() {
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "process {pid} is left");
    }
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count() {
    let own = Own::new().await;
    let mut busy = request("one", &["sh", "-c", "head -c 8000000 /dev/zero > /dev/shm/x; while :; do :; done"]);
    busy.host.resources = Resources { memory: 64 * MIB, pids_limit: Some(9), nano_cpus: 200_000_000, ..Resources::default() };
    start(&own, busy).await;
    // A period that was throttled is counted at its end, its time only when the debt is paid, periods later perhaps.
    let sample = loop {
        let sample = own.stats("one").await.unwrap();
        let written = sample.cgroup.memory.as_ref().is_some_and(|memory| memory.details["shmem"] >= 8_000_000);
        let head_is_gone = sample.cgroup.pids.current == 1;
        if written && head_is_gone && sample.cgroup.cpu.throttled_time > 0 && sample.cgroup.cpu.user > 0 {
            break sample;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let memory = sample.cgroup.memory.unwrap();
    assert!(sample.running && memory.is_v2);
    assert_eq!(memory.limit, 64 << 20);
    assert!(memory.usage >= 8_000_000 && memory.usage <= memory.limit, "{memory:?}");
    for name in ["anon", "file", "shmem", "inactive_file", "pgfault"] {
        assert!(memory.details.contains_key(name), "{name} in {memory:?}");
    }
    let cpu = sample.cgroup.cpu;
    assert!(cpu.total >= cpu.user && cpu.periods >= cpu.throttled_periods && cpu.throttled_periods > 0, "{cpu:?}");
    assert!(sample.system_cpu > cpu.total && sample.online_cpus == 2);
    assert_eq!((sample.cgroup.pids.current, sample.cgroup.pids.limit), (1, 9));
    let later = loop {
        let later = own.stats("one").await.unwrap();
        if later.cgroup.cpu.total > cpu.total {
            break later;
        }
    };
    assert!(later.system_cpu >= sample.system_cpu);
    let top = own.top("one", "-o pid,comm").await.unwrap();
    assert_eq!(top.processes.len(), 1, "{top:?}");
    remove(&own, "one").await;
}
