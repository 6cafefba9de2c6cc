//! What the kernel tests share: a root file system of busybox, plans, and a look at what is left afterwards.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use droste_runtime::plan::*;
use droste_runtime::{Attachment, Ending, LaunchError, Runtime, Shim, Stream};
use tempfile::TempDir;

/// Docker's default set.
pub const DEFAULT_CAPS: u64 = 0xa804_25fb;
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A place for containers that goes with the test.
pub struct Place {
    pub dir: TempDir,
    pub runtime: Runtime,
}

impl Place {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let dir = tempfile::Builder::new().prefix("drt").tempdir_in("/tmp").expect("temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        make_layer(&dir.path().join("layers/base"));
        let runtime = Runtime::new(dir.path().join("run")).expect("runtime");
        Self { dir, runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self, id: &str) -> String {
        let path = self.runtime.state_dir(id);
        fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A container with Docker's defaults.
    pub fn plan(&self, args: &[&str]) -> LaunchPlan {
        let id = format!("{:064x}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = self.path(&id[60..]);
        for name in ["diff", "work"] {
            fs::create_dir_all(home.join(name)).unwrap();
        }
        let text = |name: &str| home.join(name).to_str().unwrap().to_owned();
        LaunchPlan {
            state_dir: self.state(&id),
            hostname: Some("box".into()),
            domainname: None,
            namespaces: Namespaces {
                pid: PidNamespace::New { parent: None },
                net: Namespace::Machine,
                ipc: Namespace::New,
                uts: Namespace::New,
                cgroup: Namespace::New,
            },
            rootfs: Rootfs::Overlay(Overlay {
                layers_dir: self.path("layers").to_str().unwrap().into(),
                lowers: vec!["base".into()],
                upper: Some(OverlayUpper { upper: text("diff"), work: text("work") }),
            }),
            readonly_rootfs: false,
            rootfs_propagation: Propagation::Private,
            mounts: vec![
                Mount::proc(),
                Mount::dev(),
                Mount::devpts(),
                Mount::sysfs(false),
                Mount::mqueue(),
                Mount::shm(1 << 26),
            ],
            devices: Device::defaults(),
            links: default_links(),
            masked_paths: ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"].map(String::from).into(),
            readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"].map(String::from).into(),
            sysctls: Vec::new(),
            process: process(args),
            cgroup: CgroupPlan::default(),
            init: false,
            stdio: Stdio::default(),
            listeners: Vec::new(),
            id,
        }
    }

    pub fn log_of(&self, plan: &LaunchPlan) -> LogPlan {
        let path = self.path(&format!("{}.log", plan.id));
        let path = path.to_str().unwrap().into();
        LogPlan { path, max_size: None, max_file: 1, compress: false, attrs: Vec::new() }
    }

    /// Runs a container to its end and collects what it said.
    pub async fn run(&self, plan: LaunchPlan) -> Result<Outcome, LaunchError> {
        let (shim, mut attachment) = self.attached(plan, Vec::new()).await?;
        let output = collect(&mut attachment).await;
        Ok(Outcome { output, exit: exit(&shim).await })
    }

    /// Launches with an attachment that misses nothing.
    pub async fn attached(
        &self,
        mut plan: LaunchPlan,
        mut fds: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(Shim, Attachment), LaunchError> {
        let (attachment, socket) = Attachment::pair().unwrap();
        let index = FdIndex(fds.len() as u32);
        fds.push(socket);
        plan.stdio.attached.push(AttachPlan { socket: index, streams: Streams::ALL });
        Ok((self.runtime.launch(plan, fds).await?, attachment))
    }

    pub async fn say(&self, script: &str) -> Outcome {
        self.run(self.plan(&["sh", "-c", script])).await.expect("launch")
    }
}

#[derive(Debug)]
pub struct Outcome {
    pub output: Output,
    pub exit: Exit,
}

#[derive(Debug, Default)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

pub async fn collect(attachment: &mut Attachment) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((stream, bytes)) = attachment.output.next().await.expect("output") {
        match stream {
            Stream::Stdout => stdout.extend(bytes),
            Stream::Stderr => stderr.extend(bytes),
        }
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Output { stdout: text(&stdout), stderr: text(&stderr) }
}

/// Reads until the output has `wanted` in it.
pub async fn expect(attachment: &mut Attachment, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let (_, bytes) = attachment.output.next().await.expect("output").unwrap_or_else(|| panic!("{wanted}: {seen}"));
        seen += &String::from_utf8_lossy(&bytes);
    }
    seen
}

pub async fn exit(shim: &Shim) -> Exit {
    match shim.wait().await {
        Ending::Exited(exit) => exit,
        Ending::Lost => panic!("the shim was lost"),
    }
}

pub fn process(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(ToString::to_string).collect(),
        env: vec![PATH.into()],
        cwd: "/".into(),
        user: String::new(),
        groups: Vec::new(),
        umask: 0o022,
        capabilities: Capabilities::all_of(DEFAULT_CAPS),
        no_new_privs: false,
        seccomp: Vec::new(),
        rlimits: Vec::new(),
        oom_score_adj: None,
        apparmor: None,
        selinux: None,
    }
}

fn make_layer(root: &Path) {
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/u"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("these tests need busybox-static");
    for name in [
        "sh", "cat", "ls", "id", "sleep", "ps", "stty", "tty", "pwd", "true", "echo", "kill", "env", "mount",
        "readlink", "seq", "tr", "head", "dd", "grep", "touch", "hostname", "nc", "wc", "umask", "rm", "mkdir", "stat",
        "ln",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001:u:/home/u:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nwheel:x:10:u,root\nug:x:1001:\nextra:x:77:u\n").unwrap();
    for (name, text) in [("etc/badscript", "#!/bin/nope\n"), ("etc/noexecfmt", "garbage")] {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}
