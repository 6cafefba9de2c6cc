//! Accepting connections: the daemon's own sockets, and those of containers as the engine opens and closes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use droste_engine::{Engine, ListenerChange};
use droste_model::id::ContainerId;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::audit::{AuditLog, Peer};
use crate::http::{Socket, serve};
use crate::listen::Listening;
use crate::router::{Entry, answer};

/// How many connections one listener has at a time; more wait in its backlog. So no host can use up the daemon, and no
/// number of hosts below one: these have places together.
const MOST_CONNECTIONS: usize = 1024;
/// How long to wait after an accept that failed, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many requests are being answered.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

/// Requests that are being answered now.
pub(crate) fn active() -> usize {
    ACTIVE.load(Ordering::Relaxed)
}

struct Counted;

impl Counted {
    fn new() -> Self {
        ACTIVE.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
        crate::quiet::ended();
    }
}

/// Something that accepts connections.
enum Acceptor {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

impl Acceptor {
    async fn accept(&self) -> std::io::Result<Socket> {
        match self {
            Acceptor::Unix(listener) => listener.accept().await.map(|(stream, _)| stream.into()),
            Acceptor::Tcp(listener) | Acceptor::Tls(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
        }
    }

    fn tls(&self) -> Option<TlsAcceptor> {
        match self {
            Acceptor::Tls(_, tls) => Some(tls.clone()),
            Acceptor::Unix(_) | Acceptor::Tcp(_) => None,
        }
    }
}

/// Closes a listener and all of its connections when dropped.
pub(crate) struct Door(#[allow(dead_code, reason = "its drop is what counts")] watch::Sender<()>);

/// Serves one of the daemon's own sockets.
pub(crate) fn open_door(listening: Listening, tls: Option<&TlsAcceptor>, entry: Entry) -> std::io::Result<Door> {
    let acceptor = match (listening, tls) {
        (Listening::Unix(listener), _) => {
            listener.set_nonblocking(true)?;
            Acceptor::Unix(UnixListener::from_std(listener)?)
        }
        (Listening::Tcp(listener), tls) => {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            match tls {
                Some(tls) => Acceptor::Tls(listener, tls.clone()),
                None => Acceptor::Tcp(listener),
            }
        }
    };
    let (door, closed) = watch::channel(());
    tokio::spawn(accept_all(acceptor, entry, closed));
    Ok(Door(door))
}

async fn accept_all(acceptor: Acceptor, entry: Entry, mut closed: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let for_connections = closed.clone();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match acceptor.accept().await {
                Ok(socket) => {
                    let Some(held) = entry.host.take_connection().await else { return };
                    let connection = connection(socket, acceptor.tls(), entry.clone());
                    let mut closed = for_connections.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            _ = closed.changed() => {}
                        }
                        drop((place, held));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = closed.changed() => {}
    }
}

async fn connection(socket: Socket, tls: Option<TlsAcceptor>, entry: Entry) {
    let peer = Peer::new(socket.clone(), &entry.audit);
    let handler = Arc::new(move |exchange| {
        let (entry, peer, counted) = (entry.clone(), peer.clone(), Counted::new());
        async move {
            let _counted = counted;
            answer(entry, peer, exchange).await
        }
    });
    let Some(tls) = tls else { return serve(socket.clone(), socket, handler).await };
    match tokio::time::timeout(HANDSHAKE, tls.accept(socket.clone())).await {
        Ok(Ok(stream)) => serve(stream, socket, handler).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Opens and closes containers' sockets as the engine says, until it is gone.
pub(crate) async fn follow(engine: Arc<Engine>, audit: Arc<AuditLog>) {
    let Some(mut changes) = engine.take_listeners() else { return };
    drop(engine);
    follow_changes(&mut changes, &audit).await;
}

async fn follow_changes(changes: &mut mpsc::UnboundedReceiver<ListenerChange>, audit: &Arc<AuditLog>) {
    let mut doors: HashMap<ContainerId, Door> = HashMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            ListenerChange::Open { id, listener, host } => {
                let entry = Entry { host, engine: None, audit: Arc::clone(audit) };
                match open_door(Listening::Unix(listener), None, entry) {
                    Ok(door) => drop(doors.insert(id, door)),
                    Err(error) => tracing::error!(container = %id, %error, "its socket is not served"),
                }
            }
            ListenerChange::Close(id) => drop(doors.remove(&id)),
        }
    }
}
