//! Network namespaces as values.
//!
//! A `Namespace` owns a descriptor of a network namespace and, once asked, one rtnetlink and one
//! nfnetlink socket in it: a socket stays where it was opened, so no call enters the namespace
//! again. Where a namespace must be entered, a scoped thread does it and exits.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::error::{NetworkError, Result};
use crate::link;
use crate::netlink::Socket;
use crate::nft;

const OWN: &str = "/proc/thread-self/ns/net";

/// What a container's namespace is made with: unprivileged processes may use any port, and send echo requests.
const CONTAINER_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    route: Mutex<Option<Socket>>,
    filter: Mutex<Option<Socket>>,
}

impl Namespace {
    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// A namespace by path, such as `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(failed("open it"))?;
        Ok(Self::from_fd(file.into()))
    }

    /// A namespace by a descriptor of it.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, route: Mutex::new(None), filter: Mutex::new(None) }
    }

    /// Makes a namespace for a container: `lo` is up, nothing else is there.
    pub fn create() -> Result<Self> {
        scoped(|| {
            #[expect(deprecated, reason = "unshare is unsafe for file tables only")]
            rustix::thread::unshare(UnshareFlags::NEWNET).map_err(|e| failed("make one")(e.into()))?;
            let namespace = Self::current()?;
            namespace.with_route(link::raise_loopback)?;
            CONTAINER_SYSCTLS.iter().try_for_each(|(key, value)| write_sysctl(key, value))?;
            Ok(namespace)
        })
    }

    /// Runs `work` on a thread that is in this namespace and exits afterwards.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        scoped(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Writes network settings (`net.…`, with dots or slashes) in this namespace.
    pub fn write_sysctls<K: AsRef<str> + Sync, V: AsRef<str> + Sync>(&self, settings: &[(K, V)]) -> Result<()> {
        self.run_in(|| settings.iter().try_for_each(|(k, v)| write_sysctl(k.as_ref(), v.as_ref())))?
    }

    /// Reads a network setting of this namespace.
    pub fn read_sysctl(&self, key: &str) -> Result<String> {
        let path = sysctl_path(key)?;
        let read = self.run_in(|| fs::read_to_string(&path))?;
        let text = read.map_err(|source| NetworkError::List { what: "sysctls", source })?;
        Ok(text.trim_end().to_owned())
    }

    /// Another descriptor of the same namespace.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(failed("duplicate its descriptor"))?;
        Ok(Self::from_fd(fd))
    }

    /// Device and inode: equal if and only if the namespaces are the same.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| failed("identify it")(e.into()))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Gives up the namespace's descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Uses the namespace's rtnetlink socket.
    pub(crate) fn with_route<T>(&self, work: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let mut slot = lock(&self.route);
        let open = || self.socket(Socket::route).map_err(opening("routes"));
        work(filled(&mut slot, open)?)
    }

    /// Uses the namespace's nfnetlink socket.
    pub(crate) fn with_filter<T>(&self, work: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let mut slot = lock(&self.filter);
        let open = || self.socket(nft::open).map_err(opening("nf_tables"));
        work(filled(&mut slot, open)?)
    }

    fn socket(&self, open: fn() -> io::Result<Socket>) -> io::Result<Socket> {
        self.within(open).map_err(io::Error::other)?
    }

    /// Runs `work` in this namespace; without a detour if the calling thread is here already.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let identify = failed("identify it");
        let own = rustix::fs::stat(OWN).map_err(|e| identify(e.into()))?;
        if (own.st_dev, own.st_ino) == self.identity()? {
            return Ok(work());
        }
        self.run_in(work)
    }

    fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| failed("enter it")(e.into()))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Locks; a panic elsewhere leaves nothing half-done behind these locks that the next call would not see.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a setting in the calling thread's network namespace.
pub(crate) fn write_sysctl(key: &str, value: &str) -> Result<()> {
    let path = sysctl_path(key)?;
    fs::write(&path, value).map_err(|source| NetworkError::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// The file of a setting. With dots as separators a slash stands for a dot inside a name, as in sysctl(8).
fn sysctl_path(key: &str) -> Result<String> {
    let first = key.find(['.', '/']);
    let path: String = match first.map(|at| key.as_bytes()[at]) {
        Some(b'.') => key.chars().map(swap_separators).collect(),
        _ => key.to_owned(),
    };
    let sound = path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    if !sound || !path.starts_with("net/") {
        return Err(NetworkError::SysctlName(key.to_owned()));
    }
    Ok(format!("/proc/sys/{path}"))
}

fn swap_separators(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn filled(slot: &mut Option<Socket>, open: impl FnOnce() -> Result<Socket>) -> Result<&mut Socket> {
    match slot {
        Some(socket) => Ok(socket),
        None => Ok(slot.insert(open()?)),
    }
}

fn scoped<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(failed("start a thread for it"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Namespace { operation, source }
}

fn opening(family: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Netlink { family, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_stay_below_net() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/forwarding").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.forwarding").unwrap(),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding"
        );
        for wrong in ["kernel.msgmax", "net", "net/../kernel/x", "", "/net/ipv4", "net.ipv4...x", "net//x"] {
            assert!(sysctl_path(wrong).is_err(), "{wrong}");
        }
    }
}
