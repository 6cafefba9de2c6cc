//! Listening as a client: the sockets that `serve` opens, plain or with TLS, and the streams that come in there.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_keepalive;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::stream::Stream;
use crate::error::{CliError, Result};

/// How long a client may be silent during its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Place {
    /// Reads `tcp://ADDRESS:PORT` or `unix://PATH`; the port of a `tcp://` without one is `port`.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self> {
        let bad = |why: &str| CliError::new(format!("cannot listen at {text:?}: {why}"));
        match text.split_once("://") {
            Some(("unix", "")) => Err(bad("name the socket's path: unix:///run/NAME.sock")),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", rest)) => tcp(rest, port).ok_or_else(|| bad("the port is no number from 0 to 65535")),
            _ => Err(bad("expected tcp://ADDRESS:PORT or unix://PATH")),
        }
    }
}

fn tcp(rest: &str, port: u16) -> Option<Place> {
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (rest, port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Some(Place::Tcp { host: host.to_owned(), port })
}

/// An open listening socket, which never waits by itself.
pub(crate) enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, Option<Arc<ServerConfig>>),
}

impl Listener {
    /// Opens every socket of a place: a name can have several addresses.
    pub(crate) fn open(place: &Place, tls: Option<&Arc<ServerConfig>>) -> Result<Vec<Self>> {
        match place {
            Place::Unix(path) => {
                let listener = unix(path).map_err(|e| cannot_listen(&path.display(), e))?;
                Ok(vec![Self::Unix(listener, path.clone())])
            }
            Place::Tcp { host, port } => {
                let failed = |e| cannot_listen(&format_args!("{host}:{port}"), e);
                let addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs().map_err(failed)?.collect();
                let open = |address| {
                    let listener = TcpListener::bind(address)?;
                    listener.set_nonblocking(true)?;
                    Ok(Self::Tcp(listener, tls.cloned()))
                };
                addresses.into_iter().map(open).collect::<io::Result<_>>().map_err(failed)
            }
        }
    }

    /// Whether others than this machine's own processes, or anybody without a certificate, may come in.
    pub(crate) fn is_unprotected(&self) -> bool {
        match self {
            Self::Unix(..) => false,
            Self::Tcp(listener, tls) => {
                let loopback = listener.local_addr().is_ok_and(|address| is_loopback(address.ip()));
                tls.is_none() && !loopback
            }
        }
    }

    /// Where it listens, as a client names it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Unix(_, path) => format!("unix://{}", path.display()),
            Self::Tcp(listener, _) => match listener.local_addr() {
                Ok(address) => format!("tcp://{address}"),
                Err(_) => "tcp://".to_owned(),
            },
        }
    }

    /// Takes in the next connection; `None` if there is none.
    pub(crate) fn accept(&self) -> io::Result<Option<Incoming>> {
        let accepted = match self {
            Self::Unix(listener, _) => listener.accept().map(|(stream, _)| Incoming::Unix(stream)),
            Self::Tcp(listener, tls) => listener.accept().map(|(stream, _)| Incoming::Tcp(stream, tls.clone())),
        };
        match accepted {
            Ok(incoming) => Ok(Some(incoming)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The client left before it was let in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Somebody who has connected and not been listened to yet.
pub(crate) enum Incoming {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Arc<ServerConfig>>),
}

impl Incoming {
    /// The stream, after TLS's handshake if there is one.
    pub(crate) fn stream(self) -> io::Result<Stream> {
        match self {
            Self::Unix(stream) => Ok(Stream::Unix(stream)),
            Self::Tcp(stream, tls) => {
                stream.set_nodelay(true)?;
                set_socket_keepalive(&stream, true)?;
                match tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some(config) => handshake(stream, config),
                }
            }
        }
    }
}

fn handshake(mut socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(HANDSHAKE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    socket.set_read_timeout(None)?;
    Ok(Stream::Served(Box::new(StreamOwned::new(connection, socket))))
}

/// A socket that somebody left behind is replaced; one that answers is not.
fn unix(path: &PathBuf) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_abandoned(path: &PathBuf) -> bool {
    UnixStream::connect(path)
        .is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::CONNREFUSED.raw_os_error()))
        && std::fs::symlink_metadata(path)
            .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
}

