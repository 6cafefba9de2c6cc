//! Opening the daemon's own listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use crate::options::{Address, Options};
use crate::tls::TlsError;

/// The sockets' group, if there is one of this name and no other was asked for.
const DEFAULT_GROUP: &str = "droste";

/// Why the daemon does not listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen at {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("cannot listen at {0}: another daemon answers there")]
    InUse(String),
    #[error("cannot listen at {0}: there is a file of another kind")]
    NotASocket(String),
    #[error("there is no group {0:?}; make it with 'groupadd {0}' or choose another with --group")]
    NoGroup(String),
    #[error(
        "refusing to listen at tcp://{0} without TLS: whoever reaches it is root on this machine. \
         Use --tlsverify with certificates, a loopback address, or --insecure-tcp if the network is trusted"
    )]
    InsecureTcp(SocketAddr),
    #[error("no sockets were given by the service manager (LISTEN_FDS)")]
    NoFds,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An open listening socket.
#[derive(Debug)]
pub(crate) enum Listening {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The sockets, and the paths of those that the daemon made and removes at its end.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) sockets: Vec<Listening>,
    pub(crate) paths: Vec<PathBuf>,
}

impl Opened {
    /// Where all Unix sockets are, the service manager's too: a bind of one of them is a bind of the engine's.
    pub(crate) fn served(&self) -> Vec<PathBuf> {
        let unix = self.sockets.iter().filter_map(|socket| match socket {
            Listening::Unix(listener) => listener.local_addr().ok(),
            Listening::Tcp(_) => None,
        });
        unix.filter_map(|address| address.as_pathname().map(Path::to_owned)).collect()
    }
}

/// Opens every socket that the options ask for.
pub(crate) fn open(options: &Options) -> Result<Opened, ListenError> {
    let mut opened = Opened::default();
    for address in &options.addresses {
        match address {
            Address::Unix(path) => {
                opened.sockets.push(Listening::Unix(unix(path, options.group.as_deref())?));
                opened.paths.push(path.clone());
            }
            Address::Tcp(host, port) => opened.sockets.extend(tcp(host, *port, options)?),
            Address::Fd(which) => opened.sockets.extend(inherited(which)?),
        }
    }
    Ok(opened)
}

fn unix(path: &Path, group: Option<&str>) -> Result<UnixListener, ListenError> {
    let address = format!("unix://{}", path.display());
    let failed = |source| ListenError::Bind { address: address.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(address)),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ListenError::InUse(address)),
        // Left behind by a daemon that is gone.
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let gid = match (group, group_id(group.unwrap_or(DEFAULT_GROUP))) {
        (Some(name), None) => return Err(ListenError::NoGroup(name.to_owned())),
        (_, gid) => gid.unwrap_or(0),
    };
    std::os::unix::fs::chown(path, None, Some(gid)).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// A group's number, by its name or number.
fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.or_else(|| name.parse().ok())
}

fn tcp(host: &str, port: u16, options: &Options) -> Result<Vec<Listening>, ListenError> {
    let failed = |source| ListenError::Bind { address: format!("tcp://{host}:{port}"), source };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    let mut open = Vec::new();
    for address in addresses {
        if options.tls.is_none() && !options.insecure_tcp && !address.ip().is_loopback() {
            return Err(ListenError::InsecureTcp(address));
        }
        open.push(Listening::Tcp(TcpListener::bind(address).map_err(failed)?));
    }
    Ok(open)
}

fn inherited(which: &str) -> Result<Vec<Listening>, ListenError> {
    let failed = |source| ListenError::Bind { address: format!("fd://{which}"), source };
    let mut given = ListenFd::from_env();
    let wanted = match which {
        "" | "*" => 0..given.len(),
        number => {
            let fd: usize = number.parse().map_err(|_| ListenError::NoFds)?;
            let index = fd.checked_sub(3).ok_or(ListenError::NoFds)?;
            index..index + 1
        }
    };
    let mut open = Vec::new();
    for index in wanted {
        // A descriptor is of one kind; asking for the other leaves it in place.
        match given.take_unix_listener(index) {
            Ok(Some(listener)) => open.push(Listening::Unix(listener)),
            Ok(None) => return Err(ListenError::NoFds),
            Err(_) => {
                let listener = given.take_tcp_listener(index).map_err(failed)?.ok_or(ListenError::NoFds)?;
                open.push(Listening::Tcp(listener));
            }
        }
    }
    if open.is_empty() { Err(ListenError::NoFds) } else { Ok(open) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::options::{Command, parse};

    fn options(args: &[&str]) -> Options {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        match parse(&args).unwrap() {
            Command::Serve(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_managers_socket_is_known_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("managers.sock");
        let sockets = vec![Listening::Unix(UnixListener::bind(&path).unwrap())];
        assert_eq!(Opened { sockets, paths: Vec::new() }.served(), [path]);
    }

    #[test]
    fn tcp_beyond_loopback_needs_tls_or_a_word() {
        let refused = open(&options(&["-H", "tcp://0.0.0.0:0"])).unwrap_err();
        assert!(matches!(refused, ListenError::InsecureTcp(_)), "{refused}");
        assert!(refused.to_string().contains("--insecure-tcp"));
        assert_eq!(open(&options(&["-H", "tcp://0.0.0.0:0", "--insecure-tcp"])).unwrap().sockets.len(), 1);
        assert_eq!(open(&options(&["-H", "tcp://127.0.0.1:0"])).unwrap().sockets.len(), 1);
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/s.sock");
        let address = format!("unix://{}", path.display());
        let asked = options(&["-H", &address, "--group", "0"]);
        let first = open(&asked).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(open(&asked), Err(ListenError::InUse(_))));
        drop(first);
        assert!(open(&asked).is_ok());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(open(&asked), Err(ListenError::NotASocket(_))));
        assert!(open(&options(&["-H", &address, "--group", "no-such-group"])).is_err());
    }
}
