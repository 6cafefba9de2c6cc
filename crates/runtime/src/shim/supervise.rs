//! The shim's life: read the plan, start the child, then serve until the container has ended and its exit is recorded.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use droste_runtime::plan::{Exit, Failure, FailureKind, FdIndex, Stdio};
use droste_runtime::sys::signal;
use droste_runtime::wire::{self, Inbox, Message, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus, chdir, set_child_subreaper, setsid, umask, wait};

use super::control::Control;
use super::journal::Journal;
use super::program::Streams;
use super::pump::{Pump, Token, nonblocking};
use super::report::{Listener, Report, Step, channel, failure, refusal};
use super::stage::{Child, Fds, Stage, enter_cgroup, exec, launch};

/// How long outputs that other processes hold open are read after the process is dead.
const GRACE: Duration = Duration::from_secs(2);
/// How long a reader may take to fetch the last of the output.
const DELIVERY: Duration = Duration::from_secs(10);

/// What the three kinds of work have in common.
pub(crate) struct Work {
    pub(crate) state_dir: String,
    pub(crate) stdio: Stdio,
    pub(crate) oom_events: Option<String>,
    pub(crate) listeners: Vec<FdIndex>,
}

/// A started process with all that serves it.
pub(crate) struct Service {
    pub(crate) work: Work,
    pub(crate) control: Control,
    pub(crate) pump: Pump,
    pub(crate) children: OwnedFd,
    pub(crate) process: Pid,
    pub(crate) status: Option<WaitStatus>,
    /// What is to be done when the process has ended.
    pub(crate) after: Option<Box<dyn FnOnce()>>,
}

/// Is the shim; gives its exit code.
pub(crate) fn run() -> i32 {
    match take_control().and_then(|control| receive(&control).map(|work| (control, work))) {
        Ok((control, (request, fds))) => supervise(control, request, fds),
        Err(_) => 2,
    }
}

/// The control connection comes as standard input, and goes where no stream of the container's will be.
fn take_control() -> io::Result<OwnedFd> {
    // SAFETY: the program has just begun and has opened nothing; these are the daemon's by oversight.
    unsafe { droste_runtime::sys::process::close_from(3) }?;
    let control = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
    Ok(control)
}

fn receive(control: &OwnedFd) -> io::Result<(Request, Fds)> {
    let mut inbox = Inbox::default();
    loop {
        if inbox.receive(control.as_fd())? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((request, fds)) = inbox.take()? {
            return Ok((request, Fds(fds.into_iter().map(Some).collect())));
        }
    }
}

fn supervise(control: OwnedFd, request: Request, fds: Fds) -> i32 {
    let refused = control.try_clone();
    match start(control, request, fds) {
        Ok(service) => service.serve(),
        Err(failure) => {
            if let Ok(control) = refused {
                let sent = wire::frame(&Message::Failed(failure), 0)
                    .and_then(|frame| wire::send_all(control.as_fd(), &frame, &[]));
                // Whoever asked is gone, and the next daemon ends what is in the container's cgroup.
                if sent.is_err() {
                    return 1;
                }
            }
            // What was started is dying; it should not be left to others to reap.
            while wait(WaitOptions::empty()).is_ok() {}
            1
        }
    }
}

fn start(control: OwnedFd, request: Request, fds: Fds) -> Result<Service, Failure> {
    detach().step("detach shim", String::new)?;
    match request {
        Request::Launch(plan) => {
            join_cgroups(&plan.cgroup.shim_procs)?;
            let work = Work {
                state_dir: plan.state_dir.clone(),
                stdio: plan.stdio.clone(),
                oom_events: plan.cgroup.oom_events.clone(),
                listeners: plan.listeners.clone(),
            };
            begin(control, work, fds, plan.init, |stage| launch(&plan, stage))
        }
        Request::Exec(plan) => {
            join_cgroups(&plan.cgroup.shim_procs)?;
            let work = Work {
                state_dir: plan.state_dir.clone(),
                stdio: plan.stdio.clone(),
                oom_events: None,
                listeners: Vec::new(),
            };
            begin(control, work, fds, false, |stage| exec(&plan, stage))
        }
        Request::Oci(job) => {
            join_cgroups(&job.plan.cgroup.shim_procs)?;
            super::oci::begin(control, &job, fds)
        }
        other => {
            let message = format!("a shim's first request can't be {other:?}");
            Err(refusal("read plan", libc::EINVAL, FailureKind::Other, message))
        }
    }
}

