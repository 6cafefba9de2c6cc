//! How the child tells the shim what happened before its program runs: messages over a close-on-exec packet socket.
//! The end of the conversation without a failure means that `execve` succeeded.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use droste_runtime::plan::{Failure, FailureKind};
use droste_runtime::{wire, words};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// What the child says.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report {
    /// It is the process that will be the program. The kernel adds its id.
    Started,
    /// Its terminal comes with this.
    Terminal,
    /// It gives up.
    Failed(Failure),
}

/// A report as the shim gets it.
pub(crate) struct Received {
    pub(crate) report: Report,
    pub(crate) pid: Option<rustix::process::Pid>,
    pub(crate) fd: Option<OwnedFd>,
}

/// The child's end.
pub(crate) struct Reporter(OwnedFd);

impl Reporter {
    pub(crate) fn started(&self) -> Result<(), Failure> {
        self.send(&Report::Started, &[]).step("report the start", String::new)
    }

    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<(), Failure> {
        self.send(&Report::Terminal, &[master]).step("hand over the terminal", String::new)
    }

    pub(crate) fn failed(&self, failure: Failure) {
        // Nobody is left to tell when this fails, too.
        let _ = self.send(&Report::Failed(failure), &[]);
    }

    fn send(&self, report: &Report, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = wire::frame(report, fds.len())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The shim's end.
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// The next report; `None` when the program runs (or is dead).
    pub(crate) fn next(&self) -> io::Result<Option<Received>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 16 * 1024];
        let message = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let (mut pid, mut fd) = (None, None);
        for item in control.drain() {
            match item {
                RecvAncillaryMessage::ScmRights(mut fds) => fd = fds.next(),
                RecvAncillaryMessage::ScmCredentials(credentials) => pid = Some(credentials.pid),
                _ => {}
            }
        }
        if message.bytes < 8 {
            return Ok(None);
        }
        let report = wire::decode(&bytes[8..message.bytes])?;
        Ok(Some(Received { report, pid, fd }))
    }
}

/// Makes both ends.
pub(crate) fn channel() -> io::Result<(Reporter, Listener)> {
    let (child, shim) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_passcred(&shim, true)?;
    Ok((Reporter(child), Listener(shim)))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Names the step in which an error happened.
pub(crate) trait Step<T> {
    fn step(self, step: &str, object: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str, object: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| failure(step, &object(), &error.into()))
    }
}

/// A failure of a step at an object.
pub(crate) fn failure(step: &str, object: &str, error: &io::Error) -> Failure {
    let gap = if object.is_empty() { "" } else { " " };
    Failure {
        step: step.to_owned(),
        errno: error.raw_os_error().unwrap_or(0),
        message: format!("{step}{gap}{object}: {}", words(error)),
        kind: FailureKind::Other,
    }
}

/// A failure in words that clients know.
pub(crate) fn refusal(step: &str, errno: i32, kind: FailureKind, message: String) -> Failure {
    Failure { step: step.to_owned(), errno, message, kind }
}

/// Receives one descriptor and whatever bytes come with it.
pub(crate) fn receive_fd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fd = control.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
