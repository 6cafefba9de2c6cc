//! One connected byte stream, whatever carries it. `ssh` is a socket pair with the helper at its other end,
//! so it needs no kind of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A connection to a daemon.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
    /// TLS with us as the server.
    Served(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Stream {
    /// Says that nothing more will be sent; what comes in still arrives.
    pub(crate) fn close_write(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
            Self::Served(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }

    /// Switches between waiting and `WouldBlock`.
    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(on),
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Tls(stream) => stream.sock.set_nonblocking(on),
            Self::Served(stream) => stream.sock.set_nonblocking(on),
        }
    }

    /// Whether TLS holds bytes back that poll(2) cannot see: either way.
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tcp(_) => false,
            Self::Tls(stream) => stream.conn.wants_write(),
            Self::Served(stream) => stream.conn.wants_write(),
        }
    }

    /// Whether TLS may hold bytes that poll(2) cannot see for having been read: only a read tells.
    pub(crate) fn reads_ahead(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Served(_))
    }
}

/// A peer that closes without TLS's farewell has still closed.
fn unsaid(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other,
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => unsaid(stream.read(buffer)),
            Self::Served(stream) => unsaid(stream.read(buffer)),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Served(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(_) => Ok(()),
            Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
            Self::Served(stream) => stream.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
            Self::Served(stream) => stream.sock.as_fd(),
        }
    }
}
