//! The child's way through namespaces, from the shim to the process that becomes the program.
//!
//! Usually one `clone3` makes all namespaces. A process that has to be in a PID namespace which others live in (a
//! nested host's, another container's) enters it last, by a fork, when it can no longer reach the machine's root.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use droste_runtime::plan::{CgroupPlan, ExecPlan, Failure, FdIndex, LaunchPlan, Namespace, PidNamespace};
use droste_runtime::sys::process::{Forked, fork, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{DumpableBehavior, Pid, set_dumpable_behavior};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::program::{Streams, become_program, connect, enter_directory};
use super::report::{Reporter, Step, refusal};
use super::{furnish, rootfs};

/// The descriptors that came with a plan.
pub(crate) struct Fds(pub Vec<Option<OwnedFd>>);

impl Fds {
    /// The descriptor that a plan names.
    pub(crate) fn get(&self, index: FdIndex) -> Result<BorrowedFd<'_>, Failure> {
        let found = self.0.get(index.0 as usize).and_then(Option::as_ref);
        found.map(AsFd::as_fd).ok_or_else(|| missing(index))
    }

    /// Takes a descriptor out.
    pub(crate) fn take(&mut self, index: FdIndex) -> Result<OwnedFd, Failure> {
        self.0.get_mut(index.0 as usize).and_then(Option::take).ok_or_else(|| missing(index))
    }
}

fn missing(index: FdIndex) -> Failure {
    let message = format!("the plan names descriptor {}, which did not come with it", index.0);
    refusal("read plan", libc::EBADF, droste_runtime::plan::FailureKind::Other, message)
}

/// What the shim knows about its child after the fork.
pub(crate) enum Child {
    /// It is the process that becomes the program.
    Direct(Pid),
    /// That process will report itself.
    Indirect,
}

/// What a child is made of.
pub(crate) struct Stage<'a> {
    pub(crate) fds: &'a Fds,
    pub(crate) streams: Streams,
    pub(crate) reporter: Reporter,
    /// The shim's own program, to be the init.
    pub(crate) own_program: Option<OwnedFd>,
    /// The shim's connection to the daemon, which is none of the child's business.
    pub(crate) control: RawFd,
}

/// Starts a container's first process.
pub(crate) fn launch(plan: &LaunchPlan, stage: Stage<'_>) -> Result<Child, Failure> {
    let spaces = &plan.namespaces;
    let mut flags = libc::CLONE_NEWNS;
    for (namespace, flag) in
        [(spaces.uts, libc::CLONE_NEWUTS), (spaces.ipc, libc::CLONE_NEWIPC), (spaces.net, libc::CLONE_NEWNET)]
    {
        if namespace == Namespace::New {
            flags |= flag;
        }
    }
    let direct = match spaces.pid {
        PidNamespace::New { parent: None } => {
            flags |= libc::CLONE_NEWPID;
            true
        }
        PidNamespace::Machine => true,
        PidNamespace::New { parent: Some(_) } | PidNamespace::Join(_) => false,
    };
    match fork_into(flags, &plan.cgroup)? {
        Forked::Child => run(stage, |stage| container(plan, stage)),
        Forked::Parent(pid) => Ok(if direct { Child::Direct(pid) } else { Child::Indirect }),
    }
}

/// Starts another process in a container.
pub(crate) fn exec(plan: &ExecPlan, stage: Stage<'_>) -> Result<Child, Failure> {
    match fork_into(0, &plan.cgroup)? {
        Forked::Child => run(stage, |stage| exec_process(plan, stage)),
        Forked::Parent(_) => Ok(Child::Indirect),
    }
}

fn fork_into(flags: i32, cgroup: &CgroupPlan) -> Result<Forked, Failure> {
    let directory = match &cgroup.v2 {
        None => None,
        Some(path) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Some(open(path.as_str(), flags, Mode::empty()).step("open cgroup", || path.clone())?)
        }
    };
    // SAFETY: the shim has a single thread.
    unsafe { fork(flags, directory.as_ref().map(AsFd::as_fd)) }
        .step("make process in cgroup", || cgroup.v2.clone().unwrap_or_default())
}

fn run(stage: Stage<'_>, body: impl FnOnce(&Stage<'_>) -> Failure) -> ! {
    let failure = body(&stage);
    stage.reporter.failed(failure);
    std::process::exit(1)
}

fn container(plan: &LaunchPlan, stage: &Stage<'_>) -> Failure {
    match prepare_container(plan, stage) {
        Ok(()) => become_program(&plan.process, stage.own_program.as_ref().map(AsFd::as_fd), &stage.reporter),
        Err(failure) => failure,
    }
}

fn prepare_container(plan: &LaunchPlan, stage: &Stage<'_>) -> Result<(), Failure> {
    close_held(plan, stage);
    enter_cgroups(&plan.cgroup, plan.process.oom_score_adj)?;
    join_namespaces(plan, stage.fds)?;
    rootfs::enter(&plan.rootfs, &plan.state_dir, stage.fds)?;
    name_host(plan)?;
    enter_pid_namespace(plan.namespaces.pid, stage)?;
    let root = rootfs::open_root()?;
    furnish::furnish(plan, stage.fds, root.as_fd())?;
    let terminal = connect(&stage.streams, &stage.reporter)?;
    if let Some(terminal) = terminal {
        furnish::bind_console(root.as_fd(), &terminal).step("bind terminal to", || "/dev/console".to_owned())?;
    }
    enter_directory(&plan.process.cwd, Some(root.as_fd()))?;
    furnish::protect(plan, root.as_fd())?;
    // The old view of the directory may lie under a mount made since.
    if plan.readonly_rootfs { enter_directory(&plan.process.cwd, None) } else { Ok(()) }
}

