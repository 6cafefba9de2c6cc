//! What the store remembers.

use std::collections::BTreeMap;

use droste_model::container::{Config, HostConfig};
use droste_model::host::{Grant, HostId, ImageView};
use droste_model::id::{ContainerId, NetworkId};
use droste_model::mount::Mount;
use droste_model::name::ContainerName;
use droste_model::network::EndpointRequest;
use droste_model::path::ContainerPath;
use droste_model::state::{Health, State};
use droste_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name on its host.
    pub name: ContainerName,
    /// The host it runs on.
    pub host: HostId,
    /// When it was made.
    pub created: Timestamp,
    /// The image's id.
    pub image: String,
    /// The manifest that the image came from, if known.
    pub manifest: Option<String>,
    /// The request merged with the image's configuration.
    pub config: Config,
    /// As asked, with defaults completed.
    pub host_config: HostConfig,
    /// What it asks of networks.
    pub networks: BTreeMap<String, EndpointRequest>,
    /// Everything that is mounted: `-v`, `--mount`, `--tmpfs`, `--volumes-from`, the image's volumes.
    pub mounts: Vec<Mount>,
    /// Volumes made for it alone, which `rm -v` removes.
    pub anonymous_volumes: Vec<droste_model::name::VolumeName>,
    /// The ids of the images that it mounts.
    #[serde(default)]
    pub mounted_images: Vec<String>,
    /// Its engine socket, if it has one.
    pub socket: Option<Socket>,
    /// What it is doing.
    pub state: State,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// A client stopped it, so `unless-stopped` leaves it.
    pub stopped_by_hand: bool,
    /// When it ended the last time, kept while it runs again.
    pub last_finished: Option<Timestamp>,
    /// What its health checks say.
    pub health: Option<Health>,
    /// Its place on the default bridge while it runs.
    pub endpoint: Option<EndpointRecord>,
}

impl ContainerRecord {
    /// The program and its arguments.
    pub(crate) fn args(&self) -> Vec<String> {
        let entrypoint = self.config.entrypoint.iter().flatten();
        entrypoint.chain(self.config.cmd.iter().flatten()).cloned().collect()
    }

    /// Whether its socket makes it a host.
    pub(crate) fn is_host(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.grant == Grant::Own)
    }
}

/// An engine socket in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// What it acts on.
    pub grant: Grant,
    /// Where in the container it is.
    pub targets: Vec<ContainerPath>,
    /// How the container, as a host, sees images.
    pub images: ImageView,
}

/// A host's own identity: what must stay the same over restarts of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// The id that `docker info` shows.
    pub engine_id: String,
    /// When the host first became one.
    pub created: Timestamp,
    /// The ids of its networks `bridge`, `host` and `none`.
    pub networks: [NetworkId; 3],
}

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TagRecord {
    /// It names an image.
    Image {
        /// The image's id.
        id: String,
        /// When it was set.
        at: Timestamp,
    },
    /// The parent's tag of this name is hidden on this host.
    Hidden,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    /// Its name on its host.
    pub name: droste_model::name::VolumeName,
    /// Who keeps its files: `local`, or a plugin's name.
    pub driver: String,
    /// The driver's options as given.
    pub options: Option<BTreeMap<String, String>>,
    /// Its labels as given.
    pub labels: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created: Timestamp,
}

/// A running container's place on its host's default bridge, remembered so that a new daemon finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    /// Its id.
    pub id: droste_model::id::EndpointId,
    /// The address with the subnet's prefix length.
    pub address: (std::net::Ipv4Addr, u8),
    /// The bridge's address.
    pub gateway: std::net::Ipv4Addr,
    /// The hardware address.
    pub mac: String,
    /// Published ports, IPv4 first.
    pub ports: Vec<droste_model::port::PublishedPort>,
}
