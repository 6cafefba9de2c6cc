//! What a network's driver and its options mean: how containers hang on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use droste_network::{Bridge, BridgeSubnet, Family, GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode, Parent, Uplink};

use crate::error::{Error, Result};
use crate::record::{Driver, NetworkRecord, SubnetRecord};

/// How containers hang on a network.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// By a bridge of the host.
    Bridge(BridgeWay),
    /// By an interface of the host with hardware addresses of their own.
    Macvlan { parent: Parent, mode: MacvlanMode },
    /// By an interface of the host with its hardware address.
    Ipvlan { parent: Parent, mode: IpvlanMode, flag: IpvlanFlag },
}

/// A bridge, and where on its host ports are published.
#[derive(Clone, Debug)]
pub(crate) struct BridgeWay {
    /// The bridge.
    pub bridge: Bridge,
    /// The host's address for ports that name none.
    pub host_binding: Option<IpAddr>,
}

impl Way {
    /// What an endpoint hangs on.
    pub(crate) fn uplink(&self, host_ifname: &str) -> Uplink {
        match self {
            Way::Bridge(way) => Uplink::Bridge { bridge: way.bridge.name.clone(), host_ifname: host_ifname.to_owned() },
            Way::Macvlan { parent, mode } => Uplink::Macvlan { parent: parent.name.clone(), mode: *mode },
            Way::Ipvlan { parent, mode, flag } => {
                Uplink::Ipvlan { parent: parent.name.clone(), mode: *mode, flag: *flag }
            }
        }
    }

    /// The bridge, if it is one.
    pub(crate) fn bridge(&self) -> Option<&BridgeWay> {
        match self {
            Way::Bridge(way) => Some(way),
            _ => None,
        }
    }

    /// The interface that endpoints hang on, if it is not a bridge.
    pub(crate) fn parent(&self) -> Option<&Parent> {
        match self {
            Way::Bridge(_) => None,
            Way::Macvlan { parent, .. } | Way::Ipvlan { parent, .. } => Some(parent),
        }
    }

    /// Why a network can not be beside another one on the same parent, if so: one that takes the whole of it has no
    /// neighbours, and ipvlan's have one network each.
    pub(crate) fn clash(&self, other: &Way, record: &NetworkRecord) -> Option<String> {
        let id = &record.id;
        match (self, other) {
            (Way::Macvlan { parent, mode }, Way::Macvlan { parent: taken, mode: theirs }) if parent == taken => {
                let using = format!("macvlan network {id} is already using parent interface {}", taken.name);
                match (mode, theirs) {
                    (MacvlanMode::Passthru, _) => Some(format!("cannot use mode passthru, {using}")),
                    (_, MacvlanMode::Passthru) => Some(format!("{using} in mode passthru")),
                    _ => None,
                }
            }
            (Way::Ipvlan { parent, .. }, Way::Ipvlan { parent: taken, .. }) if parent == taken => {
                Some(format!("network {id} is already using parent interface {}", taken.name))
            }
            _ => None,
        }
    }

    /// Whether the host routes by the link alone: there is no gateway's address.
    pub(crate) fn is_routed_by_link(&self) -> bool {
        matches!(self, Way::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. })
    }
}

/// How containers hang on a network with this record; `None` for networks without a driver of ours.
pub(crate) fn way(record: &NetworkRecord) -> Result<Option<Way>> {
    match record.driver {
        Driver::Host | Driver::Null => Ok(None),
        Driver::Bridge => bridge(record).map(Way::Bridge).map(Some),
        Driver::Macvlan => {
            let mode = text(&record.options, "macvlan_mode").parse().map_err(Error::internal)?;
            Ok(Some(Way::Macvlan { parent: parent(record)?, mode }))
        }
        Driver::Ipvlan => {
            let mode = text(&record.options, "ipvlan_mode").parse().map_err(Error::internal)?;
            let flag = text(&record.options, "ipvlan_flag").parse().map_err(Error::internal)?;
            Ok(Some(Way::Ipvlan { parent: parent(record)?, mode, flag }))
        }
    }
}

fn text<'a>(options: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    options.get(name).map(String::as_str).unwrap_or_default()
}

fn parent(record: &NetworkRecord) -> Result<Parent> {
    let name = record.options.get("parent").map(String::as_str);
    if name == Some("lo") {
        let driver = record.driver.name();
        return Err(Error::internal(format!("loopback interface is not a valid {driver} parent link")));
    }
    Parent::of(name, record.id.as_str()).map_err(|error| Error::internal(error.to_string()))
}