/// What the shim holds for later must not be in a process that others may look into.
fn close_held(plan: &LaunchPlan, stage: &Stage<'_>) {
    let held = plan.listeners.iter().copied().chain(plan.stdio.attached.iter().map(|attached| attached.socket));
    let held = held.filter_map(|index| stage.fds.get(index).ok()).map(|fd| fd.as_raw_fd());
    for fd in held.chain([stage.control]) {
        // SAFETY: this is the child's copy of the table; it leaves by execve or exit and uses none of these.
        unsafe { libc::close(fd) };
    }
}

fn enter_cgroups(cgroup: &CgroupPlan, oom_score_adj: Option<i32>) -> Result<(), Failure> {
    for path in &cgroup.v1_procs {
        enter_cgroup(path).step("enter cgroup", || path.clone())?;
    }
    if let Some(score) = oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .step("set oom_score_adj", || score.to_string())?;
    }
    Ok(())
}

/// Enters the cgroup whose `cgroup.procs` is at `path`. In version 1 a thread that moves itself by `tasks` does not wait
/// for an RCU grace period, as a process does (7 to 15 ms); this process is one thread.
pub(crate) fn enter_cgroup(path: &str) -> io::Result<()> {
    let tasks = Path::new(path).with_file_name("tasks");
    let moved = OpenOptions::new().write(true).open(tasks).and_then(|mut file| file.write_all(b"0"));
    match moved {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::write(path, "0"),
        other => other,
    }
}

fn join_namespaces(plan: &LaunchPlan, fds: &Fds) -> Result<(), Failure> {
    let spaces = &plan.namespaces;
    let all = [
        (spaces.net, ThreadNameSpaceType::NETWORK, "network"),
        (spaces.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, "IPC"),
        (spaces.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, "UTS"),
        (spaces.cgroup, ThreadNameSpaceType::CONTROL_GROUP, "cgroup"),
    ];
    for (namespace, kind, name) in all {
        if let Namespace::Join(index) = namespace {
            move_into_thread_name_spaces(fds.get(index)?, kind).step("join namespace", || name.to_owned())?;
        }
    }
    if spaces.cgroup == Namespace::New {
        unshare(libc::CLONE_NEWCGROUP).step("make cgroup namespace", String::new)?;
    }
    Ok(())
}

fn name_host(plan: &LaunchPlan) -> Result<(), Failure> {
    if plan.namespaces.uts != Namespace::New {
        return Ok(());
    }
    if let Some(name) = &plan.hostname {
        sethostname(name.as_bytes()).step("set host name", || name.clone())?;
    }
    if let Some(name) = &plan.domainname {
        setdomainname(name.as_bytes()).step("set domain name", || name.clone())?;
    }
    Ok(())
}

fn enter_pid_namespace(namespace: PidNamespace, stage: &Stage<'_>) -> Result<(), Failure> {
    let (index, new) = match namespace {
        PidNamespace::New { parent: Some(index) } => (index, true),
        PidNamespace::Join(index) => (index, false),
        PidNamespace::New { parent: None } | PidNamespace::Machine => return Ok(()),
    };
    let kind = ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(stage.fds.get(index)?, kind).step("join namespace", || "PID".to_owned())?;
    hop(0)?;
    // CLONE_NEWPID wants a process whose children would be in its own namespace: the hop's result is one.
    if new {
        hop(libc::CLONE_NEWPID)?;
    }
    stage.reporter.started()
}

/// Goes on in a new process, a child of the shim as this one is; this one ends.
fn hop(flags: i32) -> Result<(), Failure> {
    // Others in the namespace must not look into it without the capability to.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide process", String::new)?;
    // SAFETY: the shim's child has a single thread.
    match unsafe { fork(libc::CLONE_PARENT | flags, None) }.step("make process in PID namespace", String::new)? {
        Forked::Child => Ok(()),
        Forked::Parent(_) => std::process::exit(0),
    }
}

fn exec_process(plan: &ExecPlan, stage: &Stage<'_>) -> Failure {
    match prepare_exec(plan, stage) {
        Ok(()) => become_program(&plan.process, None, &stage.reporter),
        Err(failure) => failure,
    }
}

fn prepare_exec(plan: &ExecPlan, stage: &Stage<'_>) -> Result<(), Failure> {
    enter_cgroups(&plan.cgroup, plan.process.oom_score_adj)?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    // SAFETY: this is the child's copy of the table, and it does not speak to the daemon.
    unsafe { libc::close(stage.control) };
    move_into_thread_name_spaces(stage.fds.get(plan.target)?, all)
        .step("join the container's namespaces", String::new)?;
    hop(0)?;
    stage.reporter.started()?;
    connect(&stage.streams, &stage.reporter)?;
    enter_directory(&plan.process.cwd, None)
}
