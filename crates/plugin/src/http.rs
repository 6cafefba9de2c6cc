//! One question and its answer over a connection: HTTP/1.1, JSON both ways, closed afterwards.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::address::Stream;
use crate::{PluginError, Result};

/// The protocol's media type.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// The most bytes that an answer may have.
const MOST_BYTES: u64 = 4 << 20;

/// The most fields that an answer's head may have.
const MOST_FIELDS: usize = 64;

/// Asks, and gives the answer's status and body.
pub(crate) fn ask(mut stream: Stream, method: &'static str, body: &[u8], wait: Duration) -> Result<(u16, Vec<u8>)> {
    let broken = |source: io::Error| PluginError::Io { method, source };
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin\r\nAccept: {MEDIA_TYPE}\r\nContent-Type: {MEDIA_TYPE}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let end = Instant::now() + wait;
    stream.bound(wait).map_err(broken)?;
    stream.write_all(head.as_bytes()).map_err(broken)?;
    stream.write_all(body).map_err(broken)?;
    let mut answer = Vec::new();
    let mut piece = [0; 8 << 10];
    loop {
        if let Some(whole) = read(&answer).map_err(|reason| PluginError::Protocol { method, reason })? {
            return Ok(whole);
        }
        if answer.len() as u64 > MOST_BYTES {
            return Err(PluginError::Protocol { method, reason: format!("more than {MOST_BYTES} bytes") });
        }
        // All of it in time, however small the pieces in which it comes.
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.bound(left.ok_or_else(|| broken(io::ErrorKind::TimedOut.into()))?).map_err(broken)?;
        match stream.read(&mut piece).map_err(broken)? {
            0 => return ended(&answer).map_err(|reason| PluginError::Protocol { method, reason }),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
}

/// What an answer's head says.
struct Head {
    status: u16,
    /// Where the body begins.
    length: usize,
    body: Body,
}

enum Body {
    /// So many bytes.
    Length(usize),
    /// In pieces, each with its length before it.
    Chunked,
    /// All until the end.
    ToTheEnd,
}

fn head(answer: &[u8]) -> Result<Option<Head>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(answer).map_err(|error| format!("no HTTP: {error}"))? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let field = |name: &str| {
        let found = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| String::from_utf8_lossy(field.value).trim().to_ascii_lowercase())
    };
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(coding), _) if coding == "chunked" => Body::Chunked,
        (Some(coding), _) => return Err(format!("in a coding that nobody knows: {coding}")),
        (None, Some(text)) => Body::Length(text.parse().map_err(|_| format!("a length that is none: {text}"))?),
        (None, None) => Body::ToTheEnd,
    };
    Ok(Some(Head { status: parsed.code.unwrap_or(0), length, body }))
}

/// The status and the body, if the answer is whole.
fn read(answer: &[u8]) -> Result<Option<(u16, Vec<u8>)>, String> {
    let Some(head) = head(answer)? else { return Ok(None) };
    let rest = &answer[head.length..];
    let body = match head.body {
        Body::Length(length) => rest.get(..length).map(<[u8]>::to_vec),
        Body::Chunked => pieces(rest)?,
        Body::ToTheEnd => None,
    };
    Ok(body.map(|body| (head.status, body)))
}

/// The status and the body of an answer after which nothing comes.
fn ended(answer: &[u8]) -> Result<(u16, Vec<u8>), String> {
    match head(answer)? {
        Some(Head { status, length, body: Body::ToTheEnd }) => Ok((status, answer[length..].to_vec())),
        _ => Err("half an answer".to_owned()),
    }
}

fn pieces(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest).map_err(|_| "a wrong piece".to_owned())? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete(found) => found,
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).map_err(|_| "too large a piece".to_owned())?;
        let end = start.checked_add(size).ok_or("too large a piece")?;
        let Some(piece) = rest.get(start..end) else { return Ok(None) };
        body.extend_from_slice(piece);
        match rest.get(end..end + 2) {
            Some(after) => rest = &rest[end + after.len()..],
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_all_three_ways() {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyMORE";
        assert_eq!(read(length).unwrap(), Some((200, b"body".to_vec())));
        assert_eq!(read(&length[..length.len() - 6]).unwrap(), None);
        let chunked = b"HTTP/1.1 500 X\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap(), Some((500, b"body".to_vec())));
        for cut in 0..chunked.len() - 4 {
            assert_eq!(read(&chunked[..cut]).unwrap(), None, "{cut}");
        }
        let to_the_end = b"HTTP/1.0 200 OK\r\n\r\nbody";
        assert_eq!((read(to_the_end).unwrap(), ended(to_the_end).unwrap()), (None, (200, b"body".to_vec())));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(read(b"hello\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx").is_err());
        assert!(ended(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody").is_err());
    }
}
