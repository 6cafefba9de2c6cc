//! Docker's API from the client's side: versioned paths, the daemon's errors, JSON, and one kept connection.
//!
//! No ping is sent. The first request names our version; only a daemon that is too old for it costs one more
//! round trip. A request with a streamed body cannot be repeated, so that one asks first.

use std::cell::{Cell, RefCell};
use std::io::Read;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::http::{Body, Connection, Response};
use crate::error::{CliError, Result};

/// The API version that this client speaks.
pub(crate) const API_VERSION: &str = "1.51";

/// A daemon, as the commands see it.
pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    version: RefCell<String>,
    settled: Cell<bool>,
    headers: Vec<(String, String)>,
    idle: RefCell<Option<Connection>>,
}

/// A request on its way.
pub(crate) struct Request<'a> {
    method: &'a str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Body<'a>,
    versioned: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: &'a str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Body::Empty, versioned: true }
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Body::Json(body.to_string().into_bytes());
        self
    }

    pub(crate) fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// For paths outside Docker's API.
    pub(crate) fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, headers: Vec<(String, String)>) -> Self {
        let pinned = std::env::var("DOCKER_API_VERSION").ok().filter(|v| !v.is_empty());
        Self {
            endpoint,
            settled: Cell::new(pinned.is_some()),
            version: RefCell::new(pinned.map_or(API_VERSION.to_owned(), |v| v.trim_start_matches('v').to_owned())),
            headers,
            idle: RefCell::new(None),
        }
    }

    /// The version that requests name.
    pub(crate) fn version(&self) -> String {
        self.version.borrow().clone()
    }

    /// Sends a request and returns the answer if the daemon agreed to it.
    pub(crate) fn send(&self, mut request: Request<'_>) -> Result<Response> {
        let Some(again) = request.body.again() else {
            self.negotiate()?;
            return self.attempt(&mut request).and_then(accept);
        };
        let response = self.attempt(&mut request)?;
        if response.head.status != 400 || self.settled.get() {
            self.settled.set(true);
            return accept(response);
        }
        match accept(response) {
            Err(CliError::Api { message, .. }) if self.adopt_from(&message) => {
                request.body = again;
                self.attempt(&mut request).and_then(accept)
            }
            other => other,
        }
    }

    /// Sends a request and reads the JSON that comes back.
    pub(crate) fn call<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T> {
        let bytes = self.bytes(request)?;
        serde_json::from_slice(&bytes).map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))
    }

    /// Sends a request whose answer does not matter beyond its status.
    pub(crate) fn done(&self, request: Request<'_>) -> Result<u16> {
        let mut response = self.send(request)?;
        let status = response.head.status;
        response.body().map_err(|e| broken("reading the answer", e))?;
        self.keep(response);
        Ok(status)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn bytes(&self, request: Request<'_>) -> Result<Vec<u8>> {
        let mut response = self.send(request)?;
        let bytes = response.body().map_err(|e| broken("reading the answer", e))?;
        self.keep(response);
        Ok(bytes)
    }

    /// GET and JSON.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T> {
        self.call(Request::new("GET", path))
    }

    /// POST without a body.
    pub(crate) fn post(&self, path: impl Into<String>) -> Result<u16> {
        self.done(Request::new("POST", path))
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: impl Into<String>) -> Result<u16> {
        self.done(Request::new("DELETE", path))
    }

    /// Sends a request and leaves the answer to be read later, on a connection of its own:
    /// for requests whose answer takes as long as a container lives.
    pub(crate) fn begin(&self, request: Request<'_>) -> Result<Pending> {
        let mut connection = self.connect()?;
        let head = self.head(&request);
        connection.send(head, request.body).map_err(|e| broken("sending a request", e))?;
        Ok(Pending { connection })
    }

    /// Asks the daemon for its version unless an answer has settled it.
    pub(crate) fn negotiate(&self) -> Result<()> {
        if self.settled.replace(true) {
            return Ok(());
        }
        let response = self.attempt(&mut Request::new("HEAD", "/_ping").unversioned())?;
        if let Some(version) = response.head.header("api-version").map(str::to_owned) {
            self.adopt(&version);
        }
        self.keep(response);
        Ok(())
    }

    /// Returns a connection for the next request.
    pub(crate) fn keep(&self, response: Response) {
        if let Some(connection) = response.into_connection() {
            *self.idle.borrow_mut() = Some(connection);
        }
    }

    /// Connects for the next request while there is nothing else to do. A failure shows when that request is sent.
    pub(crate) fn prepare(&self) {
        if self.idle.borrow().is_none()
            && let Ok(stream) = self.endpoint.try_connect()
        {
            *self.idle.borrow_mut() = Some(Connection::new(stream));
        }
    }

    fn adopt(&self, version: &str) {
        if number(version) < number(&self.version()) {
            *self.version.borrow_mut() = version.to_owned();
        }
    }

    fn adopt_from(&self, message: &str) -> bool {
        self.settled.set(true);
        let Some(version) = message.split("Maximum supported API version is ").nth(1) else { return false };
        self.adopt(version.trim());
        true
    }

    fn attempt(&self, request: &mut Request<'_>) -> Result<Response> {
        let again = request.body.again();
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let head = self.head(request);
        let no_body = request.method == "HEAD";
        let kept = self.idle.borrow_mut().take();
        if let (Some(connection), Some(again)) = (kept, again) {
            if let Ok(response) = exchange(connection, head.clone(), body, no_body) {
                return Ok(response);
            }
            return exchange(self.connect()?, head, again, no_body).map_err(|e| broken(&self.place(request), e));
        }
        exchange(self.connect()?, head, body, no_body).map_err(|e| broken(&self.place(request), e))
    }

    fn place(&self, request: &Request<'_>) -> String {
        format!("{} {}{}", request.method, self.endpoint.url, request.path)
    }

    fn connect(&self) -> Result<Connection> {
        self.endpoint.connect().map(Connection::new)
    }

    fn head(&self, request: &Request<'_>) -> String {
        let prefix = if request.versioned { format!("/v{}", self.version.borrow()) } else { String::new() };
        let mut head = format!(
            "{} {prefix}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Docker-Client/28.5.2 (linux) droste/{}\r\n",
            request.method,
            request.path,
            self.endpoint.http_host(),
            env!("CARGO_PKG_VERSION"),
        );
        let own = request.headers.iter().map(|(name, value)| (*name, value));
        let said = |name: &str| request.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let common = self.headers.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, _)| !said(name));
        for (name, value) in common.chain(own) {
            head.push_str(&format!("{name}: {}\r\n", value.replace(['\r', '\n'], " ")));
        }
        head
    }
}

