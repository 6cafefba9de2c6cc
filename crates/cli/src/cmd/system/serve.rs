//! `serve`: hands the daemon that this client reaches on to whoever connects, byte by byte. In a container that holds
//! a grant, that is its own host: what the classic service container with a daemon in it is elsewhere.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::ServerConfig;
use serde_json::Value;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::Request;
use crate::net::endpoint::Endpoint;
use crate::net::listen::{Incoming, Listener, Place};
use crate::net::tls::{TlsFiles, server};
use crate::relay;
use crate::session::Signals;

pub(super) const FLAGS: &str = "
    H host list Where to listen: tcp://ADDRESS:PORT or unix://PATH (tcp://0.0.0.0:2375 if none is given, port 2376 with TLS)
    - insecure-tcp bool Hand on even a whole machine without TLS
    - tls bool Use TLS; implied by --tlsverify
    - tlscacert string Let in only clients whose certificate this CA has signed (with --tlsverify)
    - tlscert string TLS certificate to present
    - tlskey string Key of that certificate
    - tlsverify bool Use TLS and verify the clients";

/// How many connections are carried at a time; more wait in the backlog, as at the daemon's own sockets.
const MOST: usize = 1024;
/// How long to wait for a place, or after an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(app: &App, flags: &Parsed) -> Result<u8> {
    app.leave_daemon_alone();
    app.refuse_at()?;
    let endpoint = app.endpoint()?;
    drop(endpoint.connect()?);
    let signals = Signals::of(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    let listeners = open(flags)?;
    if listeners.iter().any(Listener::is_unprotected) && !flags.on("insecure-tcp") && is_machine(app)? {
        return Err(CliError::new(format!(
            "refusing to hand the whole machine of {} on without TLS: whoever reaches the port is root there. \
             Use --tlsverify with certificates, a loopback address, or --insecure-tcp if the network is trusted",
            endpoint.url
        )));
    }
    for listener in &listeners {
        eprintln!("droste: serving {} at {}; whoever reaches it acts on this host", endpoint.url, listener.url());
    }
    accept_all(&listeners, &endpoint, &signals)?;
    Ok(0)
}

fn open(flags: &Parsed) -> Result<Vec<Listener>> {
    let tls = tls(flags)?;
    let port = if tls.is_some() { 2376 } else { 2375 };
    let default = ["tcp://".to_owned()];
    let given = if flags.given("host") { flags.all("host") } else { &default };
    let places: Vec<Place> = given.iter().map(|text| Place::parse(text, port)).collect::<Result<_>>()?;
    let opened: Vec<Vec<Listener>> = places.iter().map(|p| Listener::open(p, tls.as_ref())).collect::<Result<_>>()?;
    Ok(opened.into_iter().flatten().collect())
}

fn tls(flags: &Parsed) -> Result<Option<Arc<ServerConfig>>> {
    let file = |name: &str| flags.get(name).map(PathBuf::from);
    let files = TlsFiles { ca: file("tlscacert"), cert: file("tlscert"), key: file("tlskey"), skip_verify: false };
    let verify = flags.on("tlsverify");
    if !verify && !flags.on("tls") {
        return match files.ca.or(files.cert).or(files.key) {
            Some(path) => Err(CliError::new(format!("{} is for TLS: add --tls or --tlsverify", path.display()))),
            None => Ok(None),
        };
    }
    let config = server(&files, verify).map_err(|e| CliError::new(e.to_string()))?;
    Ok(Some(Arc::new(config)))
}

/// Whether the socket that is handed on acts on a whole machine instead of a container that is a host.
fn is_machine(app: &App) -> Result<bool> {
    match app.client()?.call::<Value>(Request::new("GET", "/droste/tree").unversioned()) {
        Ok(root) => Ok(root["Id"].as_str().unwrap_or_default().is_empty()),
        // Another engine's, or one that does not say.
        Err(CliError::Api { .. }) => Ok(true),
        Err(other) => Err(other),
    }
}

/// Takes clients in until a signal says that it is enough.
fn accept_all(listeners: &[Listener], endpoint: &Endpoint, signals: &Signals) -> Result<()> {
    let carried = Arc::new(AtomicUsize::new(0));
    while signals.next().is_none() {
        let full = carried.load(Ordering::Relaxed) >= MOST;
        wait(if full { &[] } else { listeners }, signals, full.then_some(PAUSE))?;
        for listener in listeners.iter().filter(|_| !full) {
            match listener.accept() {
                Ok(Some(incoming)) => carry(incoming, endpoint.clone(), Counted::new(&carried)),
                Ok(None) => {}
                Err(error) => {
                    eprintln!("droste: a connection to {} could not be accepted: {error}", listener.url());
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
    Ok(())
}

fn wait(listeners: &[Listener], signals: &Signals, most: Option<Duration>) -> Result<()> {
    let listening = listeners.iter().map(Listener::as_fd);
    let waited = listening.chain([signals.as_fd()]).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let most = most.and_then(|most| most.try_into().ok());
    match poll(&mut waited.collect::<Vec<_>>(), most.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(CliError::io("waiting for connections", error.into())),
    }
}

/// Carries one connection on a thread of its own.
fn carry(incoming: Incoming, endpoint: Endpoint, counted: Counted) {
    let work = move || {
        let _counted = counted;
        let joined = incoming.stream().and_then(|client| relay::join(client, endpoint.try_connect()?));
        if let Err(error) = joined {
            eprintln!("droste: a connection ended: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("connection".to_owned()).spawn(work) {
        eprintln!("droste: a connection could not be carried: {error}");
    }
}

/// A connection that is carried, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(carried: &Arc<AtomicUsize>) -> Self {
        carried.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(carried))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
