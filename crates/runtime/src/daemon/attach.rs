//! One client's view of a process's standard streams: bytes to its input, framed output from it.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const HEADER: usize = 8;
const BUFFER: usize = 32 * 1024;
const LONGEST: usize = 1 << 24;

/// Which output bytes came from. A terminal has one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A connection to a process's standard streams. A reader that does not read holds the process up, as in Docker.
#[derive(Debug)]
pub struct Attachment {
    /// To the process's input. Dropping it closes the input if that is to be closed once.
    pub input: InputWriter,
    /// From the process's outputs.
    pub output: OutputReader,
}

impl Attachment {
    /// Makes an attachment and the end that the shim gets: with a plan, so that nothing is missed, or with
    /// [`Shim::attach`](crate::Shim::attach).
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, shims) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(own)?.into_split();
        let output = OutputReader { socket: read, buffer: Vec::new() };
        Ok((Self { input: InputWriter(write), output }, shims.into()))
    }
}

/// The writing half.
#[derive(Debug)]
pub struct InputWriter(OwnedWriteHalf);

impl InputWriter {
    /// Says that no more input comes.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn close(mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

impl AsyncWrite for InputWriter {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The reading half.
#[derive(Debug)]
pub struct OutputReader {
    socket: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl OutputReader {
    /// The next piece of output; `None` when the process has ended. Safe to cancel.
    ///
    /// # Errors
    /// When the shim died in the middle of a piece.
    pub async fn next(&mut self) -> io::Result<Option<(Stream, Vec<u8>)>> {
        loop {
            if let Some(piece) = self.take()? {
                return Ok(Some(piece));
            }
            self.buffer.reserve(BUFFER);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<(Stream, Vec<u8>)>> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let stream = if header[0] == 2 { Stream::Stderr } else { Stream::Stdout };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(HEADER + length);
        let mut piece = std::mem::replace(&mut self.buffer, rest);
        piece.drain(..HEADER);
        Ok(Some((stream, piece)))
    }
}
