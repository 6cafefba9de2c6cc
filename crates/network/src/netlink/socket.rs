//! A synchronous netlink socket.
//!
//! It stays in the network namespace where it was opened. The kernel answers before `send`
//! returns, so several requests go out in one `send` and their answers are then read.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{Message, messages};
use super::uapi::{NETLINK_BUFFER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

/// A message that the kernel refused: its place in the batch and the errno.
#[derive(Debug)]
pub(crate) struct Rejection {
    /// Position in the batch.
    pub(crate) index: usize,
    /// The kernel's reason.
    pub(crate) source: io::Error,
}

/// A message that the kernel sent: its type, and its payload after `nlmsghdr`.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The message's type.
    pub(crate) kind: u16,
    /// The family's header and the attributes.
    pub(crate) payload: Vec<u8>,
}

/// A netlink socket of one protocol in one network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens an rtnetlink socket in the calling thread's network namespace.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// Opens an nfnetlink socket in the calling thread's network namespace.
    pub(crate) fn filter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // A namespace of a lesser user namespace lacks the right to exceed the limits; the default then has to do.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&fd, 4 << 20);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&fd, 4 << 20);
        Ok(Self { fd, sequence: 0, buffer: vec![0; NETLINK_BUFFER] })
    }

    /// Sends requests at once and waits for an acknowledgement of each. All are tried; the first refusal is reported.
    pub(crate) fn batch(&mut self, requests: Vec<Message>) -> Result<(), Rejection> {
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        if count == 0 {
            return Ok(());
        }
        self.send(requests, NLM_F_REQUEST | NLM_F_ACK).map_err(at_start)?;
        let mut refused: Option<Rejection> = None;
        let mut answered = 0;
        while answered < count {
            for (sequence, errno) in self.acknowledgements().map_err(at_start)? {
                let index = sequence.wrapping_sub(first) as usize;
                if index >= count {
                    continue;
                }
                answered += 1;
                if errno != 0 && refused.as_ref().is_none_or(|r| index < r.index) {
                    refused = Some(Rejection { index, source: io::Error::from_raw_os_error(errno) });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends an nf_tables batch: one acknowledgement, for the last but one message, says that all were committed.
    pub(crate) fn transaction(&mut self, mut requests: Vec<Message>) -> Result<(), Rejection> {
        let first = self.sequence.wrapping_add(1);
        let last = requests.len().saturating_sub(2);
        requests[last].add_flags(NLM_F_ACK);
        self.send(requests, NLM_F_REQUEST).map_err(at_start)?;
        let mut refused: Option<Rejection> = None;
        loop {
            for (sequence, errno) in self.acknowledgements().map_err(at_start)? {
                let index = sequence.wrapping_sub(first) as usize;
                if errno != 0 && index <= last && refused.is_none() {
                    refused = Some(Rejection { index, source: io::Error::from_raw_os_error(errno) });
                }
                // An error of the whole batch is addressed to its first message.
                if index == last || (index == 0 && errno != 0) {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Asks for a listing.
    pub(crate) fn dump(&mut self, request: Message) -> io::Result<Vec<Reply>> {
        self.send(vec![request], NLM_F_REQUEST | NLM_F_DUMP)?;
        self.collect(true)
    }

    /// Asks for one object.
    pub(crate) fn ask(&mut self, request: Message) -> io::Result<Reply> {
        self.send(vec![request], NLM_F_REQUEST)?;
        self.collect(false)?.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn collect(&mut self, listing: bool) -> io::Result<Vec<Reply>> {
        let expected = self.sequence;
        let mut replies = Vec::new();
        loop {
            let length = self.receive()?;
            for (kind, sequence, payload) in messages(&self.buffer[..length]) {
                if sequence != expected {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(replies),
                    NLMSG_ERROR => match errno_of(payload) {
                        0 => return Ok(replies),
                        errno => return Err(io::Error::from_raw_os_error(errno)),
                    },
                    _ => replies.push(Reply { kind, payload: payload.to_vec() }),
                }
            }
            if !listing && !replies.is_empty() {
                return Ok(replies);
            }
        }
    }

    fn send(&mut self, requests: Vec<Message>, flags: u16) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(requests.len() * 128);
        for mut request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            request.add_flags(flags);
            bytes.extend_from_slice(&request.finish(self.sequence));
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        Ok(())
    }

    fn acknowledgements(&mut self) -> io::Result<Vec<(u32, i32)>> {
        let length = self.receive()?;
        Ok(messages(&self.buffer[..length])
            .filter(|(kind, _, _)| *kind == NLMSG_ERROR)
            .map(|(_, sequence, payload)| (sequence, errno_of(payload)))
            .collect())
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn errno_of(payload: &[u8]) -> i32 {
    let code = payload.get(0..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    -code
}

fn at_start(source: io::Error) -> Rejection {
    Rejection { index: 0, source }
}
