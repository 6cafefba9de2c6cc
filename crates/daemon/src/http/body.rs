//! Bodies: a request's, read whole with a limit or as a stream; a reply's, whole or as it comes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{EXPECT, HeaderMap};
use tokio::sync::mpsc;

pub(crate) use bytes::Bytes;

/// A request's body. What nobody has read when it is dropped is read and thrown away, up to a limit: a client that
/// still sends would otherwise find its connection closed in place of an answer.
pub(crate) struct Body {
    incoming: Option<Incoming>,
    /// Whether the client sends it unasked. One that waits for `100 Continue` may not send it at all.
    unasked: bool,
}

/// The most that is read of a body that nobody wants; Go's servers have the same limit.
const MOST_UNWANTED: usize = 256 << 10;

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than allowed.
    #[error("request body is larger than {0} bytes")]
    TooLarge(usize),
    /// The client went away or sent nonsense.
    #[error("cannot read the request body: {0}")]
    Broken(#[from] hyper::Error),
}

/// How many pieces of an upload wait for the thread that reads them.
const UPLOAD_PIECES: usize = 8;

impl Body {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        Self { incoming: Some(incoming), unasked: !headers.contains_key(EXPECT) }
    }

    /// The whole body.
    pub(crate) async fn read(mut self, most: usize) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        let Some(incoming) = &mut self.incoming else { return Ok(bytes) };
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > most {
                    return Err(BodyError::TooLarge(most));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    }

    /// The body as a reader for a blocking thread, and the work that feeds it. The reader ends with an error if the
    /// work is dropped before the body's end.
    pub(crate) fn split(mut self) -> (Upload, impl Future<Output = ()> + Send + use<>) {
        let (send, receive) = mpsc::channel(UPLOAD_PIECES);
        let incoming = self.incoming.take();
        let feeding = async move {
            if let Some(incoming) = incoming {
                feed(incoming, send).await;
            }
        };
        (Upload { pieces: receive, piece: Bytes::new(), ended: false }, feeding)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let unread =
            self.incoming.take().filter(|incoming| self.unasked && !hyper::body::Body::is_end_stream(incoming));
        if let (Some(incoming), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(throw_away(incoming));
        }
    }
}

async fn throw_away(mut incoming: Incoming) {
    let mut left = MOST_UNWANTED;
    while let Some(Ok(frame)) = incoming.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

type Piece = io::Result<Option<Bytes>>;

async fn feed(mut body: Incoming, pieces: mpsc::Sender<Piece>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().ok().map(|data| Ok(Some(data))),
            Err(error) => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error))),
        };
        let Some(piece) = piece else { continue };
        if pieces.send(piece).await.is_err() {
            // Whoever read it has seen enough; the rest is read and dropped, so that the client gets the answer.
            break;
        }
    }
    let _ = pieces.send(Ok(None)).await;
    while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
}

/// A request's body on a blocking thread.
pub(crate) struct Upload {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl io::Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client went away")),
            }
        }
        let length = into.len().min(self.piece.len());
        into[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// Bytes as they come. An error ends the connection without the end of the body, so that the client sees it.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A reply's body.
pub(crate) enum ReplyBody {
    /// All of it.
    Whole(Bytes),
    /// As it comes. Dropping it ends whatever makes it.
    Stream(ByteStream),
}

impl ReplyBody {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// A body from a stream.
    pub(crate) fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }

    /// The same, keeping something as long as the body is being sent.
    pub(crate) fn holding(self, held: impl Send + 'static) -> Self {
        match self {
            ReplyBody::Whole(bytes) => ReplyBody::Whole(bytes),
            ReplyBody::Stream(stream) => Self::stream(stream.inspect(move |_| {
                let _ = &held;
            })),
        }
    }
}

impl From<Infallible> for ReplyBody {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl hyper::body::Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            ReplyBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ReplyBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ReplyBody::Stream(stream) => {
                Poll::Ready(ready!(stream.poll_next_unpin(context)).map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Stream(_) => SizeHint::default(),
        }
    }
}
