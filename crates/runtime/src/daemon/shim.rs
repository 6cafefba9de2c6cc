//! The handle of a running process: a task speaks to its shim, and everybody else asks the task.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::Attachment;
use crate::plan::{Exit, FdIndex, Streams, WindowSize};
use crate::wire::{self, EXIT_NAME, Inbox, Message, Request, SOCKET_NAME};

const PATH_LIMIT: usize = 108;

/// How it ended, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The shim has recorded it.
    Exited(Exit),
    /// The shim is gone without a record: it was killed, or the machine went down.
    Lost,
}

/// What is found in a state directory.
#[derive(Debug)]
pub enum Reconnected {
    /// The process runs.
    Running(Shim),
    /// It ended meanwhile.
    Exited(Exit),
    /// There is neither shim nor record.
    Gone,
}

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    inbox: Inbox,
}

impl Link {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, inbox: Inbox::default() }
    }

    pub(crate) async fn send(&self, request: &Request, fds: &[OwnedFd]) -> io::Result<()> {
        let frame = wire::frame(request, fds.len())?;
        let mut fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < frame.len() {
            let send = || wire::send_some(self.stream.as_fd(), &frame[sent..], &fds);
            let count = self.stream.async_io(Interest::WRITABLE, send).await?;
            sent += count;
            fds.clear();
        }
        Ok(())
    }

    /// The next message; `None` when the shim is gone. Safe to cancel.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.inbox.take()? {
                return Ok(Some(message));
            }
            let Self { stream, inbox } = self;
            let count = stream.async_io(Interest::READABLE, || inbox.receive(stream.as_fd())).await;
            match count {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                other => other?,
            };
        }
    }
}

type Answer = io::Result<(Message, Vec<OwnedFd>)>;

struct Ask {
    request: Request,
    fds: Vec<OwnedFd>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Shared {
    pid: i32,
    pidfd: OwnedFd,
    state_dir: PathBuf,
    asks: mpsc::UnboundedSender<Ask>,
    ending: watch::Receiver<Option<Ending>>,
}

/// A running process and its shim. Clones are the same; dropping them all ends nothing.
#[derive(Clone, Debug)]
pub struct Shim(Arc<Shared>);

impl Shim {
    pub(crate) fn new(
        link: Link,
        pid: i32,
        pidfd: Option<OwnedFd>,
        state_dir: PathBuf,
        child: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let pidfd = match pidfd {
            Some(pidfd) => pidfd,
            None => pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())?,
        };
        let (asks, asked) = mpsc::unbounded_channel();
        let (end, ending) = watch::channel(None);
        tokio::spawn(attend(link, asked, end, state_dir.clone(), child));
        Ok(Self(Arc::new(Shared { pid, pidfd, state_dir, asks, ending })))
    }

    /// The process's id in the machine's PID namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// The process's pidfd.
    #[must_use]
    pub fn pidfd(&self) -> &OwnedFd {
        &self.0.pidfd
    }

    /// The directory with its run state.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// When there is no such signal or the process is dead.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let signal = match Signal::from_named_raw(signal) {
            Some(signal) => signal,
            None if real_time.contains(&signal) => return crate::sys::signal::send(self.0.pidfd.as_fd(), signal),
            None => return Err(Errno::INVAL.into()),
        };
        Ok(pidfd_send_signal(&self.0.pidfd, signal)?)
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// When the process has no terminal or is dead.
    pub async fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.ask(Request::Resize(size), Vec::new()).await.map(drop)
    }

    /// Attaches to the process's streams from now on.
    ///
    /// # Errors
    /// When the process is dead.
    pub async fn attach(&self, streams: Streams) -> io::Result<Attachment> {
        let (attachment, socket) = Attachment::pair()?;
        self.ask(Request::Attach(streams), vec![socket]).await?;
        Ok(attachment)
    }

    /// Closes the process's input.
    ///
    /// # Errors
    /// When the process is dead.
    pub async fn close_stdin(&self) -> io::Result<()> {
        self.ask(Request::CloseStdin, Vec::new()).await.map(drop)
    }

    /// Gets a copy of a descriptor that the shim holds.
    ///
    /// # Errors
    /// When the shim holds no such descriptor, or is gone.
    pub async fn take_listener(&self, index: FdIndex) -> io::Result<OwnedFd> {
        let (_, fds) = self.ask(Request::TakeListener(index), Vec::new()).await?;
        fds.into_iter().next().ok_or_else(|| Errno::BADF.into())
    }

    /// Waits until the process has ended and its output is in the log.
    pub async fn wait(&self) -> Ending {
        let mut ending = self.0.ending.clone();
        let ended = ending.wait_for(Option::is_some).await;
        ended.ok().and_then(|ending| *ending).unwrap_or(Ending::Lost)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        *self.0.ending.borrow()
    }

    async fn ask(&self, request: Request, fds: Vec<OwnedFd>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::from(Errno::SRCH);
        self.0.asks.send(Ask { request, fds, reply }).map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())?? {
            (Message::Refused(errno), _) => Err(io::Error::from_raw_os_error(errno)),
            other => Ok(other),
        }
    }
}