fn bridge(record: &NetworkRecord) -> Result<BridgeWay> {
    let options = Options(&record.options);
    let subnets =
        record.subnets_in_use().map(|subnet| bridge_subnet(record, &options, subnet)).collect::<Result<_>>()?;
    let mtu = options.mtu()?;
    let bridge = Bridge {
        name: bridge_name(record),
        subnets,
        mtu,
        icc: options.switch("com.docker.network.bridge.enable_icc")?.unwrap_or(true),
        masquerade: options.switch("com.docker.network.bridge.enable_ip_masquerade")?.unwrap_or(true),
        sources: options.sources()?,
        internal: record.internal,
        trusted: options.list("com.docker.network.bridge.trusted_host_interfaces"),
    };
    let host_binding = options.address("com.docker.network.bridge.host_binding_ipv4")?;
    Ok(BridgeWay { bridge, host_binding: host_binding.filter(|ip| !ip.is_unspecified()) })
}

/// The interface of a network: as asked, or made of its id.
pub(crate) fn bridge_name(record: &NetworkRecord) -> String {
    match text(&record.options, "com.docker.network.bridge.name") {
        "" => format!("br-{}", record.id.short()),
        name => name.to_owned(),
    }
}

fn bridge_subnet(record: &NetworkRecord, options: &Options<'_>, subnet: &SubnetRecord) -> Result<BridgeSubnet> {
    let family = Family::of(subnet.subnet.addr());
    let mode = match family {
        Family::V4 => options.mode("com.docker.network.bridge.gateway_mode_ipv4")?,
        Family::V6 => options.mode("com.docker.network.bridge.gateway_mode_ipv6")?,
    };
    if mode == GatewayMode::Isolated && !record.internal {
        return Err(Error::internal("gateway mode 'isolated' can only be used for an internal network"));
    }
    let keeps_out = mode == GatewayMode::Isolated
        || (family == Family::V4 && options.switch("com.docker.network.bridge.inhibit_ipv4")? == Some(true));
    Ok(BridgeSubnet { net: subnet.subnet, address: subnet.address.filter(|_| !keeps_out), mode })
}

/// A driver's options, with Docker's complaints.
struct Options<'a>(&'a BTreeMap<String, String>);

impl Options<'_> {
    fn wrong(name: &str, value: &str, reason: impl std::fmt::Display) -> Error {
        Error::invalid(format!("failed to parse {name} value: {value} ({reason})"))
    }

    fn switch(&self, name: &str) -> Result<Option<bool>> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let reason = || format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
        parse_bool(text).map(Some).ok_or_else(|| Self::wrong(name, text, reason()))
    }

    fn mtu(&self) -> Result<u32> {
        const NAME: &str = "com.docker.network.driver.mtu";
        let Some(text) = self.0.get(NAME) else { return Ok(1500) };
        let reason = || format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        let number: i64 = text.parse().map_err(|_| Self::wrong(NAME, text, reason()))?;
        match u32::try_from(number) {
            Ok(0) => Ok(1500),
            Ok(mtu) => Ok(mtu),
            Err(_) => Err(Error::invalid(format!("invalid MTU number: {number}"))),
        }
    }

    fn address(&self, name: &str) -> Result<Option<IpAddr>> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Self::wrong(name, text, "nil ip"))
    }

    /// The addresses that what leaves the bridge gets, one of each family at most.
    fn sources(&self) -> Result<Vec<IpAddr>> {
        let mut sources = Vec::new();
        for (name, family) in
            [("com.docker.network.host_ipv4", Family::V4), ("com.docker.network.host_ipv6", Family::V6)]
        {
            let Some(ip) = self.address(name)? else { continue };
            if Family::of(ip) != family {
                return Err(Self::wrong(name, &ip.to_string(), format!("not an {} address", family.name())));
            }
            sources.extend(Some(ip).filter(|ip| !ip.is_unspecified()));
        }
        Ok(sources)
    }

    fn mode(&self, name: &str) -> Result<GatewayMode> {
        let Some(text) = self.0.get(name) else { return Ok(GatewayMode::default()) };
        text.parse().map_err(|reason: String| Self::wrong(name, text, reason))
    }

    fn list(&self, name: &str) -> Vec<String> {
        text(self.0, name).split(':').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

/// What Go's `ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
