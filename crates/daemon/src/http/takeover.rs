//! Taking a connection over from HTTP: Docker's hijacking, in both of its forms.
//!
//! A handler that wants the connection sends a [`Takeover`] and then waits for ever; the connection's driver, which
//! owns both the HTTP machine and the handler, drops them, writes the head, and hands over the raw stream. So it is all
//! the same whether the head says `101 UPGRADED` or `200 OK` with bytes that have neither length nor framing.

use std::any::Any;
use std::io;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::io::Socket;

/// A connection in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Told = Box<dyn FnOnce(&[u8]) + Send + Sync>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Run = Box<dyn FnOnce(Duplex) -> Running + Send>;

/// What to do with a connection.
pub(crate) struct Takeover {
    /// The response's head, with its empty line.
    pub(crate) head: Vec<u8>,
    /// What happens on the raw stream.
    pub(crate) run: Run,
}

/// The way of a handler to its connection's driver.
pub(crate) struct TakeoverSender {
    sender: mpsc::Sender<Takeover>,
    held: Vec<Box<dyn Any + Send + Sync>>,
    told: Option<Told>,
}

impl TakeoverSender {
    pub(super) fn new(sender: mpsc::Sender<Takeover>) -> Self {
        Self { sender, held: Vec::new(), told: None }
    }

    /// Tells somebody of the head with which the connection is taken over.
    pub(crate) fn tell(&mut self, told: impl FnOnce(&[u8]) + Send + Sync + 'static) {
        self.told = Some(Box::new(told));
    }

    /// Keeps something as long as the connection that is taken over.
    pub(crate) fn hold(&mut self, something: impl Send + Sync + 'static) {
        self.held.push(Box::new(something));
    }

    /// Takes the connection over. Never returns: the handler is dropped.
    pub(crate) async fn take<F, R>(self, head: Vec<u8>, run: F) -> std::convert::Infallible
    where
        F: FnOnce(Duplex) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        if let Some(told) = self.told {
            told(&head);
        }
        let held = self.held;
        let run = Box::new(move |duplex| -> Running {
            let work = run(duplex);
            Box::pin(async move {
                work.await;
                drop(held);
            })
        });
        let _ = self.sender.send(Takeover { head, run }).await;
        std::future::pending().await
    }
}

/// A raw stream to a client.
pub(crate) struct Duplex {
    /// What the client sends.
    pub(crate) reader: Reader,
    /// What the client gets.
    pub(crate) writer: Writer,
    /// The socket, to see when the client is gone.
    pub(crate) socket: Socket,
}

/// What a client sends, beginning with what had been read before the takeover.
pub(crate) struct Reader {
    before: Bytes,
    rest: ReadHalf<Box<dyn Stream>>,
}

/// What a client gets.
pub(crate) struct Writer(WriteHalf<Box<dyn Stream>>);

impl Duplex {
    pub(super) fn new(stream: Box<dyn Stream>, before: Bytes, socket: Socket) -> Self {
        let (rest, writer) = tokio::io::split(stream);
        Self { reader: Reader { before, rest }, writer: Writer(writer), socket }
    }
}

impl Reader {
    /// Some bytes; none at the end.
    pub(crate) async fn read(&mut self, most: usize) -> io::Result<Bytes> {
        if !self.before.is_empty() {
            return Ok(std::mem::take(&mut self.before));
        }
        let mut bytes = Vec::with_capacity(most);
        self.rest.read_buf(&mut bytes).await?;
        Ok(bytes.into())
    }
}

impl Writer {
    /// Sends a head and a payload together.
    pub(crate) async fn send(&mut self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let mut both = Buf::chain(head, payload);
        while both.has_remaining() {
            if self.0.write_buf(&mut both).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.0.flush().await
    }

    /// Says that nothing more comes.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
