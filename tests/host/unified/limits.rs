//! Limits: in the kernel's files, changed while a container runs, and enforced.

use droste_engine::UpdateContainer;
use droste_model::container::Resources;

use crate::engine::{MIB, Own, exec, limited, remove, request, run, sleeper, start};

#[tokio::test(flavor = "multi_thread")]
async fn are_written_and_changed() {
    let own = Own::new().await;
    let asked = Resources {
        memory: 64 * MIB,
        memory_swap: 100 * MIB,
        memory_reservation: 32 * MIB,
        nano_cpus: 500_000_000,
        cpu_shares: 2048,
        cpuset_cpus: "1".to_owned(),
        cpuset_mems: "0".to_owned(),
        pids_limit: Some(17),
        ..Resources::default()
    };
    start(&own, sleeper("one", asked)).await;
    for (file, value) in [
        ("memory.max", "67108864"),
        // v2 counts swap by itself.
        ("memory.swap.max", "37748736"),
        ("memory.low", "33554432"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "174"),
        ("cpuset.cpus", "1"),
        ("cpuset.mems", "0"),
        ("pids.max", "17"),
    ] {
        assert_eq!(own.read(&own, "one", file), value, "{file}");
        assert_eq!(exec(&own, "one", &["cat", &format!("/sys/fs/cgroup/{file}")]).await, value, "{file} inside");
    }
    assert_eq!(exec(&own, "one", &["nproc"]).await, "1");
    let change = Resources {
        memory: 80 * MIB,
        memory_swap: 120 * MIB,
        nano_cpus: 1_500_000_000,
        cpu_shares: 1024,
        cpuset_cpus: "0-1".to_owned(),
        pids_limit: Some(-1),
        ..Resources::default()
    };
    let warnings = own.update("one", UpdateContainer { resources: change, restart_policy: None }).await.unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    for (file, value) in [
        ("memory.max", "83886080"),
        ("memory.swap.max", "41943040"),
        ("memory.low", "33554432"),
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0-1"),
        ("pids.max", "max"),
    ] {
        assert_eq!(own.read(&own, "one", file), value, "{file} after the update");
    }
    assert_eq!(exec(&own, "one", &["nproc"]).await, "2");
    remove(&own, "one").await;
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn are_none_unless_asked_for() {
    let own = Own::new().await;
    start(&own, sleeper("one", Resources::default())).await;
    for (file, value) in [("memory.max", "max"), ("memory.swap.max", "max"), ("cpu.max", "max 100000"), ("cpu.weight", "100"), ("pids.max", "max")] {
        assert_eq!(own.read(&own, "one", file), value, "{file}");
    }
    remove(&own, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_twice_as_much_with_swap_unless_said() {
    let own = Own::new().await;
    start(&own, sleeper("one", Resources { memory: 32 * MIB, ..Resources::default() })).await;
    assert_eq!(own.read(&own, "one", "memory.swap.max"), "33554432");
    start(&own, sleeper("two", Resources { memory: 32 * MIB, memory_swap: -1, ..Resources::default() })).await;
    assert_eq!(own.read(&own, "two", "memory.swap.max"), "max");
    remove(&own, "one").await;
    remove(&own, "two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_kills_and_is_told() {
    let own = Own::new().await;
    let few = Resources { memory: 20 * MIB, memory_swap: 20 * MIB, ..Resources::default() };
    let greedy = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let ended = run(&own, limited(request("one", &["sh", "-c", greedy]), few.clone())).await;
    assert_eq!((ended.code, ended.oom_killed), (137, true), "{ended:?}");
    let ended = run(&own, limited(request("two", &["sh", "-c", "exit 137"]), few.clone())).await;
    assert_eq!((ended.code, ended.oom_killed), (137, false), "{ended:?}");
    // A child's death is the container's misfortune, too.
    let child = format!("sh -c '{greedy}'; echo ended $?");
    let ended = run(&own, limited(request("three", &["sh", "-c", &child]), few)).await;
    assert_eq!((ended.code, ended.oom_killed), (0, true), "{ended:?}");
    assert!(ended.output.contains("ended 137"), "{ended:?}");
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_processes_are_refused() {
    let own = Own::new().await;
    let few = Resources { pids_limit: Some(3), ..Resources::default() };
    let script = "sleep 100000 & sleep 100000 & sleep 100000 & echo all";
    let ended = run(&own, limited(request("one", &["sh", "-c", script]), few)).await;
    assert!(ended.output.contains("can't fork") && !ended.output.contains("all"), "{ended:?}");
    own.assert_no_cgroups();
}

#[tokio::test(flavor = "multi_thread")]
async fn that_cannot_be_are_refused() {
    let own = Own::new().await;
    let wrong = [
        (Resources { memory: 1000, ..Resources::default() }, "Minimum memory limit allowed is 6MB"),
        (Resources { nano_cpus: 3_000_000_000, ..Resources::default() }, "as there are only 2 CPUs available"),
        (Resources { cpuset_cpus: "0-7".to_owned(), ..Resources::default() }, "Requested CPUs are not available"),
    ];
    for (resources, says) in wrong {
        let error = own.create(sleeper("one", resources)).await.expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}