/// The daemon's end must not be the shim's; what the container leaves behind is the shim's to reap.
fn detach() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    umask(Mode::empty());
    set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

fn join_cgroups(procs: &[String]) -> Result<(), Failure> {
    procs.iter().try_for_each(|path| enter_cgroup(path).step("enter cgroup", || path.clone()))
}

/// The shim's ends of the process's streams, and the process's.
pub(crate) struct Pipes {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) outputs: [Option<OwnedFd>; 2],
    pub(crate) streams: Streams,
}

/// Makes the pipes that a plan asks for.
pub(crate) fn make_pipes(stdio: &Stdio) -> io::Result<Pipes> {
    if let Some(size) = stdio.tty {
        return Ok(Pipes { input: None, outputs: [None, None], streams: Streams::Terminal(size) });
    }
    let (output, output_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let (errors, errors_end) = pipe_with(PipeFlags::CLOEXEC)?;
    nonblocking(output.as_fd())?;
    nonblocking(errors.as_fd())?;
    let (input_end, input) = if stdio.open_stdin {
        let (end, input) = pipe_with(PipeFlags::CLOEXEC)?;
        nonblocking(input.as_fd())?;
        (Some(end), Some(input))
    } else {
        (None, None)
    };
    let streams = Streams::Pipes(input_end, output_end, errors_end);
    Ok(Pipes { input, outputs: [Some(output), Some(errors)], streams })
}

fn begin(
    control: OwnedFd,
    work: Work,
    mut fds: Fds,
    init: bool,
    start: impl FnOnce(Stage<'_>) -> Result<Child, Failure>,
) -> Result<Service, Failure> {
    let Pipes { input, outputs, streams } = make_pipes(&work.stdio).step("make pipes", String::new)?;
    let children = signal::child_events().step("block SIGCHLD", String::new)?;
    let (reporter, listener) = channel().step("make report channel", String::new)?;
    let own_program = if init {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Some(open("/proc/self/exe", flags, Mode::empty()).step("open own program", String::new)?)
    } else {
        None
    };
    let stage = Stage { fds: &fds, streams, reporter, own_program, control: control.as_raw_fd() };
    let child = start(stage)?;
    let mut service = Service::new(work, control, &mut fds, input, outputs, children)?;
    // Mounts and namespaces are the container's alone now.
    drop(fds);
    let pid = service.await_start(&listener, child);
    match pid {
        Ok(pid) => service.started(pid),
        Err(failure) => {
            service.control.remove();
            return Err(failure);
        }
    }
    Ok(service)
}

impl Service {
    pub(crate) fn new(
        work: Work,
        control: OwnedFd,
        fds: &mut Fds,
        input: Option<OwnedFd>,
        outputs: [Option<OwnedFd>; 2],
        children: OwnedFd,
    ) -> Result<Self, Failure> {
        let mut control =
            Control::new(&work.state_dir, control).step("make control socket in", || work.state_dir.clone())?;
        let journal = match &work.stdio.log {
            None => None,
            Some(plan) => Some(Journal::open(plan.clone()).step("open log", || plan.path.clone())?),
        };
        let mut pump = Pump::new(input, outputs, work.stdio.stdin_once, journal);
        for attached in &work.stdio.attached {
            pump.attach(fds.take(attached.socket)?, attached.streams);
        }
        for index in &work.listeners {
            control.held.push((index.0, fds.take(*index)?));
        }
        Ok(Self { work, control, pump, children, process: rustix::process::getpid(), status: None, after: None })
    }

    fn await_start(&mut self, listener: &Listener, child: Child) -> Result<Pid, Failure> {
        let mut pid = match child {
            Child::Direct(pid) => Some(pid),
            Child::Indirect => None,
        };
        loop {
            self.await_report(listener).step("wait for a report", String::new)?;
            let Some(received) = listener.next().step("read report", String::new)? else { break };
            match received.report {
                Report::Started => pid = received.pid,
                Report::Failed(failure) => return Err(failure),
                Report::Terminal => {
                    if let Some(master) = received.fd {
                        let wants_input = self.work.stdio.open_stdin;
                        self.pump.set_terminal(master, wants_input).step("take terminal", String::new)?;
                    }
                }
            }
        }
        pid.ok_or_else(|| failure("start process", "", &io::Error::from_raw_os_error(libc::ESRCH)))
    }

    /// Waits for a report. One that does not come for a daemon that is gone is given up: the child may stand in a cgroup
    /// that somebody froze, and the next daemon must not wait for that.
    fn await_report(&self, listener: &Listener) -> io::Result<()> {
        let mut asked = self.control.sockets().next();
        let mut deadline = None;
        loop {
            let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
            polled.extend(asked.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)));
            match poll(&mut polled, timeout(deadline).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !polled[0].revents().is_empty() {
                return Ok(());
            }
            if polled.get(1).is_some_and(|daemon| !daemon.revents().is_empty()) {
                (asked, deadline) = (None, Some(Instant::now() + GRACE));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    pub(crate) fn started(&mut self, pid: Pid) {
        self.process = pid;
        self.control.pid = pid.as_raw_nonzero().get();
        // It is the shim's child and has not been reaped: the id can't be another's.
        self.control.pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        self.control.tell_launched();
    }

    /// Serves until the process has ended, and reports that.
    pub(crate) fn serve(mut self) -> i32 {
        let mut deadline = None;
        loop {
            self.turn(deadline);
            if let (Some(_), None) = (self.status, deadline) {
                self.pump.drain();
                deadline = Some(Instant::now() + GRACE);
            }
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if deadline.is_some() && (self.pump.drained() || over) {
                break;
            }
        }
        self.end()
    }

    fn end(mut self) -> i32 {
        let exit = self.exit();
        self.pump.finish();
        if let Some(after) = self.after.take() {
            after();
        }
        let recorded = self.control.end(&self.work.state_dir, exit);
        let deadline = Instant::now() + DELIVERY;
        while !self.pump.delivered() && Instant::now() < deadline {
            self.turn(Some(deadline));
        }
        i32::from(recorded.is_err())
    }

    fn exit(&self) -> Exit {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let signal = self.status.and_then(WaitStatus::terminating_signal);
        let code = self.status.and_then(WaitStatus::exit_status);
        Exit {
            code: code.or(signal.map(|signal| 128 + signal)).unwrap_or(255),
            signal,
            exited_at_nanos: now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned(),
            oom_killed: self.work.oom_events.as_deref().is_some_and(oom_killed),
        }
    }

    /// Waits for something and acts on it.
    fn turn(&mut self, deadline: Option<Instant>) {
        let connections = self.control.sockets().count();
        let mut polled = Vec::with_capacity(8);
        polled.push(PollFd::new(&self.children, PollFlags::IN));
        polled.push(PollFd::new(&self.control.listener, PollFlags::IN));
        polled.extend(self.control.sockets().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        let mut interests = Vec::with_capacity(8);
        self.pump.interests(&mut interests);
        let (fds, tokens): (Vec<_>, Vec<Token>) = interests.into_iter().unzip();
        polled.extend(fds);
        match poll(&mut polled, timeout(deadline).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing sensible is left to do about it; do not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        let events: Vec<_> = polled.iter().map(PollFd::revents).collect();
        self.act(&events, connections, &tokens);
    }

    fn act(&mut self, events: &[PollFlags], connections: usize, tokens: &[Token]) {
        // Tokens first: accepting or reaping must not change what they mean.
        for (token, events) in tokens.iter().zip(&events[2 + connections..]) {
            if !events.is_empty() {
                self.pump.ready(*token, *events);
            }
        }
        for index in (0..connections).filter(|index| !events[2 + index].is_empty()) {
            self.control.serve(index, &mut self.pump);
        }
        if !events[1].is_empty() {
            self.control.accept();
        }
        if !events[0].is_empty() {
            self.reap();
        }
        self.pump.sweep();
        self.control.sweep();
    }

    fn reap(&mut self) {
        let mut information = [0; 128];
        while rustix::io::read(&self.children, &mut information[..]).is_ok() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.process {
                self.status = Some(status);
            }
        }
    }
}

fn timeout(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Timespec::try_from(left).ok()
}

fn oom_killed(path: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}
