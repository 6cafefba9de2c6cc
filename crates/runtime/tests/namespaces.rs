//! Entering namespaces, bind sources, control groups, and what is left afterwards. Needs root and busybox-static.
#![allow(clippy::unwrap_used)]

mod support;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use droste_runtime::namespaces::*;
use droste_runtime::plan::*;
use support::*;

const RECURSIVE: BindOptions = BindOptions {
    create_directory: false,
    non_recursive: false,
    keep_covered: false,
    propagation: Propagation::Private,
};
const CREATE: BindOptions = BindOptions { create_directory: true, ..RECURSIVE };

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_source_is_the_hosts_own() {
    let place = Place::new();
    let script = "mkdir -p /d/sub; echo mine > /d/f; ln -s /d /abs; ln -s ../../../../d /up; ln -s /proc/1/root/etc /magic; \
                  ln -s /proc/self/cwd /cwd; echo up; sleep 1000";
    let (host, mut attachment) = place.attached(place.plan(&["sh", "-c", script]), vec![]).await.unwrap();
    expect(&mut attachment, "up").await;
    let view = HostNamespaces::of(host.pidfd().as_fd(), host.pid()).unwrap().view().unwrap();
    for path in ["/d/f", "/abs/f", "/up/f", "/../../d/f"] {
        let source = view.open_bind_source(path.as_ref(), RECURSIVE).expect(path);
        assert!(!source.is_dir && !source.is_socket && !source.read_only, "{path}");
    }
    for path in ["/magic/passwd", "/cwd", "/proc/self/fd/0", "/proc/1/root/d"] {
        assert!(matches!(view.open_bind_source(path.as_ref(), CREATE), Err(BindError::Open { .. })), "{path}");
    }
    let missing = view.open_bind_source(Path::new("/none/x"), RECURSIVE);
    assert_eq!(missing.expect_err("missing").to_string(), "bind source path does not exist: /none/x");
    let made = view.open_bind_source(Path::new("/none/x"), CREATE).unwrap();
    assert!(made.is_dir && !Path::new("/none").exists());
    let directory = view.open_bind_source(Path::new("/abs"), RECURSIVE).unwrap();
    let mut plan = place.plan(&["sh", "-c", "cat /b/f; echo theirs > /b/g; ls -d /b2"]);
    plan.mounts.push(Mount::bind(FdIndex(0), "/b", MountFlags::NONE));
    plan.mounts.push(Mount::bind(FdIndex(1), "/b2", MountFlags::NONE));
    let (nested, mut output) = place.attached(plan, vec![directory.mount, made.mount]).await.unwrap();
    assert_eq!(collect(&mut output).await.stdout, "mine\n/b2\n");
    exit(&nested).await;
    assert_eq!(view.run(|| fs::read_to_string("/d/g").unwrap()).unwrap(), "theirs\n");
    assert!(view.run(|| fs::metadata("/none/x").unwrap().is_dir()).unwrap());
    host.signal(9).unwrap();
    exit(&host).await;
    assert!(HostNamespaces::of(host.pidfd().as_fd(), host.pid()).is_err(), "it is dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_only_on_the_host_stays_so() {
    let place = Place::new();
    fs::create_dir(place.path("src")).unwrap();
    let own = HostNamespaces::own().unwrap().view().unwrap();
    let source = own.open_bind_source(&place.path("src"), RECURSIVE).unwrap();
    let mut plan = place.plan(&["sleep", "1000"]);
    plan.mounts.push(Mount::bind(FdIndex(0), "/ro", MountFlags::RDONLY));
    let host = place.runtime.launch(plan, vec![source.mount]).await.unwrap();
    let view = HostNamespaces::of_pid(host.pid()).unwrap().view().unwrap();
    let source = view.open_bind_source(Path::new("/ro"), RECURSIVE).unwrap();
    assert!(source.read_only);
    assert!(matches!(view.open_bind_source(Path::new("/ro/new"), CREATE), Err(BindError::Open { .. })));
    let mut plan = place.plan(&["sh", "-c", "touch /b/x || mount -o remount,rw,bind /b; touch /b/x"]);
    plan.mounts.push(Mount::bind(FdIndex(0), "/b", MountFlags::NONE));
    let (nested, mut output) = place.attached(plan, vec![source.mount]).await.unwrap();
    assert_eq!(collect(&mut output).await.stderr.matches("Read-only file system").count(), 2);
    exit(&nested).await;
    assert!(!place.path("src/x").exists());
    host.signal(9).unwrap();
    exit(&host).await;
}

/// Another process swaps a directory for a link all the time: what is opened is one or the other, never outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_with_a_symlink_never_leaves_the_root() {
    let place = Place::new();
    let script = "mkdir /d; echo inside > /d/hostname; echo up; while :; do ln -s /../../../../../etc /d2; rm /d2; mkdir /d2; echo inside > /d2/hostname; rm -r /d2; done";
    let (host, mut attachment) = place.attached(place.plan(&["sh", "-c", script]), vec![]).await.unwrap();
    expect(&mut attachment, "up").await;
    let machines =
        fs::metadata("/etc/hostname").map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata)).unwrap_or(0);
    let view = HostNamespaces::of_pid(host.pid()).unwrap().view().unwrap();
    for _ in 0..300 {
        if let Ok(source) = view.open_bind_source(Path::new("/d2/hostname"), RECURSIVE) {
            assert_ne!(source.ino, machines);
        }
    }
    host.signal(9).unwrap();
    exit(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_can_be_bound_and_the_daemons_threads_stay_where_they_are() {
    let place = Place::new();
    let _listener = std::os::unix::net::UnixListener::bind(place.path("s")).unwrap();
    symlink("s", place.path("link")).unwrap();
    let own = HostNamespaces::own().unwrap().view().unwrap();
    let source = own.open_bind_source(&place.path("link"), RECURSIVE).unwrap();
    let metadata = fs::metadata(place.path("s")).unwrap();
    let found = (std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata));
    assert!(source.is_socket && (source.dev, source.ino) == found);
    let host = place.runtime.launch(place.plan(&["sleep", "1000"]), vec![]).await.unwrap();
    let view = HostNamespaces::of_pid(host.pid()).unwrap().view().unwrap();
    let before = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    assert!(!view.run(|| place.path("s").exists()).unwrap());
    assert!(place.path("s").exists() && fs::read_link("/proc/thread-self/ns/mnt").unwrap() == before);
    host.signal(9).unwrap();
    exit(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_containers_root() {
    let place = Place::new();
    let plan = place.plan(&["sh", "-c", "mkdir /v; echo written > /etc/new"]);
    let Rootfs::Overlay(overlay) = plan.rootfs.clone() else { panic!("an overlay") };
    place.run(plan).await.unwrap();
    fs::create_dir(place.path("volume")).unwrap();
    fs::write(place.path("volume/f"), "volume").unwrap();
    fs::create_dir(place.path("place")).unwrap();
    let own = HostNamespaces::own().unwrap().view().unwrap();
    let volume = own.open_bind_source(&place.path("volume"), RECURSIVE).unwrap();
    let binds = vec![(volume.mount, "/v".into())];
    let root = PrivateRoot { overlay: &overlay, place: &place.path("place"), binds };
    let seen = root.run(|| {
        (fs::read_to_string("/etc/new").unwrap(), fs::read_to_string("/v/f").unwrap(), Path::new("/work").exists())
    });
    assert_eq!(seen.unwrap(), ("written\n".into(), "volume".into(), false));
    assert_eq!(fs::read_dir(place.path("place")).unwrap().count(), 0);
}

/// Mounts made under a shared bind show on the other side, with a slave one way only, and not at all by default.
#[tokio::test(flavor = "multi_thread")]
async fn propagation_is_what_was_asked_for() {
    use rustix::mount::{MountFlags as Flags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    let place = Place::new();
    let path = place.path("shared");
    fs::create_dir(&path).unwrap();
    mount("none", &path, "tmpfs", Flags::empty(), None).unwrap();
    mount_change(&path, MountPropagationFlags::SHARED).unwrap();
    let own = HostNamespaces::own().unwrap().view().unwrap();
    let options = BindOptions { propagation: Propagation::Shared, ..RECURSIVE };
    for (propagation, outwards, inwards) in
        [(Propagation::Shared, true, true), (Propagation::Slave, false, true), (Propagation::Private, false, false)]
    {
        fs::create_dir_all(path.join("in")).unwrap();
        fs::create_dir_all(path.join("out")).unwrap();
        let source = own.open_bind_source(&path, options).unwrap();
        let mut plan = place.plan(&[
            "sh",
            "-c",
            "mount -t tmpfs none /s/out && echo made; read x; grep -c ' /s/in ' /proc/mounts",
        ]);
        plan.stdio.open_stdin = true;
        plan.process.capabilities = Capabilities::all_of(DEFAULT_CAPS | 1 << 21);
        let bind = MountSource::Bind { mount: FdIndex(0), propagation, recursive_readonly: false };
        plan.mounts.push(Mount { target: "/s".into(), source: bind, flags: MountFlags::NONE });
        let (shim, mut attachment) = place.attached(plan, vec![source.mount]).await.unwrap();
        expect(&mut attachment, "made").await;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert_eq!(mounts.contains("/shared/out "), outwards, "{propagation:?}");
        mount("none", path.join("in"), "tmpfs", Flags::empty(), None).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut attachment.input, b"\n").await.unwrap();
        assert_eq!(collect(&mut attachment).await.stdout.trim(), u8::from(inwards).to_string(), "{propagation:?}");
        exit(&shim).await;
        unmount(path.join("in"), UnmountFlags::DETACH).unwrap();
        if outwards {
            unmount(path.join("out"), UnmountFlags::DETACH).unwrap();
        }
    }
    unmount(&path, UnmountFlags::DETACH).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_layers_as_docker_has() {
    let place = Place::new();
    let mut plan = place.plan(&["sh", "-c", "ls /layer | wc -l; cat /layer/over"]);
    let mut lowers = Vec::new();
    for number in 0..126 {
        let name = format!("l/{number:026}");
        let layer = place.path("layers").join(&name).join("layer");
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(number.to_string()), "").unwrap();
        fs::write(layer.join("over"), number.to_string()).unwrap();
        lowers.push(name);
    }
    lowers.push("base".into());
    let Rootfs::Overlay(overlay) = &mut plan.rootfs else { panic!("an overlay") };
    overlay.lowers = lowers;
    assert_eq!(place.run(plan).await.unwrap().output.stdout, "127\n0");
}

struct Group(std::path::PathBuf);

impl Group {
    fn new(hierarchy: &str) -> Self {
        let path = Path::new(hierarchy).join(format!("drt-{}-{}", std::process::id(), rand()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }
}

fn rand() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

fn unified() -> &'static str {
    if Path::new("/sys/fs/cgroup/unified").exists() { "/sys/fs/cgroup/unified" } else { "/sys/fs/cgroup" }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_its_control_group_from_the_first_instruction() {
    let place = Place::new();
    let group = Group::new(unified());
    let mut plan = place.plan(&["sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup; sleep 1000"]);
    plan.cgroup.v2 = Some(group.0.to_str().unwrap().into());
    plan.mounts.push(Mount::cgroup2(false));
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let seen = expect(&mut attachment, "cgroup.procs").await;
    assert!(seen.contains("0::/\n"), "{seen}");
    let procs = fs::read_to_string(group.0.join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == shim.pid().to_string()), "{procs}");
    let state_dir = shim.state_dir().join("e");
    fs::create_dir(&state_dir).unwrap();
    let (mut attachment, socket) = droste_runtime::Attachment::pair().unwrap();
    let exec = ExecPlan {
        id: "e".into(),
        state_dir: state_dir.to_str().unwrap().into(),
        target: FdIndex(0),
        process: process(&["cat", "/proc/self/cgroup"]),
        cgroup: CgroupPlan { v2: Some(group.0.to_str().unwrap().into()), ..CgroupPlan::default() },
        stdio: Stdio {
            attached: vec![AttachPlan { socket: FdIndex(1), streams: Streams::OUTPUT }],
            ..Stdio::default()
        },
    };
    let exec = place.runtime.exec(exec, vec![shim.pidfd().try_clone().unwrap(), socket]).await.unwrap();
    assert!(collect(&mut attachment).await.stdout.contains("0::/\n"));
    exit(&exec).await;
    shim.signal(9).unwrap();
    exit(&shim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_program_decides_what_can_be_opened() {
    use droste_runtime::sys::bpf::{attach_device_program, load_device_program};
    let place = Place::new();
    let group = Group::new(unified());
    let directory = fs::File::open(&group.0).unwrap();
    // Is it 1:3? The minor number is the third word of the context: r2 = ctx[8]; r0 = 1; if r2 == 3 exit; r0 = 0; exit.
    let only_null = [
        [0x61, 0x12, 8, 0, 0, 0, 0, 0],
        [0xb7, 0, 0, 0, 1, 0, 0, 0],
        [0x15, 2, 1, 0, 3, 0, 0, 0],
        [0xb7, 0, 0, 0, 0, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ];
    let nothing = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let strict = load_device_program(&nothing.concat()).unwrap();
    attach_device_program(directory.as_fd(), strict.as_fd(), None).unwrap();
    let program = load_device_program(&only_null.concat()).unwrap();
    attach_device_program(directory.as_fd(), program.as_fd(), Some(strict.as_fd())).unwrap();
    let mut plan = place.plan(&["sh", "-c", "echo x > /dev/null && echo null; echo x > /dev/zero"]);
    // Making nodes asks the program, too.
    plan.mounts.retain(|mount| mount.target != "/dev");
    let own = HostNamespaces::own().unwrap().view().unwrap();
    let dev = own.open_bind_source(Path::new("/dev"), RECURSIVE).unwrap();
    plan.mounts.insert(1, Mount::bind(FdIndex(0), "/dev", MountFlags::NONE));
    plan.mounts.retain(|mount| !mount.target.starts_with("/dev/"));
    (plan.devices, plan.links) = Default::default();
    plan.cgroup.v2 = Some(group.0.to_str().unwrap().into());
    let (shim, mut attachment) = place.attached(plan, vec![dev.mount]).await.unwrap();
    let output = collect(&mut attachment).await;
    exit(&shim).await;
    assert_eq!(output.stdout, "null\n", "{output:?}");
    assert!(output.stderr.contains("/dev/zero: Operation not permitted"), "{output:?}");
}

/// Version 1 hierarchies, where the machine has some.
#[tokio::test(flavor = "multi_thread")]
async fn in_every_hierarchy_with_all_that_it_starts() {
    let place = Place::new();
    let names = ["pids", "freezer", "devices", "systemd"];
    let there: Vec<_> =
        names.iter().filter(|name| Path::new("/sys/fs/cgroup").join(name).join("tasks").exists()).collect();
    let groups: Vec<_> = there.iter().map(|name| Group::new(&format!("/sys/fs/cgroup/{name}"))).collect();
    let mut plan = place.plan(&[
        "sh",
        "-c",
        "cat /proc/self/cgroup; ls /sys/fs/cgroup/pids/tasks /sys/fs/cgroup/systemd/tasks; sleep 1000 & echo ready; wait",
    ]);
    plan.namespaces.cgroup = Namespace::Machine;
    plan.cgroup.v1_procs =
        groups.iter().map(|group| group.0.join("cgroup.procs").to_str().unwrap().to_owned()).collect();
    let all = there.iter().map(|name| match **name {
        "systemd" => ("systemd".to_owned(), vec!["name=systemd".to_owned()]),
        name => (name.to_owned(), vec![name.to_owned()]),
    });
    let source = MountSource::CgroupV1(all.collect());
    plan.mounts.push(Mount { target: "/sys/fs/cgroup".into(), source, flags: MountFlags::RDONLY });
    let (shim, mut attachment) = place.attached(plan, vec![]).await.unwrap();
    let seen = expect(&mut attachment, "ready").await;
    for group in &groups {
        assert!(seen.contains(&format!(":/{}\n", group.0.file_name().unwrap().to_str().unwrap())), "{seen}");
        let procs = fs::read_to_string(group.0.join("cgroup.procs")).unwrap();
        assert!(procs.lines().count() == 2 && procs.contains(&shim.pid().to_string()), "{procs}");
    }
    assert!(there.is_empty() || seen.contains("/sys/fs/cgroup/pids/tasks\n/sys/fs/cgroup/systemd/tasks\n"), "{seen}");
    shim.signal(9).unwrap();
    exit(&shim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oom_killer_is_named() {
    let place = Place::new();
    let v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let group = Group::new(if v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" });
    let (limit, events) =
        if v1 { ("memory.limit_in_bytes", "memory.oom_control") } else { ("memory.max", "memory.events") };
    if !v1 {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
    }
    fs::write(group.0.join(limit), "16777216").unwrap();
    let mut plan = place.plan(&["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    if v1 {
        plan.cgroup.v1_procs = vec![group.0.join("cgroup.procs").to_str().unwrap().into()];
    } else {
        plan.cgroup.v2 = Some(group.0.to_str().unwrap().into());
    }
    plan.cgroup.oom_events = Some(group.0.join(events).to_str().unwrap().into());
    let exit = place.run(plan).await.unwrap().exit;
    assert!(exit.oom_killed && exit.signal == Some(9), "{exit:?}");
}

/// Alone in its process: it counts descriptors and children.
#[test]
fn nothing_is_left() {
    if std::env::var_os("DROSTE_ALONE").is_none() {
        let own = std::env::current_exe().unwrap();
        let status = std::process::Command::new(own)
            .args(["--exact", "nothing_is_left", "--nocapture"])
            .env("DROSTE_ALONE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let place = runtime.block_on(async { Place::new() });
    let before = mounts();
    let mut counts = Vec::new();
    for round in 0..3 {
        runtime.block_on(async {
            for _ in 0..4 {
                let source = HostNamespaces::own()
                    .unwrap()
                    .view()
                    .unwrap()
                    .open_bind_source(&place.path("layers"), RECURSIVE)
                    .unwrap();
                let mut plan = place.plan(&["sh", "-c", "echo out"]);
                plan.mounts.push(Mount::bind(FdIndex(0), "/b", MountFlags::NONE));
                plan.stdio.log = Some(place.log_of(&plan));
                let fds: Vec<OwnedFd> = vec![source.mount];
                let (shim, mut attachment) = place.attached(plan, fds).await.unwrap();
                collect(&mut attachment).await;
                exit(&shim).await;
                place.run(place.plan(&["nope"])).await.expect_err("no program");
            }
        });
        // The last shims are reaped as soon as they are gone.
        let children = || {
            fs::read_dir("/proc/self/task")
                .unwrap()
                .flatten()
                .map(|task| fs::read_to_string(task.path().join("children")).unwrap())
                .collect::<String>()
        };
        while !children().is_empty() {
            runtime.block_on(tokio::time::sleep(std::time::Duration::from_millis(5)));
        }
        if round > 0 {
            counts.push(fs::read_dir("/proc/self/fd").unwrap().count());
        }
    }
    assert_eq!(counts[0], counts[1], "descriptors");
    assert_eq!(mounts(), before);
    let state = place.path("run/containers");
    for container in fs::read_dir(state).unwrap().flatten() {
        let left: Vec<_> = fs::read_dir(container.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty() || left == ["exit"], "{left:?}");
    }
}

/// A root below that of its namespace (a chroot) bounds the look-up as well.
#[test]
fn a_chroots_links_stay_in_it() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../../../../etc/passwd", root.join("upwards")).unwrap();
    let own = HostNamespaces::own().unwrap();
    let view = MountView { mnt: own.mnt, root: fs::File::open(&root).unwrap().into() };
    let inside = std::os::unix::fs::MetadataExt::ino(&fs::metadata(root.join("etc/passwd")).unwrap());
    for path in ["/etc/passwd", "/absolute", "/upwards", "/../../../../etc/passwd"] {
        assert_eq!(view.open_bind_source(Path::new(path), RECURSIVE).expect(path).ino, inside, "{path}");
    }
    assert_eq!(view.run(|| fs::read_to_string("/upwards").unwrap()).unwrap(), "inside");
}
