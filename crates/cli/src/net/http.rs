//! HTTP/1.1 as a client of a container engine needs it: blocking, one request at a time on a kept connection,
//! bodies by length, in chunks or until the end, and connections that an upgrade turns into plain streams.
//! `httparse` reads the heads.

use std::io::{self, Read, Write};

use super::stream::Stream;

const READ_SIZE: usize = 32 * 1024;
const MAX_HEAD: usize = 256 * 1024;

/// A connection with what was read from it and not used yet.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    buffer: Vec<u8>,
    start: usize,
}

/// What goes out with a request.
pub(crate) enum Body<'a> {
    Empty,
    Json(Vec<u8>),
    /// Sent in chunks; `kind` is the content type.
    Stream {
        reader: &'a mut dyn Read,
        kind: &'static str,
    },
    /// Ask for the connection itself.
    Upgrade(Vec<u8>),
}

impl Body<'_> {
    /// The same body for a second attempt; a stream has none.
    pub(crate) fn again<'b>(&self) -> Option<Body<'b>> {
        match self {
            Self::Empty => Some(Body::Empty),
            Self::Json(bytes) => Some(Body::Json(bytes.clone())),
            Self::Upgrade(bytes) => Some(Body::Upgrade(bytes.clone())),
            Self::Stream { .. } => None,
        }
    }
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunk { left: u64, first: bool },
    UntilClose,
    Done,
}

/// An answer whose body is read as it comes.
pub(crate) struct Response {
    pub(crate) head: Head,
    connection: Connection,
    framing: Framing,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0 }
    }

    /// Sends a request; `head` is everything up to the headers about the body.
    pub(crate) fn send(&mut self, mut head: String, body: Body<'_>) -> io::Result<()> {
        match body {
            Body::Empty => {
                head.push_str("Content-Length: 0\r\n\r\n");
                self.stream.write_all(head.as_bytes())?;
            }
            Body::Json(json) => self.send_buffered(head, "application/json", &json)?,
            Body::Upgrade(json) => {
                head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
                let kind = if json.is_empty() { "text/plain" } else { "application/json" };
                self.send_buffered(head, kind, &json)?;
            }
            Body::Stream { reader, kind } => {
                head.push_str(&format!("Transfer-Encoding: chunked\r\nContent-Type: {kind}\r\n\r\n"));
                self.stream.write_all(head.as_bytes())?;
                self.send_chunks(reader)?;
            }
        }
        self.stream.flush()
    }

    fn send_buffered(&mut self, mut head: String, kind: &str, body: &[u8]) -> io::Result<()> {
        head.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)
    }

    fn send_chunks(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut block = vec![0; 256 * 1024];
        loop {
            let size = match reader.read(&mut block) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if size == 0 {
                return self.stream.write_all(b"0\r\n\r\n");
            }
            self.stream.write_all(format!("{size:x}\r\n").as_bytes())?;
            self.stream.write_all(&block[..size])?;
            self.stream.write_all(b"\r\n")?;
        }
    }

    /// Waits for the head of the answer. `HEAD` requests have no body whatever the head says.
    pub(crate) fn receive(mut self, no_body: bool) -> io::Result<Response> {
        let head = loop {
            match self.parse_head()? {
                Some(head) if head.status / 100 == 1 && head.status != 101 => continue,
                Some(head) => break head,
                None => {}
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let framing = if no_body { Framing::Done } else { framing(&head) };
        Ok(Response { head, connection: self, framing })
    }

    fn parse_head(&mut self) -> io::Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; 96];
        let mut response = httparse::Response::new(&mut headers);
        let bytes = &self.buffer[self.start..];
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => {
                let head = Head {
                    status: response.code.unwrap_or(0),
                    headers: response
                        .headers
                        .iter()
                        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                        .collect(),
                };
                self.start += size;
                Ok(Some(head))
            }
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
            Ok(httparse::Status::Partial) => Err(bad("the answer's headers do not end")),
            Err(error) => Err(bad(format!("malformed HTTP response: {error}"))),
        }
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let end = self.buffer.len();
        self.buffer.resize(end + READ_SIZE, 0);
        let outcome = loop {
            match self.stream.read(&mut self.buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => break other,
            }
        };
        self.buffer.truncate(end + *outcome.as_ref().unwrap_or(&0));
        outcome
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.pending().iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&self.pending()[..at]).trim_end().to_owned();
                self.start += at + 1;
                return Ok(line);
            }
            if self.pending().len() > MAX_HEAD || self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.pending().is_empty() {
            if out.len() >= READ_SIZE {
                return self.stream.read(out);
            }
            if self.fill()? == 0 {
                return Ok(0);
            }
        }
        let size = self.pending().len().min(out.len());
        out[..size].copy_from_slice(&self.buffer[self.start..self.start + size]);
        self.start += size;
        Ok(size)
    }
}

