//! Hosts in hosts: where their cgroups are, and what holds for the sum.

use std::time::Duration;

use droste_engine::Host;
use droste_model::container::Resources;

use crate::engine::{MIB, Own, exec, limited, remove, request, run, sleeper, start};

/// Two hosts, one in the other; the outer one with limits.
async fn two_levels(own: &Own, limits: Resources) -> [Host; 2] {
    let mut listeners = own.engine.take_listeners().unwrap();
    let outer = own.start_host(own, &mut listeners, sleeper("outer", limits)).await;
    let inner = own.start_host(&outer, &mut listeners, sleeper("inner", Resources::default())).await;
    assert_eq!((outer.level(), inner.level()), (1, 2));
    [outer, inner]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cgroup_is_below_that_of_its_host() {
    let own = Own::new().await;
    let [outer, inner] = two_levels(&own, Resources::default()).await;
    start(&inner, sleeper("leaf", Resources { memory: 16 * MIB, pids_limit: Some(5), ..Resources::default() })).await;
    let folders = [own.folder(&own, "outer"), own.folder(&outer, "inner"), own.folder(&inner, "leaf")];
    assert!(folders[1].starts_with(&folders[0]) && folders[2].starts_with(&folders[1]), "{folders:?}");
    for (host, name) in [(&*own, "outer"), (&outer, "inner"), (&inner, "leaf")] {
        assert_eq!(exec(host, name, &["cat", "/proc/1/cgroup", "/proc/self/cgroup"]).await, "0::/\n0::/", "{name}");
    }
    assert_eq!(own.read(&inner, "leaf", "memory.max"), "16777216");
    assert_eq!(own.read(&inner, "leaf", "pids.max"), "5");
    // What is below a host is counted with it.
    let counted = own.stats("outer").await.unwrap().cgroup;
    assert_eq!(counted.pids.current, 3);
    own.kill("outer", None).await.unwrap();
    for (host, name) in [(&*own, "outer"), (&outer, "inner"), (&inner, "leaf")] {
        assert_eq!(host.container(name).unwrap().state.word(), "exited", "{name}");
    }
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_memory_bounds_what_runs_on_it() {
    let own = Own::new().await;
    let [outer, inner] = two_levels(&own, Resources { memory: 48 * MIB, memory_swap: 48 * MIB, ..Resources::default() }).await;
    // A host shows its limit, to itself and in `docker info`, at each level.
    assert_eq!(exec(&own, "outer", &["cat", "/sys/fs/cgroup/memory.max"]).await, "50331648");
    for host in [&outer, &inner] {
        assert_eq!(host.info().await.unwrap().memory, 48 << 20);
    }
    let greedy = request("greedy", &["sh", "-c", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"]);
    let ended = run(&inner, greedy).await;
    assert_eq!(ended.code, 137, "{ended:?}");
    assert!(ended.oom_killed, "the kill is counted where the process was: {ended:?}");
    for (host, name) in [(&*own, "outer"), (&outer, "inner")] {
        assert_eq!(host.container(name).unwrap().state.word(), "running", "{name}");
    }
    remove(&own, "outer").await;
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_processes_bound_the_sum() {
    let own = Own::new().await;
    let [outer, inner] = two_levels(&own, Resources { pids_limit: Some(12), ..Resources::default() }).await;
    let three = |name: &str| request(name, &["sh", "-c", "sleep 100000 & sleep 100000 & wait"]);
    start(&outer, three("one")).await;
    start(&inner, three("two")).await;
    while own.read(&own, "outer", "pids.current") != "8" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Four are left for the whole of it, though this container itself may have a hundred.
    let last = limited(request("last", &["sh", "-c", "for n in 1 2 3 4 5; do sleep 100000 & done; echo five"]), Resources { pids_limit: Some(100), ..Resources::default() });
    inner.create(last).await.unwrap();
    if inner.start("last").await.is_ok() {
        while inner.container("last").unwrap().state.running().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let exit = inner.container("last").unwrap().state.exit().map(|exit| exit.code);
    assert!(exit.is_none_or(|code| code != 0), "more processes than the outer host may have");
    assert_eq!(own.read(&own, "outer", "pids.max"), "12");
    remove(&own, "outer").await;
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_devices_bound_its_containers() {
    let own = Own::new().await;
    let [outer, inner] = two_levels(&own, Resources::default()).await;
    for host in [&outer, &inner] {
        let mut request = request("privileged", &["sh", "-c", "mknod /tmp/console c 4 64; : < /tmp/console"]);
        request.host.privileged = true;
        let ended = run(host, request).await;
        assert!(ended.code != 0 && ended.output.contains("Operation not permitted"), "{ended:?}");
        let ended = run(host, self::request("zero", &["head", "-c", "0", "/dev/zero"])).await;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    remove(&own, "outer").await;
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_host_stands_still_with_all_that_runs_on_it() {
    let own = Own::new().await;
    let [outer, inner] = two_levels(&own, Resources::default()).await;
    start(&inner, sleeper("leaf", Resources::default())).await;
    let frozen = |host: &Host, name: &str| own.read(host, name, "cgroup.events").contains("frozen 1");
    own.pause("outer").await.unwrap();
    assert!(frozen(&own, "outer") && frozen(&outer, "inner") && frozen(&inner, "leaf"));
    own.unpause("outer").await.unwrap();
    assert!(!frozen(&own, "outer") && !frozen(&inner, "leaf"));
    assert_eq!(exec(&inner, "leaf", &["echo", "awake"]).await, "awake");
    remove(&own, "outer").await;
    own.assert_no_cgroups();
}
