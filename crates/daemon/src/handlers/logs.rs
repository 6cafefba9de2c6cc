//! A container's log.

use std::io;

use droste_api::frame;
use droste_engine::{LogLine, LogOptions, Logs};
use futures_util::stream;
use hyper::StatusCode;

use super::attach::stream_of;
use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply::{self, MULTIPLEXED_STREAM, RAW_STREAM};

pub(crate) async fn logs(call: Call) -> Result<Reply> {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        let text = "Bad parameters: you must choose at least one stream";
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    let options = LogOptions {
        stdout,
        stderr,
        follow: query.flag("follow"),
        since: query.moment("since")?,
        until: query.moment("until")?.filter(|until| until.as_nanos() != 0),
        // "all", nothing, a negative number and nonsense mean all lines, as in Docker.
        tail: query.get("tail").parse().ok(),
        details: query.flag("details"),
    };
    let (timestamps, details) = (query.flag("timestamps"), options.details);
    let Logs { tty, lines } = call.host.logs(&call.parameter, options).await?;
    let dress = Dress { tty, timestamps, details };
    // 1.42: "the Content-Type says whether the stream is multiplexed".
    let media_type = if tty || call.version.below(42) { RAW_STREAM } else { MULTIPLEXED_STREAM };
    let body = stream::unfold(lines, move |mut lines| async move {
        let piece = match lines.recv().await? {
            Ok(line) => dress.line(&line),
            Err(error) => dress.failure(&error),
        };
        Some((Ok::<_, io::Error>(piece), lines))
    });
    Ok(reply::stream(media_type, body))
}

/// How lines are shown.
#[derive(Clone, Copy)]
struct Dress {
    tty: bool,
    timestamps: bool,
    details: bool,
}

impl Dress {
    fn line(self, line: &LogLine) -> Bytes {
        let mut text = Vec::with_capacity(line.bytes.len() + 64);
        if self.timestamps {
            text.extend_from_slice(line.time.fixed().as_bytes());
            text.push(b' ');
        }
        if self.details {
            text.extend_from_slice(line.attrs.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&line.bytes);
        self.framed(frame_of(line), text)
    }

    fn failure(self, error: &droste_engine::Error) -> Bytes {
        let message = error.message().map(|message| message.client().to_owned()).unwrap_or_default();
        let text = format!("Error grabbing logs: {message}\n").into_bytes();
        self.framed(frame::Stream::SystemError, text)
    }

    fn framed(self, stream: frame::Stream, text: Vec<u8>) -> Bytes {
        if self.tty {
            return text.into();
        }
        let mut bytes = Vec::with_capacity(text.len() + frame::HEAD);
        frame::encode(stream, &text, &mut bytes);
        bytes.into()
    }
}

fn frame_of(line: &LogLine) -> frame::Stream {
    stream_of(line.stream)
}

#[cfg(test)]
mod tests {
    use droste_engine::StreamKind;
    use droste_model::time::Timestamp;

    use super::*;

    #[test]
    fn lines_are_dressed() {
        let line = LogLine {
            stream: StreamKind::Stderr,
            time: Timestamp::from_nanos(1_700_000_000_123_000_000),
            bytes: Bytes::from_static(b"hi\n"),
            attrs: "a=b".to_owned(),
        };
        let plain = Dress { tty: true, timestamps: false, details: false };
        assert_eq!(plain.line(&line), "hi\n");
        let full = Dress { tty: true, timestamps: true, details: true };
        assert_eq!(full.line(&line), "2023-11-14T22:13:20.123000000Z a=b hi\n");
        let framed = Dress { tty: false, timestamps: false, details: false };
        assert_eq!(framed.line(&line), &b"\x02\0\0\0\0\0\0\x03hi\n"[..]);
    }
}
