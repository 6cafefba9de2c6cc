//! A small blocking HTTP/1.1 client over a Unix socket, for tests that must see exact bytes: the
//! moment the head arrives, chunk by chunk, and what follows a hijack. It shares no code with the
//! engine. It leaves expectations to `check`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long a test waits for bytes before it counts as hung. Not an expectation of speed.
const HUNG: Duration = Duration::from_secs(90);

/// A request being put together.
#[derive(Debug)]
pub struct Request {
    socket: PathBuf,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request for exactly `target` on the engine that listens at `socket`.
    pub fn new(socket: &Path, method: &str, target: &str) -> Self {
        Self {
            socket: socket.to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.bytes("application/json", body.to_string().into_bytes())
    }

    /// Sets a body of any kind.
    #[must_use]
    pub fn bytes(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        if !content_type.is_empty() {
            self = self.header("Content-Type", content_type);
        }
        self.body = Some(body.into());
        self
    }

    /// Asks for a hijacked connection, as Docker's client does.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade").header("Upgrade", "tcp")
    }

    /// Sends the request and reads the whole reply.
    pub fn send(self) -> Reply {
        self.open().finish()
    }

    /// Sends the request and returns as soon as the reply's head has arrived.
    pub fn open(self) -> Open {
        let label = format!("{} {}", self.method, self.target);
        let mut stream = UnixStream::connect(&self.socket)
            .unwrap_or_else(|e| panic!("{label}: connect {}: {e}", self.socket.display()));
        stream.set_read_timeout(Some(HUNG)).expect("set a read timeout");
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(&self.wire());
        Open::read_head(label, stream)
    }

    fn wire(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: docker\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut wire = head.into_bytes();
        wire.extend_from_slice(self.body.as_deref().unwrap_or_default());
        wire
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// A reply whose head has been read and whose body may still be on its way.
#[derive(Debug)]
pub struct Open {
    label: String,
    /// The status code.
    pub status: u16,
    /// The words after the status code.
    pub reason: String,
    /// Header names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
    framing: Framing,
    reader: BufReader<UnixStream>,
    held: Vec<u8>,
}

impl Open {
    fn read_head(label: String, stream: UnixStream) -> Self {
        let mut reader = BufReader::new(stream);
        let status_line = head_line(&mut reader, &label);
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        assert_eq!(version, "HTTP/1.1", "{label}: status line {status_line:?}");
        let status = words.next().unwrap_or_default();
        let status = status.parse().unwrap_or_else(|_| panic!("{label}: status line {status_line:?}"));
        let reason = words.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = head_line(&mut reader, &label);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{label}: header line {line:?}"));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut open = Self { label, status, reason, headers, framing: Framing::None, reader, held: Vec::new() };
        open.framing = open.choose_framing();
        open
    }

    fn choose_framing(&self) -> Framing {
        if self.label.starts_with("HEAD ") || matches!(self.status, 101 | 204 | 304) {
            return Framing::None;
        }
        if self.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        match self.header("Content-Length").and_then(|v| v.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }

    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether the body comes in chunks.
    pub fn is_chunked(&self) -> bool {
        self.framing == Framing::Chunked
    }

    /// The next piece of the body as it was framed: one chunk, or what has arrived. None at its end.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        match self.framing {
            Framing::None => None,
            Framing::Chunked => self.chunk(),
            Framing::Length(0) => None,
            Framing::Length(left) => {
                let mut buffer = vec![0; left.min(65536)];
                let n = self.read_some(&mut buffer);
                assert!(n > 0, "{}: body ended {left} bytes early", self.label);
                buffer.truncate(n);
                self.framing = Framing::Length(left - n);
                Some(buffer)
            }
            Framing::UntilClose => {
                let mut buffer = vec![0; 65536];
                let n = self.read_some(&mut buffer);
                buffer.truncate(n);
                (n > 0).then_some(buffer)
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        self.reader.read(buffer).unwrap_or_else(|e| panic!("{}: read the body: {e}", self.label))
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = head_line(&mut self.reader, &self.label);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .unwrap_or_else(|_| panic!("{}: chunk size {size:?}", self.label));
        let mut data = vec![0; size + 2];
        self.reader.read_exact(&mut data).unwrap_or_else(|e| panic!("{}: chunk of {size}: {e}", self.label));
        assert_eq!(&data[size..], b"\r\n", "{}: end of chunk", self.label);
        data.truncate(size);
        if size == 0 {
            self.framing = Framing::None;
            return None;
        }
        Some(data)
    }

    /// The next line of the body without its line end, whatever pieces it came in.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Some(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            match self.piece() {
                Some(piece) => self.held.extend(piece),
                None if self.held.is_empty() => return None,
                None => {
                    let rest = std::mem::take(&mut self.held);
                    return Some(String::from_utf8_lossy(&rest).into_owned());
                }
            }
        }
    }

