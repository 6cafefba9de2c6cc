//! Where plugins are: sockets, and files that say an address.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::{PluginError, Result};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// The most bytes of a file that says an address.
const MOST_BYTES: u64 = 64 << 10;

/// `O_NONBLOCK` of open(2).
const NONBLOCK: i32 = 0o4000;

/// The folders in which plugins are looked up.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Sockets, `NAME.sock` or `NAME/NAME.sock`.
    pub sockets: PathBuf,
    /// Files, `NAME.spec` or `NAME.json`, or the same in a folder `NAME`.
    pub specs: Vec<PathBuf>,
}

impl Default for Folders {
    /// Docker's.
    fn default() -> Self {
        let specs = ["/etc/docker/plugins", "/usr/lib/docker/plugins"].map(PathBuf::from);
        Self { sockets: "/run/docker/plugins".into(), specs: specs.into() }
    }
}

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

/// A connection to a plugin.
pub trait Duplex: Read + Write + Send {
    /// Bounds each wait.
    ///
    /// # Errors
    /// When the socket is broken.
    fn bound(&self, wait: Duration) -> io::Result<()>;
}

impl Duplex for UnixStream {
    fn bound(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
}

impl Duplex for TcpStream {
    fn bound(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
}

/// A connected stream.
pub type Stream = Box<dyn Duplex>;

/// A JSON file of a plugin.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<serde_json::Value>,
}

/// A name that can be a file's: nothing leads out of the folders.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.bytes().all(plain) && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.len() < 100
}

impl Folders {
    /// Looks a plugin up: a socket first, then the files.
    ///
    /// # Errors
    /// [`PluginError::NotFound`], or a file that says no address.
    pub fn find(&self, name: &str) -> Result<Address> {
        if !is_name(name) {
            return Err(PluginError::NotFound(name.to_owned()));
        }
        let places = |folder: &Path, kind: &str| {
            let file = format!("{name}.{kind}");
            [folder.join(&file), folder.join(name).join(file)]
        };
        if let Some(socket) = places(&self.sockets, "sock").into_iter().find(|path| is_socket(path)) {
            return Ok(Address::Unix(socket));
        }
        let specs = self.specs.iter().flat_map(|folder| ["spec", "json"].map(|kind| places(folder, kind)));
        for path in specs.flatten() {
            if let Some(text) = read(&path) {
                let spec =
                    |reason| PluginError::Spec { name: name.to_owned(), file: path.display().to_string(), reason };
                return described(&path, &text).map_err(spec);
            }
        }
        Err(PluginError::NotFound(name.to_owned()))
    }

    /// The names of all plugins, of whatever kind.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = names_in(&self.sockets, &["sock"]);
        names.extend(self.specs.iter().flat_map(|folder| names_in(folder, &["spec", "json"])));
        names
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn read(path: &Path) -> Option<String> {
    // What is called like a file may be a pipe, for whose other end nobody waits.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let file = opened.ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn described(path: &Path, text: &str) -> Result<Address, String> {
    if path.extension().is_none_or(|kind| kind != "json") {
        return address(text.trim());
    }
    let described: Described = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match described.tls {
        None | Some(serde_json::Value::Null) => address(&described.addr),
        Some(_) => Err("TLSConfig is not supported: let the plugin listen on a unix:// address".to_owned()),
    }
}

fn address(text: &str) -> Result<Address, String> {
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        Some(("tcp" | "http", place)) => Ok(Address::Tcp(place.trim_end_matches('/').to_owned())),
        _ => Err(format!("{text:?} is neither unix:///PATH nor tcp://HOST:PORT")),
    }
}

fn names_in(folder: &Path, kinds: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let of_kind = |path: &Path| path.extension().is_some_and(|kind| kinds.iter().any(|known| kind == *known));
        let stem = if of_kind(&path) { path.file_stem() } else { path.file_name().filter(|_| path.is_dir()) };
        let Some(name) = stem.and_then(|stem| stem.to_str()).filter(|name| is_name(name)) else { continue };
        let inside = || kinds.iter().any(|kind| path.join(format!("{name}.{kind}")).exists());
        if of_kind(&path) || inside() {
            names.insert(name.to_owned());
        }
    }
    names
}

impl Address {
    /// Connects. What names mean, `look_up` says, which is given `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&self, look_up: impl FnOnce(&str) -> io::Result<Vec<SocketAddr>>) -> Result<Stream> {
        let (address, stream) = match self {
            Address::Unix(path) => {
                (format!("unix {}", path.display()), UnixStream::connect(path).map(|stream| Box::new(stream) as Stream))
            }
            Address::Tcp(place) => {
                let stream = look_up(place).and_then(|addresses| tcp(&addresses));
                (format!("tcp {place}"), stream.map(|stream| Box::new(stream) as Stream))
            }
        };
        stream.map_err(|source| PluginError::Connect { address, source })
    }
}

fn tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let address = addresses.first().ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(address, CONNECT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folders() -> (tempfile::TempDir, Folders) {
        let root = tempfile::tempdir().unwrap();
        for folder in ["run/deep", "etc/there", "lib"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let at = |name: &str| root.path().join(name);
        let folders = Folders { sockets: at("run"), specs: vec![at("etc"), at("lib")] };
        (root, folders)
    }

    #[test]
    fn plugins_are_sockets_and_files() {
        let (root, folders) = folders();
        let at = |name: &str| root.path().join(name);
        let _one = UnixListener::bind(at("run/one.sock")).unwrap();
        let _deep = UnixListener::bind(at("run/deep/deep.sock")).unwrap();
        fs::write(at("etc/two.spec"), "unix:///x/two.sock\n").unwrap();
        fs::write(at("etc/there/there.json"), r#"{"Name":"there","Addr":"tcp://127.0.0.1:1234/"}"#).unwrap();
        fs::write(at("lib/one.spec"), "tcp://wrong:1").unwrap();
        fs::write(at("lib/no.txt"), "").unwrap();
        assert_eq!(folders.names().into_iter().collect::<Vec<_>>(), ["deep", "one", "there", "two"]);
        assert_eq!(folders.find("one").unwrap(), Address::Unix(at("run/one.sock")), "a socket comes first");
        assert_eq!(folders.find("deep").unwrap(), Address::Unix(at("run/deep/deep.sock")));
        assert_eq!(folders.find("two").unwrap(), Address::Unix("/x/two.sock".into()));
        assert_eq!(folders.find("there").unwrap(), Address::Tcp("127.0.0.1:1234".to_owned()));
    }

    #[test]
    fn names_lead_nowhere_else() {
        let (root, folders) = folders();
        let _outside = UnixListener::bind(root.path().join("out.sock")).unwrap();
        for name in ["../out", "", ".", "..", "a/b", "run/../out", "-x", "x\0y", "absent"] {
            assert_eq!(folders.find(name).unwrap_err().to_string(), format!("plugin {name:?} not found"));
        }
    }

    #[test]
    fn addresses_are_checked() {
        let (root, folders) = folders();
        for (file, text, reason) in [
            ("a.spec", "/x.sock", "neither unix:///PATH nor tcp://HOST:PORT"),
            ("b.spec", "unix://relative", "neither unix:///PATH nor tcp://HOST:PORT"),
            ("c.json", "{", "EOF"),
            ("d.json", r#"{"Addr":"tcp://x:1","TLSConfig":{"CAFile":"/ca"}}"#, "TLSConfig is not supported"),
        ] {
            fs::write(root.path().join("etc").join(file), text).unwrap();
            let error = folders.find(&file[..1]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
