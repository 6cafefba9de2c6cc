//! Containers of other OCI runtimes. Needs root, busybox-static, crun and runc.
#![allow(clippy::unwrap_used)]

mod support;
use droste_runtime::namespaces::{BindOptions, HostNamespaces};
use droste_runtime::oci::OciOptions;
use droste_runtime::plan::*;
use droste_runtime::{Attachment, LaunchError, Shim};
use support::*;
use tokio::io::AsyncWriteExt;

async fn launch(
    place: &Place,
    runtime: &str,
    mut plan: LaunchPlan,
    mut fds: Vec<std::os::fd::OwnedFd>,
) -> Result<(Shim, Attachment), LaunchError> {
    let (attachment, socket) = Attachment::pair().unwrap();
    plan.stdio.attached.push(AttachPlan { socket: FdIndex(fds.len() as u32), streams: Streams::ALL });
    fds.push(socket);
    let cgroups_path = Some(format!("/drt-{}-{}", std::process::id(), &plan.id[56..]));
    // crun refuses the hybrid layout of some test machines; it is shown a unified one.
    let hybrid = std::path::Path::new("/sys/fs/cgroup/unified").exists();
    let command = if runtime == "crun" && hybrid {
        let script = "mount -t cgroup2 none /sys/fs/cgroup; exec crun --cgroup-manager=disabled \"$@\"";
        ["sh", "-c", script, "crun"].map(String::from).to_vec()
    } else {
        vec![runtime.to_owned()]
    };
    let resources = Some(serde_json::json!({"devices": [{"allow": true, "access": "rwm"}]}));
    let options = OciOptions { runtime: command, cgroups_path, seccomp: None, resources };
    Ok((place.runtime.launch_oci(plan, fds, options).await?, attachment))
}

#[tokio::test(flavor = "multi_thread")]
async fn they_run_the_same_plan() {
    let place = Place::new();
    for runtime in ["crun", "runc"] {
        std::fs::create_dir_all(place.path("src")).unwrap();
        std::fs::write(place.path("src/f"), "bound\n").unwrap();
        let own = HostNamespaces::own().unwrap().view().unwrap();
        let source = own.open_bind_source(&place.path("src"), BindOptions::default()).unwrap();
        let mut plan = place.plan(&["sh", "-c", "id -u; pwd; hostname; cat /b/f; cat; echo err >&2; exit 3"]);
        plan.mounts.push(Mount::bind(FdIndex(0), "/b", MountFlags::RDONLY));
        plan.process.user = "u".into();
        plan.process.cwd = "/made".into();
        plan.stdio.open_stdin = true;
        plan.stdio.stdin_once = true;
        plan.stdio.log = Some(place.log_of(&plan));
        let log = plan.stdio.log.as_ref().unwrap().path.clone();
        let (shim, mut attachment) = launch(&place, runtime, plan, vec![source.mount]).await.unwrap();
        attachment.input.write_all(b"typed\n").await.unwrap();
        attachment.input.shutdown().await.unwrap();
        let output = collect(&mut attachment).await;
        assert_eq!(output.stdout, "1000\n/made\nbox\nbound\ntyped\n", "{runtime} {output:?}");
        assert_eq!(output.stderr, "err\n");
        assert_eq!(exit(&shim).await.code, 3);
        assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_init_signals_and_errors() {
    let place = Place::new();
    for runtime in ["crun", "runc"] {
        let mut plan =
            place.plan(&["sh", "-c", "trap 'exit 8' TERM; stty size; ps; echo up; while :; do sleep 0.1; done"]);
        plan.stdio.tty = Some(WindowSize { rows: 33, cols: 99 });
        plan.init = true;
        let (shim, mut attachment) = launch(&place, runtime, plan, vec![]).await.unwrap();
        let seen = expect(&mut attachment, "up\r\n").await;
        assert!(seen.contains("33 99") && seen.contains("/sbin/docker-init -- sh -c"), "{runtime}: {seen}");
        shim.signal(libc::SIGTERM).unwrap();
        assert_eq!(exit(&shim).await.code, 8);
        let failure = launch(&place, runtime, place.plan(&["nope"]), vec![]).await.expect_err("no program");
        assert_eq!(failure.kind, FailureKind::NotFound, "{runtime}: {failure}");
        let missing = launch(&place, "/nonexistent-runtime", place.plan(&["true"]), vec![]).await;
        assert!(missing.expect_err("no runtime").message.contains("/nonexistent-runtime"));
    }
    let left: Vec<_> = std::fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .filter(|line| line.contains(place.dir.path().to_str().unwrap()))
        .map(String::from)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
