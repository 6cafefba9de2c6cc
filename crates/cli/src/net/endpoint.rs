//! Where the daemon is, and how to get a stream to it: `unix://`, `tcp://` with and without TLS, `ssh://`.
//! Which one to use is decided in `context`; this file only knows how to reach it.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::stream::Stream;
use super::tls::{self, TlsFiles};
use crate::error::{CliError, Result};

/// The socket on which a Droste listens unless told otherwise.
pub(crate) const DROSTE_SOCKET: &str = "/run/droste/droste.sock";
/// The socket that Docker's clients look for, and where a container that is a host finds its own.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// A place to connect to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// As the user wrote it; messages name it.
    pub(crate) url: String,
    kind: Kind,
    /// Nobody named a daemon, so starting one is allowed.
    pub(crate) implicit: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Unix(String),
    Tcp { host: String, port: u16, tls: Option<TlsFiles> },
    Ssh { target: String, port: Option<String>, path: String },
}

impl Endpoint {
    /// Reads a host as `--host` and `DOCKER_HOST` give it.
    pub(crate) fn parse(url: &str, tls: Option<TlsFiles>) -> Result<Self> {
        let kind = match url.split_once("://") {
            Some(("unix", path)) => Kind::Unix(if path.is_empty() { DOCKER_SOCKET } else { path }.to_owned()),
            Some(("tcp" | "http" | "https", rest)) => tcp(url, rest, tls)?,
            Some(("ssh", rest)) => ssh(rest),
            Some(("npipe", _)) => {
                return Err(CliError::new(format!(
                    "{url}: named pipes exist on Windows only; use unix://, tcp:// or ssh://"
                )));
            }
            Some(("fd", _)) => {
                return Err(CliError::new(format!(
                    "{url}: fd:// is for the daemon; a client needs unix://, tcp:// or ssh://"
                )));
            }
            Some((scheme, _)) => {
                return Err(CliError::new(format!("unable to parse docker host `{url}`: unknown scheme {scheme}")));
            }
            None => tcp(&format!("tcp://{url}"), url, tls)?,
        };
        let url = if url.contains("://") { url.to_owned() } else { format!("tcp://{url}") };
        Ok(Self { url, kind, implicit: false })
    }

    /// The daemon of a machine on which nobody named one.
    ///
    /// Droste's own socket comes first. Where it is not there and Docker's is, Docker's is used: inside a container
    /// that is a host, that is the socket Droste put there, and on a machine with another engine it is still an answer.
    pub(crate) fn default_local() -> Self {
        let exists = |path: &str| std::fs::symlink_metadata(path).is_ok();
        let docker = !exists(DROSTE_SOCKET) && exists(DOCKER_SOCKET);
        let path = if docker { DOCKER_SOCKET } else { DROSTE_SOCKET };
        Self { url: format!("unix://{path}"), kind: Kind::Unix(path.to_owned()), implicit: !docker }
    }

    /// The path of a Unix socket.
    pub(crate) fn socket_path(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// The `Host` header.
    pub(crate) fn http_host(&self) -> String {
        match &self.kind {
            Kind::Tcp { host, port, .. } => format!("{host}:{port}"),
            _ => "api.moby.localhost".to_owned(),
        }
    }

    /// Connects, starting the machine's own daemon if that is allowed and none listens.
    pub(crate) fn connect(&self) -> Result<Stream> {
        match self.try_connect() {
            Err(error) if self.implicit && is_absent(&error) => {
                super::autostart::start(self)?;
                self.try_connect().map_err(|e| self.unreachable(&e))
            }
            other => other.map_err(|e| self.unreachable(&e)),
        }
    }

    /// Connects without starting anything.
    pub(crate) fn try_connect(&self) -> io::Result<Stream> {
        match &self.kind {
            Kind::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Kind::Tcp { host, port, tls } => connect_tcp(host, *port, tls.as_ref()),
            Kind::Ssh { target, port, path } => connect_ssh(target, port.as_deref(), path),
        }
    }

    fn unreachable(&self, error: &io::Error) -> CliError {
        let url = &self.url;
        CliError::Connect(match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "permission denied while trying to connect to the docker API at {url}: \
                 become root, or a member of the group that owns the socket"
            ),
            _ if is_absent(error) && self.socket_path() == Some(DROSTE_SOCKET) => format!(
                "Cannot connect to the Docker daemon at {url}. Is the docker daemon running? \
                 Start one with `droste daemon`, or name another with --host or DOCKER_HOST."
            ),
            _ if is_absent(error) => {
                format!("Cannot connect to the Docker daemon at {url}. Is the docker daemon running?")
            }
            _ => format!("error during connect to {url}: {error}"),
        })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn tcp(url: &str, rest: &str, tls: Option<TlsFiles>) -> Result<Kind> {
    let authority = rest.split('/').next().unwrap_or(rest);
    let bad = || CliError::new(format!("unable to parse docker host `{url}`"));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| bad())?),
        _ => (authority, if tls.is_some() { 2376 } else { 2375 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    let tls = if url.starts_with("https") { tls.or_else(|| Some(TlsFiles::default())) } else { tls };
    Ok(Kind::Tcp { host: host.to_owned(), port, tls })
}

fn ssh(rest: &str) -> Kind {
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (target, port) = match authority.rsplit_once(':') {
        Some((target, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (target, Some(port.to_owned())),
        _ => (authority, None),
    };
    Kind::Ssh { target: target.to_owned(), port, path: path.trim_end_matches('/').to_owned() }
}

fn connect_tcp(host: &str, port: u16, files: Option<&TlsFiles>) -> io::Result<Stream> {
    let socket = TcpStream::connect((host, port))?;
    socket.set_nodelay(true)?;
    match files {
        Some(files) => tls::wrap(socket, host, files),
        None => Ok(Stream::Tcp(socket)),
    }
}

/// Runs `ssh` with one end of a socket pair as its standard input and output. The far side is asked for Droste's
/// client and for Docker's where that is not installed.
fn connect_ssh(target: &str, port: Option<&str>, path: &str) -> io::Result<Stream> {
    let (ours, theirs) = UnixStream::pair()?;
    let host = if path.is_empty() { String::new() } else { format!(" --host unix://{path}") };
    let remote = format!(
        "if command -v droste >/dev/null 2>&1; then exec droste{host} system dial-stdio; \
         else exec docker{host} system dial-stdio; fi"
    );
    let mut command = Command::new("ssh");
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(port) = port {
        command.args(["-p", port]);
    }
    command.args(["--", target, &remote]);
    command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)));
    command.stdout(Stdio::from(OwnedFd::from(theirs)));
    command.spawn().map_err(|e| io::Error::new(e.kind(), format!("running ssh: {e}")))?;
    Ok(Stream::Unix(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let kind = |url: &str| format!("{:?}", Endpoint::parse(url, None).unwrap().kind);
        assert_eq!(kind("unix:///a/b"), "Unix(\"/a/b\")");
        assert_eq!(kind("tcp://h:1"), "Tcp { host: \"h\", port: 1, tls: None }");
        assert_eq!(kind("tcp://[::1]:7"), "Tcp { host: \"::1\", port: 7, tls: None }");
        assert_eq!(kind("foo"), "Tcp { host: \"foo\", port: 2375, tls: None }");
        assert_eq!(kind("ssh://u@h:22"), "Ssh { target: \"u@h\", port: Some(\"22\"), path: \"\" }");
        assert!(Endpoint::parse("npipe:////./pipe/x", None).is_err());
        assert!(Endpoint::parse("bogus://x", None).is_err());
        assert!(Endpoint::parse("tcp://h:x", None).is_err());
    }
}
