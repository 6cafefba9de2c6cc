//! Attaching to a container, and moving bytes between a client and a process.

use std::io;

use droste_api::frame::{self, Stream};
use droste_engine::{AttachOptions, Attached, Input, LogOptions, Logs, Output, StreamKind};
use tokio::sync::mpsc;

use crate::call::Call;
use crate::error::Result;
use crate::http::{Duplex, Reader, Reply, Writer};
use crate::reply::{MULTIPLEXED_STREAM, RAW_STREAM, takeover_head};

/// How much of a client's input is moved at a time.
const PIECE: usize = 32 << 10;

pub(crate) fn stream_of(kind: StreamKind) -> Stream {
    match kind {
        StreamKind::Stdin => Stream::Stdin,
        StreamKind::Stdout => Stream::Stdout,
        StreamKind::Stderr => Stream::Stderr,
        StreamKind::SystemError => Stream::SystemError,
    }
}

pub(crate) async fn attach(call: Call) -> Result<Reply> {
    let (attached, logs) = streams(&call).await?;
    let tty = attached.tty;
    let before = Before { logs, complaint: None };
    hand_over(call, tty, std::future::ready((attached, before))).await
}

/// The streams that the query asks for, and what was logged so far if it asks for that.
pub(super) async fn streams(call: &Call) -> Result<(Attached, Option<Logs>)> {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    let (stream, with_logs) = (query.flag("stream"), query.flag("logs"));
    let tty = call.host.container(&call.parameter)?.config.tty;
    let past = match with_logs && (stdout || stderr) {
        true => Some(call.host.logs(&call.parameter, LogOptions { stdout, stderr, ..LogOptions::default() }).await?),
        false => None,
    };
    let attached = match stream {
        true => {
            let options = AttachOptions {
                stdin: query.flag("stdin"),
                stdout,
                stderr,
                detach_keys: query.given("detachKeys").filter(|keys| !keys.is_empty()).map(str::to_owned),
            };
            call.host.attach(&call.parameter, options).await?
        }
        false => ended(tty),
    };
    Ok((attached, past))
}

/// An attachment to nothing.
pub(crate) fn ended(tty: bool) -> Attached {
    Attached { tty, input: None, output: mpsc::channel(1).1 }
}

/// What a client gets before a process's output.
#[derive(Default)]
pub(crate) struct Before {
    /// What was logged so far.
    pub(crate) logs: Option<Logs>,
    /// Why there is no output.
    pub(crate) complaint: Option<String>,
}

impl Before {
    async fn send(self, writer: &mut Writer, tty: bool) -> io::Result<()> {
        if let Some(mut logs) = self.logs {
            while let Some(Ok(line)) = logs.lines.recv().await {
                write(writer, tty, &Output { stream: line.stream, bytes: line.bytes }).await?;
            }
        }
        match self.complaint {
            Some(text) => write(writer, tty, &Output { stream: StreamKind::Stdout, bytes: text.into() }).await,
            None => Ok(()),
        }
    }
}

/// Gives the connection to a process's streams, which `started` gives once the head is sent. Does not return.
pub(crate) async fn hand_over(
    call: Call,
    tty: bool,
    started: impl Future<Output = (Attached, Before)> + Send + 'static,
) -> Result<Reply> {
    // 1.42: "the Content-Type of attach and exec says whether the stream is multiplexed".
    let multiplexed = !tty && call.version.at_least(42);
    let head = takeover_head(call.wants_upgrade(), if multiplexed { MULTIPLEXED_STREAM } else { RAW_STREAM });
    let serve = move |duplex| async move {
        let (attached, before) = started.await;
        pass(duplex, attached, before).await;
    };
    let never = call.takeover.take(head, serve).await;
    match never {}
}

/// Passes bytes in both directions until the output ends, the client is gone, or it detaches.
async fn pass(duplex: Duplex, attached: Attached, before: Before) {
    let Duplex { mut reader, mut writer, socket } = duplex;
    let Attached { tty, input, mut output } = attached;
    let input_task = async move {
        if let Some(input) = input {
            feed(&mut reader, input).await;
        }
        // The end of the input does not end the output.
        std::future::pending::<()>().await;
    };
    let output_task = async {
        before.send(&mut writer, tty).await?;
        while let Some(piece) = output.recv().await {
            write(&mut writer, tty, &piece).await?;
        }
        writer.end().await
    };
    tokio::select! {
        () = input_task => {}
        result = output_task => {
            if let Err(error) = result {
                tracing::debug!(%error, "an attached client went away");
            }
        }
        () = socket.gone(false) => tracing::debug!("an attached client went away"),
    }
}

async fn write(writer: &mut Writer, tty: bool, piece: &Output) -> io::Result<()> {
    if tty {
        return writer.send(&[], &piece.bytes).await;
    }
    // The pieces of a process's output are far below 4 GiB.
    let length = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
    writer.send(&frame::head(stream_of(piece.stream), length), &piece.bytes).await
}

/// Feeds a process with what the client sends, until one of them is done.
async fn feed(reader: &mut Reader, mut input: Input) {
    loop {
        match reader.read(PIECE).await {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => {
                if let Err(error) = input.write(&bytes).await {
                    tracing::debug!(%error, "a process takes no more input");
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "an attached client went away");
                break;
            }
        }
    }
    if let Err(error) = input.close().await {
        tracing::debug!(%error, "a process's input could not be closed");
    }
}
