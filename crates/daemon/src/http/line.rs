//! Request lines as Go's servers take them: with `"`, `<` and `>` in the query, which hyper refuses and people type.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A request line's longest piece that is looked at in one go.
const PIECE: usize = 4096;

/// Says that what comes next on a connection is a request line. Nobody may say so who does not know it: what passes as a
/// line is changed.
#[derive(Clone, Debug)]
pub(super) struct Next(Arc<AtomicBool>);

impl Next {
    /// The request that has been read has no body, and nothing else follows it.
    pub(super) fn is_a_line(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection whose request lines have such bytes encoded.
pub(super) struct Lines<S> {
    stream: S,
    next: Next,
    /// Whether a line has begun and not ended.
    begun: bool,
    encoded: BytesMut,
}

impl<S> Lines<S> {
    /// A connection at its beginning.
    pub(super) fn new(stream: S) -> (Self, Next) {
        let next = Next(Arc::new(AtomicBool::new(true)));
        (Self { stream, next: next.clone(), begun: false, encoded: BytesMut::new() }, next)
    }

    /// Takes bytes of a line, of empty ones before it, and perhaps of what follows it.
    fn take(&mut self, bytes: &[u8]) {
        let begins = bytes.iter().position(|byte| self.begun || !byte.is_ascii_whitespace());
        let start = begins.unwrap_or(bytes.len());
        self.begun = begins.is_some();
        let end = bytes[start..].iter().position(|byte| *byte == b'\n').map(|length| start + length);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        for byte in line {
            match byte {
                b'"' => self.encoded.extend_from_slice(b"%22"),
                b'<' => self.encoded.extend_from_slice(b"%3C"),
                b'>' => self.encoded.extend_from_slice(b"%3E"),
                _ => self.encoded.extend_from_slice(&[*byte]),
            }
        }
        self.encoded.extend_from_slice(rest);
        if end.is_some() {
            self.begun = false;
            self.next.0.store(false, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lines<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.encoded.is_empty() {
            if !self.next.0.load(Ordering::Relaxed) {
                return Pin::new(&mut self.stream).poll_read(context, into);
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            self.take(read.filled());
        }
        let length = into.remaining().min(self.encoded.len());
        into.put_slice(&self.encoded[..length]);
        self.encoded.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lines<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_line_is_encoded_and_what_follows_is_not() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (mut lines, next) = Lines::new(server);
        let mut read = vec![0; 3];
        client.write_all(b"\r\nGET /a?f={\"b\":[\"<c>\"]} HTTP/1.1\r\nX: \"y\"\r\n\r\n\"<>\"\n").await.unwrap();
        // Also where the reader has less room than there is.
        let mut all = Vec::new();
        while !all.ends_with(b">\"\n") {
            let length = lines.read(&mut read).await.unwrap();
            all.extend_from_slice(&read[..length]);
        }
        let expected = "\r\nGET /a?f={%22b%22:[%22%3Cc%3E%22]} HTTP/1.1\r\nX: \"y\"\r\n\r\n\"<>\"\n";
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        next.is_a_line();
        // In pieces, of which the last begins with the end of the line.
        for (piece, expected) in [("GET /\"", "GET /%22"), ("\" HTTP/1.1\r", "%22 HTTP/1.1\r"), ("\n\"", "\n\"")] {
            client.write_all(piece.as_bytes()).await.unwrap();
            let mut read = vec![0; expected.len()];
            lines.read_exact(&mut read).await.unwrap();
            assert_eq!(String::from_utf8(read).unwrap(), expected);
        }
    }
}