fn cannot_listen(place: &dyn std::fmt::Display, error: io::Error) -> CliError {
    CliError::io(format!("cannot listen at {place}"), error)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;
    use crate::net::tls::{self, TlsFiles};
    use crate::relay;

    #[test]
    fn places() {
        let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
        assert_eq!(Place::parse("tcp://", 2375).unwrap(), tcp("0.0.0.0", 2375));
        assert_eq!(Place::parse("tcp://:7", 2375).unwrap(), tcp("0.0.0.0", 7));
        assert_eq!(Place::parse("tcp://[::1]", 2376).unwrap(), tcp("::1", 2376));
        assert_eq!(Place::parse("tcp://[::]:1", 2376).unwrap(), tcp("::", 1));
        assert_eq!(Place::parse("unix:///a", 2375).unwrap(), Place::Unix("/a".into()));
        for wrong in ["unix://", "tcp://a:b", "tcp://a:70000", "fd://", "2375", ""] {
            assert!(Place::parse(wrong, 2375).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        let place = Place::Unix(path.clone());
        let first = Listener::open(&place, None).unwrap();
        assert!(Listener::open(&place, None).is_err());
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(Listener::open(&place, None).is_err());
    }

    /// A certificate for localhost that the authority signed, and its key, as files of `dir`.
    fn issued(dir: &Path, name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let (cert, pem) = (dir.join(format!("{name}.cert")), dir.join(format!("{name}.key")));
        std::fs::write(&cert, params.signed_by(&key, authority).unwrap().pem()).unwrap();
        std::fs::write(&pem, key.serialize_pem()).unwrap();
        (cert, pem)
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// What a client that shows a certificate of `shown` hears of an engine that echoes, after its own half-close.
    fn echoed(shown: &CertifiedIssuer<'_, KeyPair>, verifying: &CertifiedIssuer<'_, KeyPair>) -> io::Result<String> {
        let dir = tempfile::tempdir()?;
        let ca = dir.path().join("ca");
        std::fs::write(&ca, verifying.pem())?;
        let of = |(cert, key)| TlsFiles { ca: Some(ca.clone()), cert: Some(cert), key: Some(key), skip_verify: false };
        let ours = of(issued(dir.path(), "server", verifying));
        let config = Arc::new(tls::server(&ours, true)?);
        let place = Place::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let listener = Listener::open(&place, Some(&config)).unwrap().remove(0);
        let Listener::Tcp(socket, _) = &listener else { panic!("tcp:// is no Unix socket") };
        let address = socket.local_addr()?;
        let theirs = of(issued(dir.path(), "client", shown));
        let client = std::thread::spawn(move || {
            let mut stream = tls::wrap(TcpStream::connect(address)?, "localhost", &theirs)?;
            stream.write_all(b"over TLS")?;
            stream.close_write()?;
            io::read_to_string(&mut stream)
        });
        rustix::event::poll(&mut [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)], None)?;
        let (right, mut engine) = UnixStream::pair()?;
        let echo = std::thread::spawn(move || {
            let asked = io::read_to_string(&mut engine)?;
            engine.write_all(asked.as_bytes())
        });
        let carried = listener.accept()?.unwrap().stream().and_then(|left| relay::join(left, Stream::Unix(right)));
        let heard = client.join().unwrap();
        carried?;
        echo.join().unwrap()?;
        heard
    }

    #[test]
    fn tls_lets_in_who_shows_a_certificate_of_the_authority() {
        let (one, other) = (authority(), authority());
        assert_eq!(echoed(&one, &one).unwrap(), "over TLS");
        assert!(echoed(&other, &one).is_err());
    }
}
