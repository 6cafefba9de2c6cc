//! Another process in a running container. Needs root and busybox-static.
#![allow(clippy::unwrap_used)]

mod support;
use droste_runtime::plan::*;
use droste_runtime::{Attachment, LaunchError, Shim};
use support::*;
use tokio::io::AsyncWriteExt;

async fn exec(
    place: &Place,
    container: &Shim,
    name: &str,
    process: Process,
    tty: Option<WindowSize>,
) -> Result<(Shim, Attachment), LaunchError> {
    let (attachment, socket) = Attachment::pair().unwrap();
    let state_dir = container.state_dir().join("exec").join(format!("{name:0>64}"));
    std::fs::create_dir_all(&state_dir).unwrap();
    let attached = vec![AttachPlan { socket: FdIndex(1), streams: Streams::ALL }];
    let plan = ExecPlan {
        id: name.into(),
        state_dir: state_dir.to_str().unwrap().into(),
        target: FdIndex(0),
        process,
        cgroup: CgroupPlan::default(),
        stdio: Stdio { tty, open_stdin: true, stdin_once: true, attached, log: None },
    };
    let shim = place.runtime.exec(plan, vec![container.pidfd().try_clone().unwrap(), socket]).await?;
    Ok((shim, attachment))
}

async fn container(place: &Place) -> Shim {
    place.runtime.launch(place.plan(&["sleep", "1000"]), vec![]).await.unwrap()
}

async fn end(container: Shim) {
    container.signal(9).unwrap();
    exit(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_in_the_container_as_the_user_asked_for() {
    let place = Place::new();
    let container = container(&place).await;
    let mut process =
        process(&["sh", "-c", "id; pwd; echo $A $HOME; hostname; ls -d /proc/[0-9]* | head -1; cat; exit 4"]);
    process.user = "u:wheel".into();
    process.env.push("A=b c".into());
    process.cwd = "/tmp".into();
    let (shim, mut attachment) = exec(&place, &container, "a", process, None).await.unwrap();
    attachment.input.write_all(b"typed\n").await.unwrap();
    attachment.input.shutdown().await.unwrap();
    let output = collect(&mut attachment).await;
    assert_eq!(
        output.stdout, "uid=1000(u) gid=10(wheel) groups=10(wheel)\n/tmp\nb c /home/u\nbox\n/proc/1\ntyped\n",
        "{}",
        output.stderr
    );
    assert_eq!(exit(&shim).await.code, 4);
    for name in ["mnt", "pid", "ipc", "uts", "cgroup", "net"] {
        let process = support::process(&["readlink", &format!("/proc/self/ns/{name}")]);
        let (_, mut attachment) = exec(&place, &container, name, process, None).await.unwrap();
        let own = std::fs::read_link(format!("/proc/{}/ns/{name}", container.pid())).unwrap();
        assert_eq!(collect(&mut attachment).await.stdout.trim(), own.to_str().unwrap());
    }
    end(container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_its_own() {
    let place = Place::new();
    let container = container(&place).await;
    let process = process(&["sh", "-c", "tty; stty size; read x; stty size; echo $x"]);
    let size = Some(WindowSize { rows: 10, cols: 20 });
    let (shim, mut attachment) = exec(&place, &container, "t", process, size).await.unwrap();
    let seen = expect(&mut attachment, "10 20").await;
    assert!(seen.starts_with("/dev/pts/0"), "{seen}");
    shim.resize(WindowSize { rows: 30, cols: 40 }).await.unwrap();
    attachment.input.write_all(b"word\n").await.unwrap();
    let rest = collect(&mut attachment).await.stdout;
    assert!(rest.contains("30 40\r\nword\r\n"), "{rest}");
    end(container).await;
}

/// The texts are those of Docker 28.5.2 after "unable to start container process: ".
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_what_docker_says() {
    let place = Place::new();
    let container = container(&place).await;
    for (program, cwd, user, kind, message) in [
        ("nope", "/", "", FailureKind::NotFound, "exec: \"nope\": executable file not found in $PATH"),
        ("/etc", "/", "", FailureKind::NotExecutable, "exec: \"/etc\": is a directory: permission denied"),
        (
            "id",
            "/nonex",
            "",
            FailureKind::NotFound,
            "chdir to cwd (\"/nonex\") set in config.json failed: no such file or directory",
        ),
        (
            "id",
            "/etc/passwd",
            "",
            FailureKind::NotFound,
            "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory",
        ),
        ("id", "/", "nosuch", FailureKind::Other, "unable to find user nosuch: no matching entries in passwd file"),
    ] {
        let mut process = process(&[program]);
        process.cwd = cwd.into();
        process.user = user.into();
        let failure = exec(&place, &container, "f", process, None).await.expect_err(program);
        assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
    }
    let (shim, mut attachment) = exec(&place, &container, "g", process(&["/etc/noexecfmt"]), None).await.unwrap();
    assert_eq!(collect(&mut attachment).await.stderr, "exec /etc/noexecfmt: exec format error\n");
    assert_eq!(exit(&shim).await.code, 255);
    end(container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_with_the_container() {
    let place = Place::new();
    let container = container(&place).await;
    let (shim, mut attachment) =
        exec(&place, &container, "d", process(&["sh", "-c", "echo up; sleep 1000"]), None).await.unwrap();
    expect(&mut attachment, "up").await;
    end(container.clone()).await;
    assert_eq!(exit(&shim).await.signal, Some(9));
    assert!(exec(&place, &container, "e", process(&["true"]), None).await.is_err(), "the container is dead");
}
