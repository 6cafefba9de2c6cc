//! What an endpoint is: a sandbox's interface and how it hangs on its host.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::bridge::check_ifname;
use crate::error::Result;
use crate::ipam::Family;
use crate::mac::MacAddr;

/// An interface that a sandbox is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it hangs on.
    pub uplink: Uplink,
    /// What it is called in the sandbox.
    pub name: InterfaceName,
    /// Its addresses, each with its subnet's prefix length. Without one of IPv6 the interface has none at all.
    pub addresses: Vec<IpNet>,
    /// Its hardware address; none for one that the kernel makes up.
    pub mac: Option<MacAddr>,
    /// The sandbox's default routes, as far as they leave by this interface: at most one of each family.
    pub gateways: Vec<Gateway>,
    /// The longest packet; 0 for what the uplink has.
    pub mtu: u32,
    /// Settings of the interface, `net.ipv4.conf.IFNAME.log_martians`: IFNAME stands for its name.
    pub sysctls: Vec<(String, String)>,
}

/// What an endpoint hangs on, in the host's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// A port of a bridge.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The name of the host's end; `host_ifname` makes one.
        host_ifname: String,
    },
    /// An interface with a hardware address of its own beside its parent's.
    Macvlan {
        /// The parent interface.
        parent: String,
        /// Who may speak to whom.
        mode: MacvlanMode,
    },
    /// An interface that shares its parent's hardware address.
    Ipvlan {
        /// The parent interface.
        parent: String,
        /// At which layer the kernel tells them apart.
        mode: IpvlanMode,
        /// Who may speak to whom.
        flag: IpvlanFlag,
    },
}

/// How an interface is to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceName {
    /// These letters with the lowest number that is free.
    Prefix(String),
    /// This name.
    Exactly(String),
}

/// Where a default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// To a router.
    Via(IpAddr),
    /// To the link itself, as on an ipvlan of layer 3.
    Link(Family),
}

/// An endpoint that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The interface's name in the sandbox.
    pub ifname: String,
    /// The name of the host's end, if there is one.
    pub host_ifname: Option<String>,
    /// The interface's hardware address.
    pub mac: Option<MacAddr>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// `macvlan_mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Siblings speak to one another directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of the switch that the parent is plugged in.
    Vepa,
    /// One endpoint takes the whole parent.
    Passthru,
}

/// `ipvlan_mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Frames are switched.
    #[default]
    L2,
    /// Packets are routed.
    L3,
    /// Packets are routed, through netfilter.
    L3s,
}

/// `ipvlan_flag`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Siblings speak to one another directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of the switch.
    Vepa,
}

impl FromStr for MacvlanMode {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" | "bridge" => Ok(Self::Bridge),
            "private" => Ok(Self::Private),
            "vepa" => Ok(Self::Vepa),
            "passthru" => Ok(Self::Passthru),
            other => Err(format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            )),
        }
    }
}

impl FromStr for IpvlanMode {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" | "l2" => Ok(Self::L2),
            "l3" => Ok(Self::L3),
            "l3s" => Ok(Self::L3s),
            other => {
                Err(format!("requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"))
            }
        }
    }
}

impl FromStr for IpvlanFlag {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" | "bridge" => Ok(Self::Bridge),
            "private" => Ok(Self::Private),
            "vepa" => Ok(Self::Vepa),
            other => {
                Err(format!("requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"))
            }
        }
    }
}

impl Gateway {
    /// The family whose packets it takes.
    pub fn family(self) -> Family {
        match self {
            Gateway::Via(address) => Family::of(address),
            Gateway::Link(family) => family,
        }
    }

    /// The router, if there is one.
    pub(crate) fn router(self) -> Option<IpAddr> {
        match self {
            Gateway::Via(address) => Some(address),
            Gateway::Link(_) => None,
        }
    }
}

impl InterfaceName {
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Prefix(prefix) => check_ifname(&format!("{prefix}0")),
            Self::Exactly(name) => check_ifname(name),
        }
    }

    /// The name, given those that the sandbox has.
    pub(crate) fn choose(&self, taken: &[String]) -> String {
        match self {
            Self::Exactly(name) => name.clone(),
            Self::Prefix(prefix) => {
                let mut number = 0_usize;
                while taken.iter().any(|name| *name == format!("{prefix}{number}")) {
                    number += 1;
                }
                format!("{prefix}{number}")
            }
        }
    }
}

impl Endpoint {
    /// Whether the interface has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|a| a.addr().is_ipv6())
    }

    /// Whether neighbours may remember another hardware address for its IPv4 address.
    pub(crate) fn must_announce(&self) -> bool {
        let first = self.addresses.first().map(|a| a.addr());
        self.mac.is_some_and(|mac| first.is_none_or(|ip| mac != MacAddr::of_endpoint(ip)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let taken = ["lo", "eth0", "eth2", "eth10"].map(str::to_owned);
        assert_eq!(InterfaceName::Prefix("eth".to_owned()).choose(&taken), "eth1");
        assert_eq!(InterfaceName::Prefix("net".to_owned()).choose(&taken), "net0");
        assert_eq!(InterfaceName::Exactly("eth0".to_owned()).choose(&taken), "eth0");
    }

    #[test]
    fn modes_have_dockers_words() {
        assert_eq!("vepa".parse(), Ok(MacvlanMode::Vepa));
        assert_eq!("".parse(), Ok(IpvlanMode::L2));
        assert!("l4".parse::<IpvlanMode>().is_err() && "x".parse::<MacvlanMode>().is_err());
        assert!("x".parse::<IpvlanFlag>().is_err());
    }
}
