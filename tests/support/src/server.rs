//! A small HTTP server on a loopback address of an engine's host: a registry, or a place to import from. It serves what
//! it was given, true or not.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::engine::Engine;

/// The media type of an image's manifest as Docker writes it.
pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A server; it ends with the test's process.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    contents: Arc<Mutex<Contents>>,
}

/// Status line, more headers, and content, by path.
type Contents = BTreeMap<String, (String, String, Vec<u8>)>;

impl Server {
    /// Listens on 127.0.0.1 in the engine's network namespace; port 0 for any.
    pub fn start(engine: &Engine, port: u16) -> Self {
        let listener = engine.in_netns(|| TcpListener::bind(("127.0.0.1", port))).expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let contents = Arc::<Mutex<Contents>>::default();
        let served = Arc::clone(&contents);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || drop(serve(stream, &served)));
            }
        });
        Self { port, contents }
    }

    /// Serves content at a path; with headers `Name: value\r\n`.
    pub fn on(&self, path: &str, status: &str, headers: &str, content: &[u8]) {
        let answer = (status.to_owned(), headers.to_owned(), content.to_vec());
        self.contents.lock().expect("no panic here").insert(path.to_owned(), answer);
    }

    /// Serves the parts of an image of a registry.
    pub fn parts(&self, contents: impl IntoIterator<Item = (String, Vec<u8>)>) {
        for (path, content) in contents {
            self.on(&path, "200 OK", &format!("Content-Type: {MANIFEST}\r\n"), &content);
        }
    }
}

/// The digest of bytes, as `sha256sum` has it.
pub fn digest(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    child.stdin.take().expect("a piped input").write_all(bytes).expect("write to sha256sum");
    let said = child.wait_with_output().expect("sha256sum ends").stdout;
    format!("sha256:{}", String::from_utf8_lossy(&said).split(' ').next().unwrap_or_default())
}

fn serve(mut stream: TcpStream, contents: &Mutex<Contents>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // TLS may be tried first, and is no HTTP: its records begin with a byte that no method does.
    if !matches!(reader.fill_buf()?.first(), Some(b'G' | b'H')) {
        return Ok(());
    }
    loop {
        let mut head = Vec::new();
        while reader.read_until(b'\n', &mut head)? > 0 && !head.ends_with(b"\r\n\r\n") {}
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some(path) = head.split(' ').nth(1) else { return Ok(()) };
        let found = contents.lock().expect("no panic here").get(path).cloned();
        let missing = || ("404 Not Found".to_owned(), String::new(), Vec::new());
        let (status, headers, body) = found.unwrap_or_else(missing);
        write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
        if !head.starts_with("HEAD") {
            stream.write_all(&body)?;
        }
    }
}
