//! Bridges, addresses, NAT and published ports in a given network namespace.
//!
//! Vocabulary: a *namespace* is a network namespace held by a descriptor; a *host* is a namespace that
//! has bridges; a *sandbox* is a container's namespace; an *endpoint* is a sandbox's interface on a
//! bridge; a *publication* leads a port of the host to a port of a container.
//!
//! All calls block and may come from any thread. The crate speaks netlink only and starts no program;
//! it keeps no records: what should be there is told to it, and it makes the namespace so.

mod attach;
mod beside;
mod bridge;
mod dns;
mod endpoint;
mod error;
mod files;
mod firewall;
mod flows;
mod forward;
mod host;
mod ipam;
mod link;
mod mac;
mod namespace;
mod netlink;
mod nft;
mod parent;
mod ports;
mod relay;
mod sockets;
mod survey;
mod watch;

pub use attach::set_default_routes;
pub use bridge::{Bridge, BridgeSubnet, GatewayMode, host_ifname};
pub use dns::{Addresses, DNS_ADDRESS, DnsServer, Names, Origin, Upstream, look_up};
pub use endpoint::{Attached, Endpoint, Gateway, InterfaceName, IpvlanFlag, IpvlanMode, MacvlanMode, Uplink};
pub use error::{NetworkError, Result};
pub use files::{DnsOptions, ExtraHost, InvalidExtraHost, ResolvConf, host_mode_hosts, hosts};
pub use firewall::Publication;
pub use host::{HostNetwork, Wanted};
pub use ipam::{AddressPools, Family, InvalidPool, Ipam, IpamError, Taken, overlap};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use link::{Link, LinkAddress, LinkStats, Route};
pub use mac::{InvalidMac, MacAddr};
pub use namespace::Namespace;
pub use parent::Parent;
pub use ports::{PortRequest, PortReservation, PortTarget};
pub use relay::Relay;
pub use sockets::{Held, Sockets};
pub use survey::{addresses, default_gateway, interface_stats, links, routes};
pub use watch::{forget_changes, watch_rules};
