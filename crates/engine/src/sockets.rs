//! Engine sockets: a socket is a capability. Which socket a request came through says which host it acts on.
//!
//! Each container that is granted one gets a socket of its own, in a folder of its own. Its shim holds the listening
//! descriptor, so that a nested client waits in the backlog while the daemon is away, instead of failing.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use droste_model::event::{Event, EventType};
use droste_model::host::{Grant, HostId};
use droste_model::time::Timestamp;
use droste_runtime::plan::FdIndex;

use crate::container::Container;
use crate::engine::{Engine, ListenerChange};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::network::Network;
use crate::record::ContainerRecord;

/// Where among a plan's descriptors the listening socket is.
pub(crate) const LISTENER: FdIndex = FdIndex(0);

/// The socket's name in its folder.
const NAME: &str = "docker.sock";

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("socket").join(NAME)
}

/// Makes the socket that a container is granted. Everybody in the container may connect: the boundary is the grant.
pub(crate) fn open(state_dir: &Path, record: &ContainerRecord) -> Result<(Option<UnixListener>, Option<PathBuf>)> {
    if record.socket.is_none() {
        return Ok((None, None));
    }
    let path = path(state_dir);
    let made = (|| {
        let folder = path.parent().unwrap_or(state_dir);
        std::fs::create_dir_all(folder)?;
        // By way of the folder's descriptor, because a socket's address has at most 107 bytes.
        let folder = std::fs::File::open(folder)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })();
    let listener =
        made.map_err(|error: std::io::Error| Error::hidden("the container's engine socket could not be made", error))?;
    Ok((Some(listener), Some(path)))
}

/// Says on the container's host that it joined or left a network.
pub(crate) fn emit_network(container: &Container, network: &Network, action: &str) {
    let attributes = [
        ("container".to_owned(), container.id.to_string()),
        ("name".to_owned(), network.record.name.clone()),
        ("type".to_owned(), network.record.driver.name().to_owned()),
    ];
    container.host.events.emit(Event {
        kind: EventType::Network,
        action: action.to_owned(),
        actor: network.record.id.to_string(),
        attributes: attributes.into(),
        time: Timestamp::now(),
    });
}

/// Says the same of all networks that a container is on, as it starts or ends.
pub(crate) fn emit_networks(container: &Container, action: &str) {
    let memberships = container.record().networks.clone();
    for (key, membership) in &memberships {
        if let Ok(network) = container.host.networks.of_membership(key, membership) {
            emit_network(container, &network, action);
        }
    }
}

impl Engine {
    /// Lets the daemon serve a container's socket with the capability that it was granted.
    pub(crate) fn serve(self: &Arc<Self>, container: &Arc<Container>, listener: UnixListener) {
        let Some(grant) = container.record().socket.as_ref().map(|socket| socket.grant) else { return };
        let (state, read_only) = match grant {
            Grant::Own => (self.host(&HostId::Container(container.id.clone())), false),
            Grant::Parent => (Some(Arc::clone(&container.host)), false),
            Grant::ParentReadOnly => (Some(Arc::clone(&container.host)), true),
        };
        if let Some(state) = state {
            let host = Host::new(Arc::clone(self), state, read_only);
            self.change_listener(ListenerChange::Open { id: container.id.clone(), listener, host });
        }
    }

    /// Whether a file, by device and inode, is a socket of this engine: the daemon's own or one of a container's.
    pub(crate) fn is_engine_socket(&self, dev: u64, ino: u64) -> bool {
        let same = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.dev() == dev && found.ino() == ino);
        let settings = self.settings();
        if settings.engine_sockets.iter().any(|path| same(path)) {
            return true;
        }
        let folders = std::fs::read_dir(settings.exec_root.join("containers")).into_iter().flatten().flatten();
        folders.into_iter().any(|folder| same(&path(&folder.path())))
    }
}
