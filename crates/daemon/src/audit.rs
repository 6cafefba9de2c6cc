//! The audit log: one JSON line for each call that changes something, or tried to.
//!
//! A line says who (host, peer process), what (route, object) and with which outcome. What may be secret stays out by
//! construction: of a request only its route, its path's parameter and the few query parameters of [`SHOWN`] are read,
//! never a header or a body.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use droste_api::ApiVersion;
use droste_api::query::Query;
use droste_api::routes::{Effect, Route};
use droste_engine::Host;
use droste_model::time::Timestamp;
use serde::Serialize;

use crate::error::Failure;
use crate::http::{Reply, ReplyBody, Socket};

/// Query parameters that name or qualify what is acted on, and can't be secret.
const SHOWN: [&str; 11] =
    ["name", "fromImage", "repo", "tag", "container", "path", "signal", "t", "force", "v", "platform"];

/// The most bytes of one word of a client's in a line, so that the log grows with the calls and not with what they say.
const MOST_WORD: usize = 1024;

/// The log, on or off.
#[derive(Debug, Default)]
pub(crate) struct AuditLog {
    on: AtomicBool,
    file: Mutex<Option<File>>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    socket: Socket,
    known: Arc<OnceLock<PeerLine>>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: String,
    host: String,
    host_id: String,
    peer: PeerLine,
    method: &'static str,
    route: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    object: String,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    query: serde_json::Map<String, serde_json::Value>,
    api_version: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The id or name of what was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A call whose line is still to be written. Dropped without an outcome, the call was cut off, and the line says so.
#[derive(Clone, Debug)]
pub(crate) struct Pending(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    log: Arc<AuditLog>,
    line: Mutex<Option<Line>>,
}

impl Peer {
    /// Who has just connected.
    pub(crate) fn new(socket: Socket, log: &AuditLog) -> Self {
        let peer = Self { socket, known: Arc::default() };
        if log.is_on() {
            // Now, because the process may be gone by the time of its call.
            peer.line();
        }
        peer
    }

    fn line(&self) -> &PeerLine {
        self.known.get_or_init(|| match &self.socket {
            Socket::Unix(stream) => stream.peer_cred().map(|peer| process(&peer)).unwrap_or_default(),
            Socket::Tcp(stream) => {
                PeerLine { address: stream.peer_addr().ok().map(|address| address.to_string()), ..PeerLine::default() }
            }
        })
    }
}

/// As the kernel says it, in the daemon's own namespaces.
fn process(peer: &tokio::net::unix::UCred) -> PeerLine {
    // A process of no number here is outside the daemon's PID namespace.
    let pid = peer.pid().filter(|pid| *pid > 0);
    let executable = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    // Text in any case: a host chooses its files' names, and none may keep a line from being written.
    let executable = executable.map(|path| cut(&path.to_string_lossy()));
    PeerLine { pid, uid: Some(peer.uid()), executable, address: None }
}

impl AuditLog {
    /// Writes to the end of this file from now on, or nowhere. An error leaves everything as it was.
    pub(crate) fn open(&self, path: Option<&Path>) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let open = |path| File::options().create(true).append(true).mode(0o600).open(path);
        let file = path.map(open).transpose()?;
        self.on.store(file.is_some(), Ordering::Relaxed);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Takes note of a call, if it changes something and the log is on.
    pub(crate) fn begin(
        self: &Arc<Self>,
        peer: &Peer,
        host: &Host,
        route: &'static Route,
        call: (ApiVersion, &str, &Query),
    ) -> Option<Pending> {
        if route.effect != Effect::Changes || !self.is_on() {
            return None;
        }
        let (version, object, query) = call;
        let (path, id) = host.address();
        let line = Line {
            time: Timestamp::now().to_string(),
            host: path,
            host_id: id,
            peer: peer.line().clone(),
            method: route.method.as_str(),
            route: route.pattern,
            object: cut(object),
            query: shown(query),
            api_version: version.to_string(),
            outcome: "cut off",
            status: None,
            made: None,
            error: None,
        };
        Some(Pending(Arc::new(Waiting { log: Arc::clone(self), line: Mutex::new(Some(line)) })))
    }

