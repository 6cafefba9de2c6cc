//! Containers that another OCI runtime makes (`--runtime crun`): the shim lays the bundle out in a mount namespace of
//! its own, calls the runtime's `create` and `start`, waits as the subreaper, and calls `delete`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use droste_runtime::plan::{Failure, FailureKind, FdIndex, LaunchPlan, MountSource, Namespace, PidNamespace, Rootfs};
use droste_runtime::sys::process::unshare;
use droste_runtime::sys::signal;
use droste_runtime::wire::OciJob;
use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, mount_bind, mount_bind_recursive, mount_change, move_mount,
};
use rustix::process::Pid;

use super::program::Streams;
use super::report::{Step, failure, receive_fd, refusal};
use super::stage::Fds;
use super::supervise::{Pipes, Service, Work, make_pipes};

/// Calls of one runtime for one container.
struct Caller {
    runtime: Vec<String>,
    bundle: String,
    id: String,
}

/// Makes a container with another runtime.
pub(crate) fn begin(control: OwnedFd, job: &OciJob, mut fds: Fds) -> Result<Service, Failure> {
    let plan = &job.plan;
    lay_out(plan, &job.bundle, &fds)?;
    let Pipes { input, outputs, streams } = make_pipes(&plan.stdio).step("make pipes", String::new)?;
    let children = signal::child_events().step("block SIGCHLD", String::new)?;
    let caller = Caller { runtime: job.runtime.clone(), bundle: job.bundle.clone(), id: plan.id.clone() };
    let work = Work {
        state_dir: plan.state_dir.clone(),
        stdio: plan.stdio.clone(),
        oom_events: plan.cgroup.oom_events.clone(),
        listeners: plan.listeners.clone(),
    };
    let mut service = Service::new(work, control, &mut fds, input, outputs, children)?;
    match caller.start(&mut service, streams) {
        Ok(pid) => {
            service.after = Some(Box::new(move || caller.delete()));
            service.started(pid);
            Ok(service)
        }
        Err(failure) => {
            caller.delete();
            service.control.remove();
            Err(failure)
        }
    }
}

impl Caller {
    fn start(&self, service: &mut Service, streams: Streams) -> Result<Pid, Failure> {
        let pid_file = format!("{}/pid", self.bundle);
        let mut create = self.command("create");
        create.args(["--bundle", &self.bundle, "--pid-file", &pid_file]);
        let console = match streams {
            Streams::Pipes(input, output, errors) => {
                create.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(output).stderr(errors);
                None
            }
            Streams::Terminal(size) => {
                // A socket's path must be short, and a bundle's is not.
                let bundle = File::open(&self.bundle).step("open bundle", || self.bundle.clone())?;
                let path = format!("/proc/{}/fd/{}/console.sock", std::process::id(), bundle.as_raw_fd());
                let listener = UnixListener::bind(&path).step("make console socket", || path.clone())?;
                create.args(["--console-socket", &path]);
                Some((listener, size, bundle))
            }
        };
        self.run(create.arg(&self.id))?;
        if let Some((listener, size, _bundle)) = console {
            let (socket, _) = listener.accept().step("take terminal", String::new)?;
            let master = receive_fd(socket.as_fd()).step("take terminal", String::new)?;
            super::program::set_size(master.as_fd(), size).step("set size of terminal", String::new)?;
            let wants_input = service.work.stdio.open_stdin;
            service.pump.set_terminal(master, wants_input).step("take terminal", String::new)?;
        }
        let text = fs::read_to_string(&pid_file).step("read", || pid_file.clone())?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failure("read", &pid_file, &io::ErrorKind::InvalidData.into()))?;
        self.run(self.command("start").arg(&self.id))?;
        Ok(pid)
    }

    fn delete(&self) {
        // The container is dead; a runtime that forgot it already has nothing to delete.
        let _ = self.command("delete").args(["--force", &self.id]).status();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.runtime[0]);
        command
            .args(&self.runtime[1..])
            .args(["--root", &format!("{}/state", self.bundle)])
            .args(["--log", &self.log(), "--log-format", "json", name])
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn log(&self) -> String {
        format!("{}/runtime.log", self.bundle)
    }

    fn run(&self, command: &mut Command) -> Result<(), Failure> {
        let status = command.status().step("run OCI runtime", || self.runtime[0].clone())?;
        if status.success() { Ok(()) } else { Err(self.complaint(status)) }
    }

    /// The runtime's last words.
    fn complaint(&self, status: ExitStatus) -> Failure {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let words = log.lines().rev().find_map(message).unwrap_or_else(|| format!("{}: {status}", self.runtime[0]));
        let any = |fragments: &[&str]| fragments.iter().any(|fragment| words.contains(fragment));
        let kind = if any(&["executable file not found", "no such file or directory", "No such file or directory"]) {
            FailureKind::NotFound
        } else if any(&["permission denied", "is a directory", "Permission denied"]) {
            FailureKind::NotExecutable
        } else {
            FailureKind::Other
        };
        refusal("run OCI runtime", 0, kind, words)
    }
}

