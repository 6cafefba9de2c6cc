//! What the store remembers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use droste_model::container::{Config, HostConfig};
use droste_model::host::{Grant, HostId, ImageView};
use droste_model::id::{ContainerId, EndpointId, NetworkId};
use droste_model::limit::Limits;
use droste_model::mount::Mount;
use droste_model::name::ContainerName;
use droste_model::network::EndpointRequest;
use droste_model::path::ContainerPath;
use droste_model::port::PublishedPort;
use droste_model::state::{Health, State};
use droste_model::time::Timestamp;
use droste_network::IpNet;
use serde::{Deserialize, Serialize};

/// How many bytes a record has as it is stored.
pub(crate) fn size(record: &impl Serialize) -> usize {
    serde_json::to_vec(record).map_or(0, |bytes| bytes.len())
}

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
    /// The networks that it is on or will be, by name.
    pub networks: BTreeMap<String, Membership>,
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
    /// Ports published while it runs, IPv4 first.
    pub ports: Vec<PublishedPort>,
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
    /// What sockets on that host grant if nobody says.
    #[serde(default)]
    pub children: Option<Grant>,
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
    /// The limits that were set for it.
    #[serde(default)]
    pub limits: Limits,
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

/// A network of a container: what it asks there, and its place while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// What was asked.
    pub request: EndpointRequest,
    /// The network, known since the container was there for the first time.
    pub network: Option<NetworkId>,
    /// Its names there are shown: since it was connected or started.
    pub named: bool,
    /// Its place while it runs.
    pub endpoint: Option<EndpointRecord>,
}

/// A running container's place on a network, remembered so that a new daemon finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    /// Its id.
    pub id: EndpointId,
    /// The interface in the container.
    pub ifname: String,
    /// The IPv4 address with the subnet's prefix length.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// The IPv6 address with the subnet's prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// The network's IPv4 gateway, whether or not the container's default route goes there.
    pub gateway4: Option<Ipv4Addr>,
    /// The network's IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// The hardware address; empty if it has none of its own.
    pub mac: String,
}

impl EndpointRecord {
    /// Its addresses, link-local ones last.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.map(|(ip, _)| IpAddr::V4(ip));
        v4.into_iter().chain(self.v6.map(|(ip, _)| IpAddr::V6(ip))).chain(self.link_local.iter().copied())
    }
}

/// A network that a client made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its name on its host.
    pub name: String,
    /// The host that it belongs to.
    pub host: HostId,
    /// When it was made.
    pub created: Timestamp,
    /// How containers hang on it.
    pub driver: Driver,
    /// `local`, or what the client said.
    pub scope: String,
    /// Without a way out.
    pub internal: bool,
    /// Shown, of no effect.
    pub attachable: bool,
    /// A set of options for others, no network.
    pub config_only: bool,
    /// The network whose options it has; empty for its own.
    pub config_from: String,
    /// It has IPv4.
    pub ipv4: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// Options of the address driver, shown.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Its subnets, in the order in which they are shown.
    pub subnets: Vec<SubnetRecord>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the host itself asks of it, if it has joined.
    pub myself: Option<EndpointRequest>,
}

impl NetworkRecord {
    /// The subnets of the families that it has.
    pub(crate) fn subnets_in_use(&self) -> impl Iterator<Item = &SubnetRecord> {
        self.subnets.iter().filter(|subnet| if subnet.subnet.addr().is_ipv4() { self.ipv4 } else { self.ipv6 })
    }
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubnetRecord {
    /// The subnet.
    pub subnet: IpNet,
    /// A client chose it, so that addresses in it may be asked for.
    pub chosen: bool,
    /// The part from which addresses are given; `None` for all of it.
    pub range: Option<IpNet>,
    /// The gateway as it is shown: not if the client chose the subnet and left the gateway out.
    pub shown_gateway: Option<IpAddr>,
    /// The gateway's address; `None` if there is none.
    pub address: Option<IpAddr>,
    /// Addresses that are never given, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// How containers hang on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Driver {
    /// By a bridge of the host.
    Bridge,
    /// In the host's namespace.
    Host,
    /// Not at all.
    Null,
    /// By interfaces of their own on one of the host's.
    Macvlan,
    /// By one of the host's interfaces, sharing its hardware address.
    Ipvlan,
}

impl Driver {
    /// Docker's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }
}