fn framing(head: &Head) -> Framing {
    if matches!(head.status, 101 | 204 | 304) {
        return Framing::Done;
    }
    if head.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
        return Framing::Chunk { left: 0, first: true };
    }
    match head.header("content-length").and_then(|v| v.trim().parse().ok()) {
        Some(0) => Framing::Done,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    }
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Response {
    /// The whole body.
    pub(crate) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The connection, if it can carry another request.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        let closes = self.head.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        (self.framing == Framing::Done && self.head.status != 101 && !closes).then_some(self.connection)
    }

    /// The stream itself, after an upgrade, with what has been read from it already.
    pub(crate) fn into_stream(self) -> (Stream, Vec<u8>) {
        let rest = self.connection.pending().to_vec();
        (self.connection.stream, rest)
    }

    /// What to wait on for the body, unless some of it is here already.
    pub(crate) fn waiting_on(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.connection.pending().is_empty().then(|| self.connection.stream.as_fd())
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        if !first {
            self.connection.line()?;
        }
        let line = self.connection.line()?;
        let digits = line.split(';').next().unwrap_or("").trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| bad(format!("malformed chunk size {line:?}")))?;
        if size == 0 {
            while !self.connection.line()?.is_empty() {}
        }
        Ok(size)
    }
}

impl Read for Response {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunk { left: 0, first } = self.framing {
            self.framing = match self.next_chunk(first)? {
                0 => Framing::Done,
                left => Framing::Chunk { left, first: false },
            };
        }
        let limit = match self.framing {
            Framing::Done => return Ok(0),
            Framing::UntilClose => out.len(),
            Framing::Length(left) | Framing::Chunk { left, .. } => out.len().min(left.try_into().unwrap_or(usize::MAX)),
        };
        let size = self.connection.take(&mut out[..limit])?;
        self.framing = match self.framing {
            Framing::UntilClose if size == 0 && limit > 0 => Framing::Done,
            Framing::Length(_) | Framing::Chunk { .. } if size == 0 && limit > 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Framing::Length(left) if left == size as u64 => Framing::Done,
            Framing::Length(left) => Framing::Length(left - size as u64),
            Framing::Chunk { left, .. } => Framing::Chunk { left: left - size as u64, first: false },
            other => other,
        };
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn respond(bytes: &[u8]) -> io::Result<Response> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        Connection::new(Stream::Unix(ours)).receive(false)
    }

    #[test]
    fn bodies_by_length_chunks_and_close() {
        let mut by_length = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixx").unwrap();
        assert_eq!(by_length.body().unwrap(), b"hi");
        let mut chunked =
            respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!(chunked.body().unwrap(), b"hi yo");
        assert!(chunked.into_connection().is_some());
        let mut closed = respond(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
        assert_eq!(closed.body().unwrap(), b"hello");
    }

    #[test]
    fn an_upgrade_keeps_early_bytes() {
        let response = respond(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly").unwrap();
        assert_eq!(response.into_stream().1, b"early");
    }

    #[test]
    fn cut_answers_are_errors() {
        assert!(respond(b"HTTP/1.1 200 OK\r\nContent-Le").is_err());
        assert!(respond(b"nonsense\r\n\r\n").is_err());
        let mut cut = respond(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi").unwrap();
        assert!(cut.body().is_err());
        let mut odd = respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").unwrap();
        assert!(odd.body().is_err());
    }
}
