//! What the daemon and a shim say to each other: length-prefixed postcard frames over a Unix stream, with descriptors.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::{ExecPlan, Exit, Failure, FdIndex, LaunchPlan, Streams, WindowSize};

/// The name of the control socket in a state directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// The name of the file that the exit is recorded in.
pub const EXIT_NAME: &str = "exit";
/// The kernel passes at most this many descriptors at once.
pub const MAX_FDS: usize = 253;
/// What is shown as the init's program, as Docker does; it also tells the shim's program to be one.
pub const INIT_NAME: &str = "/sbin/docker-init";

const HEADER: usize = 8;
const READ_SIZE: usize = 16 * 1024;
const MAX_FRAME: usize = 64 << 20;

/// What a shim is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Be the shim of this container. The first request, and the only one of its kind.
    Launch(Box<LaunchPlan>),
    /// Be the shim of this exec. The first request, and the only one of its kind.
    Exec(Box<ExecPlan>),
    /// Be the shim of a container that another OCI runtime makes.
    Oci(Box<OciJob>),
    /// Serve the attachment whose socket comes with this.
    Attach(Streams),
    /// Set the terminal's size.
    Resize(WindowSize),
    /// Close the process's standard input.
    CloseStdin,
    /// Hand a held descriptor back.
    TakeListener(FdIndex),
    /// Tell what is known.
    Status,
}

/// A container that another OCI runtime makes. Its bundle has `config.json`; the shim puts the rest there, in a mount
/// namespace of its own: the root at `rootfs`, bind sources at `mounts/<index>`, namespaces at `ns/<index>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OciJob {
    /// The container.
    pub plan: LaunchPlan,
    /// The runtime's program and the arguments before its command.
    pub runtime: Vec<String>,
    /// The directory with `config.json`.
    pub bundle: String,
}

/// What a shim says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The program runs, with this id in the machine's PID namespace.
    Launched(i32),
    /// It could not be started; the shim ends.
    Failed(Failure),
    /// It ended; the shim ends.
    Exited(Exit),
    /// The oldest open request was served. A descriptor that was asked for comes with it.
    Done,
    /// The oldest open request was refused with this errno.
    Refused(i32),
    /// The answer to [`Request::Status`].
    Status(Status),
}

/// What a shim knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process's id in the machine's PID namespace.
    pub pid: i32,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// Makes a frame of a value and the number of descriptors that go with it.
///
/// # Errors
/// When there are too many descriptors for one frame.
pub fn frame<T: Serialize>(value: &T, fds: usize) -> io::Result<Vec<u8>> {
    if fds > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{fds} descriptors, at most {MAX_FDS} can be passed"),
        ));
    }
    let mut bytes = postcard::to_extend(value, vec![0; HEADER]).map_err(invalid)?;
    let length = u32::try_from(bytes.len() - HEADER).map_err(invalid)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..8].copy_from_slice(&u32::try_from(fds).map_err(invalid)?.to_le_bytes());
    Ok(bytes)
}

/// Decodes a frame's payload.
///
/// # Errors
/// When it is no such value.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    postcard::from_bytes(payload).map_err(invalid)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Sends some of `bytes`, with `fds`; says how many bytes went. The descriptors go with the first byte.
///
/// # Errors
/// As `sendmsg`.
pub fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space =
        vec![MaybeUninit::uninit(); if fds.is_empty() { 0 } else { rustix::cmsg_space!(ScmRights(fds.len())) }];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Sends a whole frame over a blocking socket.
///
/// # Errors
/// As `sendmsg`.
pub fn send_all(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut sent = send_some(socket, bytes, fds)?;
    while sent < bytes.len() {
        sent += send_some(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// The receiving half: collects bytes and descriptors, and gives whole frames.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads once; 0 is the end.
    ///
    /// # Errors
    /// As `recvmsg`.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let old = self.bytes.len();
        self.bytes.resize(old + READ_SIZE, 0);
        let result = recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut self.bytes[old..])],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        self.bytes.truncate(old + result.as_ref().map_or(0, |message| message.bytes));
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(result?.bytes)
    }

    /// Takes the next whole frame.
    ///
    /// # Errors
    /// When the peer talks nonsense.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let length = word(header, 0);
        let count = word(header, 4);
        if length > MAX_FRAME || count > MAX_FDS {
            return Err(invalid("a frame is too large"));
        }
        if self.bytes.len() < HEADER + length || self.fds.len() < count {
            return Ok(None);
        }
        let value = decode(&self.bytes[HEADER..HEADER + length])?;
        self.bytes.drain(..HEADER + length);
        Ok(Some((value, self.fds.drain(..count).collect())))
    }
}

fn word(header: &[u8; HEADER], at: usize) -> usize {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
}