    /// The next line of the body as JSON.
    pub fn json_line(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{}: {e}: {line:?}", self.label)))
    }

    /// Reads the body to its end.
    pub fn finish(mut self) -> Reply {
        let mut body = std::mem::take(&mut self.held);
        while let Some(piece) = self.piece() {
            body.extend(piece);
        }
        Reply { label: self.label, status: self.status, headers: self.headers, body }
    }

    /// Takes the connection over for a raw stream, after a 101 or a 200 without length.
    pub fn hijack(self) -> Raw {
        assert!(
            matches!(self.framing, Framing::None | Framing::UntilClose),
            "{}: a framed reply can't be hijacked",
            self.label
        );
        Raw { label: self.label, reader: self.reader }
    }
}

fn head_line(reader: &mut BufReader<UnixStream>, label: &str) -> String {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap_or_else(|e| panic!("{label}: read the head: {e}"));
    assert!(line.ends_with(b"\r\n"), "{label}: head cut short: {line:?}");
    line.truncate(line.len() - 2);
    String::from_utf8_lossy(&line).into_owned()
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Method and target, for messages.
    pub label: String,
    /// The status code.
    pub status: u16,
    /// Header names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body with transfer coding removed.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: {e}: {:?}", self.label, self.text()))
    }

    /// The body as JSON values, one a line.
    pub fn json_lines(&self) -> Vec<Value> {
        serde_json::Deserializer::from_slice(&self.body)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|e| panic!("{}: {e}: {:?}", self.label, self.text()))
    }
}

/// A hijacked connection.
#[derive(Debug)]
pub struct Raw {
    label: String,
    reader: BufReader<UnixStream>,
}

/// One frame of a multiplexed stream: which stream, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 0 standard input, 1 output, 2 error, 3 the engine's own error.
    pub stream: u8,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Raw {
    /// Sends bytes as standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap_or_else(|e| panic!("{}: write: {e}", self.label));
    }

    /// Half-closes: no more input comes, output is still wanted.
    pub fn close_write(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).unwrap_or_else(|e| panic!("{}: half-close: {e}", self.label));
    }

    /// The next frame, or None at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut header = [0; 8];
        let n = self.reader.read(&mut header[..1]).unwrap_or_else(|e| panic!("{}: read a frame: {e}", self.label));
        if n == 0 {
            return None;
        }
        self.reader.read_exact(&mut header[1..]).unwrap_or_else(|e| panic!("{}: frame header: {e}", self.label));
        assert_eq!(header[1..4], [0, 0, 0], "{}: frame header", self.label);
        let size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut data = vec![0; size as usize];
        self.reader.read_exact(&mut data).unwrap_or_else(|e| panic!("{}: frame of {size}: {e}", self.label));
        Some(Frame { stream: header[0], data })
    }

    /// Everything up to the stream's end, as it came.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        match self.reader.read_to_end(&mut all) {
            Ok(_) => all,
            Err(e) => panic!("{}: read to the end: {e}; had {all:?}", self.label),
        }
    }

    /// Reads raw bytes until `wanted` has been seen; gives all that was read.
    pub fn until(&mut self, wanted: &str) -> String {
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.contains(wanted) {
            let n = self
                .reader
                .read(&mut buffer)
                .unwrap_or_else(|e| panic!("{}: waiting for {wanted:?}: {e}; had {seen:?}", self.label));
            assert!(n > 0, "{}: ended before {wanted:?}; had {seen:?}", self.label);
            seen += &String::from_utf8_lossy(&buffer[..n]);
        }
        seen
    }
}

/// Splits a multiplexed body into standard output and standard error.
pub fn demultiplex(mut body: &[u8]) -> (String, String) {
    let mut streams = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    while !body.is_empty() {
        assert!(body.len() >= 8, "frame header cut short: {body:?}");
        assert!(body[0] < 4 && body[1..4] == [0, 0, 0], "frame header {:?}", &body[..8]);
        let size = u32::from_be_bytes([body[4], body[5], body[6], body[7]]) as usize;
        streams[usize::from(body[0])].extend_from_slice(&body[8..8 + size]);
        body = &body[8 + size..];
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&streams[1]), text(&streams[2]))
}
