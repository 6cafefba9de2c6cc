//! Measures a launch and an exec: `launch_cost [COUNT]`, as root, with busybox-static installed.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use droste_runtime::plan::{CgroupPlan, ExecPlan, FdIndex, Stdio};

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let count: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(50);
    let place = support::Place::new();
    let groups = make_groups();
    let (mut launches, mut execs, mut shims) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let mut plan = place.plan(&["sleep", "1000"]);
        plan.cgroup = groups.clone();
        let start = Instant::now();
        shims.push(place.runtime.launch(plan, vec![]).await.expect("launch"));
        launches.push(start.elapsed());
    }
    for (number, shim) in shims.iter().enumerate() {
        let state_dir = shim.state_dir().join("exec").join(number.to_string());
        std::fs::create_dir_all(&state_dir).expect("directory");
        let plan = ExecPlan {
            id: number.to_string(),
            state_dir: state_dir.to_str().expect("text").into(),
            target: FdIndex(0),
            process: support::process(&["true"]),
            cgroup: groups.clone(),
            stdio: Stdio::default(),
        };
        let fd = shim.pidfd().try_clone().expect("descriptor");
        let start = Instant::now();
        let exec = place.runtime.exec(plan, vec![fd]).await.expect("exec");
        execs.push(start.elapsed());
        exec.wait().await;
    }
    show("launch", &mut launches);
    show("exec", &mut execs);
    if std::env::args().nth(2).is_some() {
        println!("{}", shims[0].pid());
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    for shim in &shims {
        shim.signal(9).expect("kill");
        shim.wait().await;
    }
    for path in groups.v1_procs.iter().filter_map(|path| Path::new(path).parent()) {
        std::fs::remove_dir(path).expect("cgroup");
    }
}

/// A group in each version 1 hierarchy, so that joining them is measured, too.
fn make_groups() -> CgroupPlan {
    let make = |name: &&str| {
        let path = Path::new("/sys/fs/cgroup").join(name).join("droste-launch-cost");
        std::fs::create_dir(&path).ok()?;
        Some(path.join("cgroup.procs").to_str()?.to_owned())
    };
    CgroupPlan {
        v1_procs: ["pids", "freezer", "devices", "cpu", "memory"].iter().filter_map(make).collect(),
        ..CgroupPlan::default()
    }
}

fn show(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    println!(
        "{name}: median {:?}, 95th {:?}, best {:?}",
        times[times.len() / 2],
        times[times.len() * 95 / 100],
        times[0]
    );
}