    fn write(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        // One write for one line: with O_APPEND, lines never mix.
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && let Err(error) = file.write_all(&text)
        {
            tracing::error!(%error, "a line of the audit log was lost");
        }
    }
}

impl Pending {
    /// The call has its answer.
    pub(crate) fn end(self, outcome: &Result<Reply, Failure>) {
        self.0.finish(|line| match outcome {
            Ok(reply) => {
                line.outcome = "done";
                line.status = Some(reply.status().as_u16());
                line.made = Some(reply).filter(|reply| reply.status() == hyper::StatusCode::CREATED).and_then(made);
            }
            Err(failure) => {
                line.outcome = if failure.status.is_server_error() { "failed" } else { "refused" };
                line.status = Some(failure.status.as_u16());
                line.error = Some(cut(&told(failure)));
            }
        });
    }

    /// The call has taken its connection over, with this head.
    pub(crate) fn taken_over(&self, head: &[u8]) {
        self.0.finish(|line| {
            line.outcome = "done";
            line.status = std::str::from_utf8(head).ok().and_then(|head| head.split(' ').nth(1)?.parse().ok());
        });
    }
}

impl Waiting {
    fn finish(&self, complete: impl FnOnce(&mut Line)) {
        if let Some(mut line) = self.line.lock().unwrap_or_else(PoisonError::into_inner).take() {
            complete(&mut line);
            self.log.write(&line);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.finish(|_| {});
    }
}

/// The beginning of a word, with a sign that there was more.
fn cut(word: &str) -> String {
    match word.char_indices().find(|(at, letter)| at + letter.len_utf8() > MOST_WORD) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

fn shown(query: &Query) -> serde_json::Map<String, serde_json::Value> {
    let given = SHOWN.into_iter().map(|key| (key, query.get(key)));
    given.filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), cut(value).into())).collect()
}

/// The id or name in the answer to a creation.
fn made(reply: &Reply) -> Option<String> {
    let ReplyBody::Whole(bytes) = reply.body() else { return None };
    let answer: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let named = answer.get("Id").or_else(|| answer.get("Name"))?;
    named.as_str().map(str::to_owned)
}

/// The error's text. That of a wrong request quotes what the client wrote, so it ends before the quotation.
fn told(failure: &Failure) -> String {
    match failure.status {
        hyper::StatusCode::BAD_REQUEST => {
            let end = failure.message.find([':', '"', '\'', '=']).unwrap_or(failure.message.len());
            failure.message[..end].trim_end().to_owned()
        }
        _ => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn a_wrong_requests_words_stay_out() {
        let text = |status, message: &str| told(&Failure::new(status, message));
        assert_eq!(
            text(StatusCode::BAD_REQUEST, "invalid environment variable: =secret"),
            "invalid environment variable"
        );
        assert_eq!(text(StatusCode::BAD_REQUEST, "limit \"secret\" is unknown"), "limit");
        assert_eq!(text(StatusCode::NOT_FOUND, "No such container: web"), "No such container: web");
    }

    #[test]
    fn only_harmless_parameters_are_shown() {
        let query = Query::parse("name=web&buildargs=secret&fromSrc=http://me:secret@h/&force=1&tag=");
        let shown = serde_json::Value::Object(shown(&query));
        assert_eq!(shown, serde_json::json!({"name": "web", "force": "1"}));
    }

    #[test]
    fn words_are_cut() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(9999)), format!("{}…", "ä".repeat(MOST_WORD / 2)));
    }

    #[test]
    fn what_cannot_be_opened_leaves_the_log_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::default();
        assert!(!log.is_on());
        log.open(Some(&folder.path().join("log"))).unwrap();
        assert!(log.open(Some(&folder.path().join("not/there"))).is_err());
        assert!(log.is_on());
        log.open(None).unwrap();
        assert!(!log.is_on());
    }
}