/// The `msg` of a line of a runtime's log.
fn message(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("\"msg\"")?;
    let mut letters = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            letter => text.push(letter),
        }
    }
}

fn lay_out(plan: &LaunchPlan, bundle: &str, fds: &Fds) -> Result<(), Failure> {
    unshare(libc::CLONE_NEWNS).step("make mount namespace", String::new)?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).step("make mounts private", String::new)?;
    let root = format!("{bundle}/rootfs");
    for directory in ["rootfs", "mounts", "ns"] {
        let path = format!("{bundle}/{directory}");
        fs::create_dir_all(&path).step("make", || path.clone())?;
    }
    match &plan.rootfs {
        Rootfs::Overlay(overlay) => droste_runtime::sys::mount::overlay(overlay, Path::new(&root)).map(drop),
        Rootfs::Directory(path) => mount_bind_recursive(path.as_str(), root.as_str()).map_err(io::Error::from),
        Rootfs::Mount(index) => attach(fds, *index, &root),
    }
    .step("mount root", || root.clone())?;
    for mount in &plan.mounts {
        if let MountSource::Bind { mount: index, .. } = &mount.source {
            attach(fds, *index, &format!("{bundle}/mounts/{}", index.0)).step("mount", || mount.target.clone())?;
        }
    }
    for index in joined(plan) {
        let path = format!("{bundle}/ns/{}", index.0);
        File::create(&path).step("make", || path.clone())?;
        let source = format!("/proc/self/fd/{}", fds.get(index)?.as_raw_fd());
        mount_bind(source, path.as_str()).step("mount namespace", || path.clone())?;
    }
    rustix::process::chdir("/").step("leave layers", String::new)
}

fn attach(fds: &Fds, index: FdIndex, path: &str) -> io::Result<()> {
    let mount = fds.get(index).map_err(io::Error::other)?;
    if FileType::from_raw_mode(fstat(mount)?.st_mode) == FileType::Directory {
        fs::create_dir_all(path)?;
    } else {
        File::create(path)?;
    }
    Ok(move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn joined(plan: &LaunchPlan) -> Vec<FdIndex> {
    let spaces = &plan.namespaces;
    let mut joined = Vec::new();
    for namespace in [spaces.net, spaces.ipc, spaces.uts, spaces.cgroup] {
        if let Namespace::Join(index) = namespace {
            joined.push(index);
        }
    }
    if let PidNamespace::Join(index) = spaces.pid {
        joined.push(index);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_words_of_a_runtimes_log() {
        let line = r#"{"level":"error","msg":"exec: \"nope\": executable file not found in $PATH","time":"x"}"#;
        assert_eq!(message(line).as_deref(), Some("exec: \"nope\": executable file not found in $PATH"));
        assert_eq!(message("{}"), None);
    }
}