/// A request that has been sent and not been answered yet.
pub(crate) struct Pending {
    connection: Connection,
}

impl Pending {
    /// Waits for the head of the answer.
    pub(crate) fn head(self) -> Result<Response> {
        self.connection.receive(false).map_err(|e| broken("waiting for the answer", e)).and_then(accept)
    }
}

fn exchange(mut connection: Connection, head: String, body: Body<'_>, no_body: bool) -> std::io::Result<Response> {
    // A daemon that refuses early closes its end; its answer is worth more than our broken pipe.
    let sent = connection.send(head, body);
    match (connection.receive(no_body), sent) {
        (Ok(response), _) => Ok(response),
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
    }
}

fn accept(mut response: Response) -> Result<Response> {
    let status = response.head.status;
    if status < 400 {
        return Ok(response);
    }
    let mut bytes = Vec::new();
    let read = (&mut response).take(1 << 20).read_to_end(&mut bytes);
    read.map_err(|e| broken("reading the answer", e))?;
    Err(CliError::Api { status, message: error_message(&bytes, status) })
}

fn error_message(bytes: &[u8], status: u16) -> String {
    let text = String::from_utf8_lossy(bytes).trim().to_owned();
    let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
    match parsed.as_ref().and_then(|v| v.get("message")).and_then(Value::as_str) {
        Some(message) => message.trim_end().to_owned(),
        None if text.is_empty() => format!("request returned HTTP status {status} without a message"),
        None => text,
    }
}

/// What a request for all levels failed with: another engine has no such thing.
pub(crate) fn no_levels(error: CliError) -> CliError {
    match error {
        CliError::Api { status: 404, .. } => CliError::new("this daemon is no Droste: it has no hosts below it"),
        other => other,
    }
}

/// An error for a conversation that ended too early.
pub(crate) fn broken(operation: &str, source: std::io::Error) -> CliError {
    CliError::Transport { operation: operation.to_owned(), source }
}

fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

/// Escapes text for a path segment or a query value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Escapes an image's name for a path: slashes and colons stay.
pub(crate) fn escape_path(text: &str) -> String {
    escape(text).replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

/// A query string in the making.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(value));
        self
    }

    /// Adds a value that is not empty.
    pub(crate) fn some(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.add(name, value) }
    }

    /// Adds `name=1` if `on`.
    pub(crate) fn flag(self, name: &str, on: bool) -> Self {
        if on { self.add(name, "1") } else { self }
    }

    /// Adds `filters` from `name=value` words, as Docker's client encodes them.
    pub(crate) fn filters(self, words: &[String]) -> Self {
        if words.is_empty() {
            return self;
        }
        let mut map: std::collections::BTreeMap<String, std::collections::BTreeMap<String, bool>> = Default::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            map.entry(name.trim().to_lowercase()).or_default().insert(value.trim().to_owned(), true);
        }
        let json = serde_json::to_string(&map).unwrap_or_default();
        self.add("filters", &json)
    }

    /// The path with this query.
    pub(crate) fn on(self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}
