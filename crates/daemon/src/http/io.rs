//! A client's socket, of any kind, shared between those who read and write and the one who watches for its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// How often a socket whose readiness does not change is looked at again.
const PAUSE: Duration = Duration::from_millis(500);

/// A client's socket.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    /// Of this machine.
    Unix(Arc<UnixStream>),
    /// From the network.
    Tcp(Arc<TcpStream>),
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(Arc::new(stream))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(Arc::new(stream))
    }
}

impl Socket {
    /// Waits until the client is gone. A Unix socket tells a client that went away from one that only sends no more
    /// (`shutdown(SHUT_WR)`); on TCP the two look alike: `half_closed_is_gone` says what to make of it.
    pub(crate) async fn gone(&self, half_closed_is_gone: bool) {
        loop {
            let Ok(ready) = self.ready().await else { return };
            let tcp = matches!(self, Socket::Tcp(_));
            if ready.is_write_closed() || (tcp && half_closed_is_gone && ready.is_read_closed()) {
                return;
            }
            // Unread bytes or a half-closed socket keep it ready; there is no event to wait for.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ready(&self) -> io::Result<Ready> {
        match self {
            Socket::Unix(stream) => stream.ready(Interest::READABLE).await?,
            Socket::Tcp(stream) => stream.ready(Interest::READABLE).await?,
        };
        // Whether it is closed for writing is only told to those who ask for it.
        match self {
            Socket::Unix(stream) => stream.ready(Interest::READABLE | Interest::WRITABLE).await,
            Socket::Tcp(stream) => stream.ready(Interest::READABLE | Interest::WRITABLE).await,
        }
    }

    fn poll_ready(&self, interest: Direction, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match (self, interest) {
            (Socket::Unix(stream), Direction::Read) => stream.poll_read_ready(context),
            (Socket::Unix(stream), Direction::Write) => stream.poll_write_ready(context),
            (Socket::Tcp(stream), Direction::Read) => stream.poll_read_ready(context),
            (Socket::Tcp(stream), Direction::Write) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.try_read(into),
            Socket::Tcp(stream) => stream.try_read(into),
        }
    }

    fn try_write(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.try_write_vectored(parts),
            Socket::Tcp(stream) => stream.try_write_vectored(parts),
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_ready(Direction::Read, context))?;
            match self.try_read(into.initialize_unfilled()) {
                Ok(length) => {
                    into.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(Direction::Write, context))?;
            match self.try_write(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match &*self {
            Socket::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Socket::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
        match done {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
