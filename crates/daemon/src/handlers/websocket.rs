//! Attaching to a container by WebSocket: the handshake, and messages for bytes. Standard output and standard error
//! come as they are, without the frames of the other way to attach, as Docker has it.

use std::io;

use droste_api::version::CURRENT;
use droste_api::wire::byte_string;
use droste_engine::{Attached, Input, Logs};
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::attach::streams;
use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::websocket::{Frames, Opcode, head};
use crate::http::{Bytes, Duplex, Reply, Writer};
use crate::reply::SERVER;

/// What RFC 6455 appends to a client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// "Normal closure", RFC 6455, 7.4.1.
const NORMAL: u16 = 1000;

pub(crate) async fn attach(call: Call) -> Result<Reply> {
    let answer = handshake(&call)?;
    // 1.28: "GET /containers/(name)/attach/ws now returns WebSocket in binary frame format".
    let opcode = if call.version.at_least(28) { Opcode::Binary } else { Opcode::Text };
    let (attached, past) = streams(&call).await?;
    let serve = move |duplex| async move {
        if let Err(error) = pass(duplex, attached, past, opcode).await {
            tracing::debug!(%error, "a client that was attached by WebSocket went away");
        }
    };
    let never = call.takeover.take(answer, serve).await;
    match never {}
}

/// The head that switches protocols, for a request that asks for it.
fn handshake(call: &Call) -> Result<Vec<u8>> {
    let has = |name: &str, word: &str| {
        call.header(name).is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    };
    let key = call.header("sec-websocket-key").unwrap_or_default();
    if !has("upgrade", "websocket") || !has("connection", "upgrade") || key.is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "not websocket protocol"));
    }
    if call.header("sec-websocket-version") != Some("13") {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "missing or bad WebSocket Version: it is 13"));
    }
    // A client that offers protocols goes away unless it gets one of them.
    let protocol = match call.header("sec-websocket-protocol") {
        Some(one) if !one.contains(',') => format!("Sec-WebSocket-Protocol: {}\r\n", one.trim()),
        _ => String::new(),
    };
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
         {protocol}Api-Version: {CURRENT}\r\nServer: {SERVER}\r\n\r\n",
        accept_key(key)
    )
    .into_bytes())
}

/// The answer to a client's key. The protocol prescribes SHA-1, and nothing is secured by it.
fn accept_key(key: &str) -> String {
    let text = format!("{key}{GUID}");
    byte_string(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// Passes bytes in both directions until the output ends or the client does.
async fn pass(duplex: Duplex, attached: Attached, past: Option<Logs>, opcode: Opcode) -> io::Result<()> {
    let Duplex { reader, mut writer, socket } = duplex;
    let Attached { input, mut output, .. } = attached;
    let (answers, mut to_answer) = mpsc::channel(4);
    let listen = async move {
        listen(Frames::new(reader), input, answers).await;
        std::future::pending::<()>().await;
    };
    let talk = async {
        let mut past = past;
        while let Some(Ok(line)) = next_line(&mut past).await {
            send(&mut writer, opcode, &line.bytes).await?;
        }
        loop {
            tokio::select! {
                Some((opcode, bytes)) = to_answer.recv() => {
                    send(&mut writer, opcode, &bytes).await?;
                    if opcode == Opcode::Close {
                        return writer.end().await;
                    }
                }
                piece = output.recv() => match piece {
                    Some(piece) => send(&mut writer, opcode, &piece.bytes).await?,
                    None => {
                        send(&mut writer, Opcode::Close, &NORMAL.to_be_bytes()).await?;
                        return writer.end().await;
                    }
                },
            }
        }
    };
    tokio::select! {
        () = listen => Ok(()),
        result = talk => result,
        () = socket.gone(false) => Ok(()),
    }
}

async fn next_line(past: &mut Option<Logs>) -> Option<io::Result<droste_engine::LogLine>> {
    past.as_mut()?.lines.recv().await.map(|line| line.map_err(io::Error::other))
}

async fn send(writer: &mut Writer, opcode: Opcode, bytes: &[u8]) -> io::Result<()> {
    writer.send(&head(opcode, bytes.len()), bytes).await
}

/// Feeds a process with what the client says, and tells what has to be answered.
async fn listen(mut frames: Frames, mut input: Option<Input>, answers: mpsc::Sender<(Opcode, Bytes)>) {
    loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => frame,
            // Without a word, or with one that is none: the conversation is over.
            Ok(None) | Err(_) => (Opcode::Close, Bytes::new()),
        };
        match frame {
            (Opcode::Ping, bytes) => drop(answers.send((Opcode::Pong, bytes)).await),
            (Opcode::Pong, _) => {}
            (Opcode::Close, bytes) => {
                if let Some(input) = input.take() {
                    let _ = input.close().await;
                }
                let _ = answers.send((Opcode::Close, bytes)).await;
                return;
            }
            (Opcode::Continuation | Opcode::Text | Opcode::Binary, bytes) => {
                if let Some(input) = &mut input
                    && let Err(error) = input.write(&bytes).await
                {
                    tracing::debug!(%error, "a process takes no more input");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_specification() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
