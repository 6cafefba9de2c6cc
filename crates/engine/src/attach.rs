//! Clients at a process's standard streams: before its start and while it runs.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use droste_runtime::plan::Streams;
use droste_runtime::{Attachment, InputWriter, OutputReader, Stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::options::{Output, StreamKind};

/// Pieces of output on the way to a client. More than these hold the process up.
const IN_FLIGHT: usize = 16;

/// ctrl-p ctrl-q.
const DEFAULT_DETACH: [u8; 2] = [16, 17];

/// A client that attached before the start: the end of the socket that the shim will get.
pub(crate) struct Pending {
    /// The shim's end.
    pub socket: OwnedFd,
    /// What passes.
    pub streams: Streams,
}

/// A client at a process's streams.
pub struct Attached {
    /// The process has a terminal: one stream, no framing.
    pub tty: bool,
    /// To the process's input, if the client sends any.
    pub input: Option<Input>,
    /// The process's output. It ends with the process, or when the client detaches.
    pub output: mpsc::Receiver<Output>,
}

/// A process's standard input, with an eye on the keys that detach.
pub struct Input {
    writer: InputWriter,
    keys: Option<DetachKeys>,
    detach: Option<oneshot::Sender<()>>,
}

impl Input {
    /// Sends bytes to the process; what comes after the detach keys is dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(keys) = &mut self.keys else { return self.writer.write_all(bytes).await };
        let (pass, detached) = keys.filter(bytes);
        self.writer.write_all(&pass).await?;
        if detached {
            drop(self.detach.take());
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "detached"));
        }
        Ok(())
    }

    /// Says that no more input comes.
    pub async fn close(mut self) -> io::Result<()> {
        if let Some(detach) = self.detach.take() {
            // The output goes on: only the keys detach, not the end of input.
            let _ = detach.send(());
        }
        self.writer.close().await
    }
}

/// Makes the client's side of an attachment. The output ends after `ended`.
pub(crate) fn connect(
    attachment: Attachment,
    streams: Streams,
    tty: bool,
    keys: Option<DetachKeys>,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Attached {
    let Attachment { input, output } = attachment;
    let (send, receive) = mpsc::channel(IN_FLIGHT);
    let (detach, detached) = oneshot::channel();
    tokio::spawn(pump(output, send, detached, ended));
    let input = if streams.stdin {
        Some(Input { writer: input, keys: keys.filter(|_| tty), detach: Some(detach) })
    } else {
        let _ = detach.send(());
        None
    };
    Attached { tty, input, output: receive }
}

/// Carries output until the process ends, the client goes, or the detach keys come.
async fn pump(
    mut output: OutputReader,
    client: mpsc::Sender<Output>,
    detached: oneshot::Receiver<()>,
    ended: impl Future<Output = ()> + Send,
) {
    let carry = async {
        while let Ok(Some((stream, bytes))) = output.next().await {
            let stream = match stream {
                Stream::Stdout => StreamKind::Stdout,
                Stream::Stderr => StreamKind::Stderr,
            };
            if client.send(Output { stream, bytes: Bytes::from(bytes) }).await.is_err() {
                return;
            }
        }
        ended.await;
    };
    tokio::select! {
        () = carry => {}
        () = until_detached(detached) => {}
        () = client.closed() => {}
    }
}

/// Ends when the sender is dropped without a word; a word means that nobody will detach any more.
async fn until_detached(detached: oneshot::Receiver<()>) {
    if detached.await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// A sequence of keys that detaches, and how much of it has been typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    typed: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { sequence: DEFAULT_DETACH.to_vec(), typed: 0 }
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a`, `ctrl-@`, … ; empty text means the default.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || Error::invalid(format!("Invalid detach keys ({text}) provided: Unknown character: '{text}'"));
        let sequence = text.split(',').map(key).collect::<Option<Vec<u8>>>().ok_or_else(invalid)?;
        Ok(Self { sequence, typed: 0 })
    }

    /// The bytes that a text stands for; none if it is empty or wrong.
    pub(crate) fn bytes(text: &str) -> Vec<u8> {
        text.split(',').map(key).collect::<Option<_>>().unwrap_or_default()
    }

    /// What of the typed bytes goes to the process, and whether the sequence is complete.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == self.sequence[self.typed] {
                self.typed += 1;
                if self.typed == self.sequence.len() {
                    return (pass, true);
                }
                continue;
            }
            pass.extend_from_slice(&self.sequence[..self.typed]);
            self.typed = usize::from(*byte == self.sequence[0]);
            if self.typed == 0 {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

/// One key: a letter, or `ctrl-` and one of `a`–`z`, `@`, `[`, `\`, `]`, `^`, `_`.
fn key(text: &str) -> Option<u8> {
    match (text.strip_prefix("ctrl-"), text.as_bytes()) {
        (Some(name), _) => match name.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
            _ => None,
        },
        (None, [one]) => Some(*one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        assert_eq!(DetachKeys::parse("ctrl-a,x").unwrap().sequence, [1, b'x']);
        assert_eq!(DetachKeys::parse("ctrl-@,ctrl-[,ctrl-_").unwrap().sequence, [0, 27, 31]);
        assert_eq!(DetachKeys::parse("").unwrap().sequence, DEFAULT_DETACH);
        assert!(
            DetachKeys::parse("ctrl-").is_err() && DetachKeys::parse("ab").is_err() && DetachKeys::parse(",").is_err()
        );
    }

    #[test]
    fn the_sequence_detaches_and_parts_of_it_pass() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(keys.filter(b"\x10"), (vec![], false));
        assert_eq!(keys.filter(b"\x10\x11rest"), (b"\x10".to_vec(), true));
    }
}