async fn attend(
    mut link: Link,
    mut asked: mpsc::UnboundedReceiver<Ask>,
    end: watch::Sender<Option<Ending>>,
    state_dir: PathBuf,
    child: Option<OwnedFd>,
) {
    let mut open: VecDeque<oneshot::Sender<Answer>> = VecDeque::new();
    let mut asking = true;
    let mut exit = None;
    loop {
        tokio::select! {
            message = link.receive() => match message {
                Ok(Some((Message::Exited(ended), _))) => {
                    exit = Some(ended);
                    break;
                }
                Ok(Some(answer)) => drop(open.pop_front().map(|reply| reply.send(Ok(answer)))),
                Ok(None) | Err(_) => break,
            },
            ask = asked.recv(), if asking => match ask {
                Some(Ask { request, fds, reply }) => match link.send(&request, &fds).await {
                    Ok(()) => open.push_back(reply),
                    Err(error) => drop(reply.send(Err(error))),
                },
                None => asking = false,
            },
        }
    }
    let exit = exit.or_else(|| recorded(&state_dir));
    // Whoever waits may have gone; the record is on disk.
    let _ = end.send(Some(exit.map_or(Ending::Lost, Ending::Exited)));
    drop(link);
    if let Some(child) = child {
        reap(child).await;
    }
}

/// Waits for a shim that this daemon started itself.
pub(crate) async fn reap(child: OwnedFd) {
    let Ok(child) = crate::sys::readiness::readable(child) else { return };
    if child.readable().await.is_ok() {
        // An error means that somebody else has reaped it, which is as good.
        let _ = waitid(WaitId::PidFd(child.get_ref().as_fd()), WaitIdOptions::EXITED);
    }
}

fn recorded(state_dir: &Path) -> Option<Exit> {
    let bytes = std::fs::read(state_dir.join(EXIT_NAME)).ok()?;
    wire::decode(bytes.get(8..)?).ok()
}

pub(crate) async fn reconnect(state_dir: &Path) -> io::Result<Reconnected> {
    if let Some(exit) = recorded(state_dir) {
        return Ok(Reconnected::Exited(exit));
    }
    let Ok(stream) = connect(state_dir).await else { return Ok(ended(state_dir)) };
    let mut link = Link::new(stream);
    link.send(&Request::Status, &[]).await?;
    loop {
        match link.receive().await? {
            Some((Message::Status(status), fds)) => {
                let pidfd = fds.into_iter().next();
                return Shim::new(link, status.pid, pidfd, state_dir.into(), None).map(Reconnected::Running);
            }
            // It is still being launched, or has just ended.
            Some((Message::Launched(_), _)) => {}
            _ => return Ok(ended(state_dir)),
        }
    }
}

fn ended(state_dir: &Path) -> Reconnected {
    recorded(state_dir).map_or(Reconnected::Gone, Reconnected::Exited)
}

async fn connect(state_dir: &Path) -> io::Result<UnixStream> {
    let path = state_dir.join(SOCKET_NAME);
    if path.as_os_str().len() < PATH_LIMIT {
        return UnixStream::connect(path).await;
    }
    let directory = std::fs::File::open(state_dir)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_NAME}", std::os::fd::AsRawFd::as_raw_fd(&directory));
    UnixStream::connect(short).await
}
