//! A container's /etc/hostname, /etc/hosts and /etc/resolv.conf.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use droste_model::container::HostConfig;
use droste_model::network::NetworkMode;
use droste_network::{DnsOptions, ExtraHost, ResolvConf, host_mode_hosts, hosts};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::links;
use crate::network::Attachment;
use crate::record::{ContainerRecord, EndpointRecord};
use crate::settings::Settings;

/// Their names in a container's directory.
pub(crate) const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// The most that is read of one, in bytes.
const MOST: u64 = 1 << 20;

impl Engine {
    /// /etc/hostname, /etc/hosts and /etc/resolv.conf.
    pub(crate) fn write_files(
        &self,
        record: &ContainerRecord,
        host: &Host,
        network: Option<&Attachment>,
    ) -> Result<()> {
        if let NetworkMode::Container(name) = &record.host_config.network_mode {
            return self.share_files(record, host, name);
        }
        let gateway = host_gateway(host, network);
        let extra = record.host_config.extra_hosts.iter().flatten();
        let extra = extra
            .map(|text| ExtraHost::parse(text, gateway))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let extra = [extra, links::lines(record, host)?].concat();
        let of_host = host.files_of_host()?;
        let hosts_file = match network {
            None => host_mode_hosts(&of_host.hosts, &extra),
            Some(network) => {
                let endpoints = network.endpoints();
                let addresses: Vec<IpAddr> = endpoints.iter().flat_map(own_addresses).collect();
                hosts(&addresses, &record.config.hostname, &record.config.domainname, &extra)
            }
        };
        self.write_file(record, "hostname", &format!("{}\n", record.config.hostname))?;
        self.write_file(record, "hosts", &hosts_file)?;
        self.write_resolver(record, host, network, &of_host.resolv_conf)
    }

    /// /etc/resolv.conf, and the name server to which it points on networks with names.
    fn write_resolver(
        &self,
        record: &ContainerRecord,
        host: &Host,
        network: Option<&Attachment>,
        of_host: &str,
    ) -> Result<()> {
        let asked = dns(&record.host_config, &self.settings());
        let resolver = ResolvConf::parse(of_host);
        let text = match network {
            None => resolver.for_host(&asked).render(),
            Some(network) if network.has_names() => {
                let (text, upstreams) = resolver.for_resolver(&asked);
                network.resolve(upstreams)?;
                text
            }
            Some(_) if resolver.is_embedded() => ResolvConf::parse(&servers_beyond(host)?).for_bridge(&asked).render(),
            Some(_) => resolver.for_bridge(&asked).render(),
        };
        self.write_file(record, "resolv.conf", &text)
    }

    /// Opens a running container's name server again, after a start of the daemon. Blocking.
    pub(crate) fn resolve_again(&self, record: &ContainerRecord, host: &Host, network: &Attachment) -> Result<()> {
        if !network.has_names() {
            return Ok(());
        }
        let asked = dns(&record.host_config, &self.settings());
        let (_, upstreams) = ResolvConf::parse(&host.files_of_host()?.resolv_conf).for_resolver(&asked);
        network.resolve(upstreams)
    }

    /// Writes a file in place: it is mounted.
    fn write_file(&self, record: &ContainerRecord, name: &str, content: &str) -> Result<()> {
        std::fs::write(self.container_dir(&record.id).join(name), content)
            .map_err(|error| Error::hidden(format!("the container's {name} could not be written"), error))
    }

    /// A running container has a place on another network: its own name gets another address.
    pub(crate) fn tell_of_joining(
        &self,
        record: &ContainerRecord,
        host: &Host,
        network: &Attachment,
        endpoint: &EndpointRecord,
    ) -> Result<()> {
        let addresses: Vec<IpAddr> = own_addresses(endpoint).collect();
        let lines = hosts(&addresses, &record.config.hostname, &record.config.domainname, &[]);
        let none = hosts(&[], &record.config.hostname, &record.config.domainname, &[]);
        let new = lines.strip_prefix(&none).unwrap_or_default();
        self.edit_hosts(record, |text| format!("{text}{new}"));
        if network.resolves() {
            return self.resolve_again(record, host, network);
        }
        self.write_resolver(record, host, Some(network), &host.files_of_host()?.resolv_conf)
    }

    /// A running host finds others by name on a network of its own.
    pub(crate) fn tell_of_names(&self, record: &ContainerRecord, host: &Host, network: &Attachment) -> Result<()> {
        if network.resolves() {
            return Ok(());
        }
        self.write_resolver(record, host, Some(network), &host.files_of_host()?.resolv_conf)
    }

    /// A running container has lost a place: the addresses are no longer its own.
    pub(crate) fn tell_of_leaving(&self, record: &ContainerRecord, endpoint: &EndpointRecord) {
        let starts: Vec<String> = own_addresses(endpoint).map(|address| format!("{address}\t")).collect();
        self.edit_hosts(record, |text| {
            let kept = text.lines().filter(|line| !starts.iter().any(|start| line.starts_with(start)));
            kept.map(|line| format!("{line}\n")).collect()
        });
    }

    fn edit_hosts(&self, record: &ContainerRecord, edit: impl FnOnce(&str) -> String) {
        let path = self.container_dir(&record.id).join("hosts");
        let edited = read(&path).and_then(|text| std::fs::write(&path, edit(&text)));
        if let Err(error) = edited {
            tracing::warn!(container = %record.id, %error, "its /etc/hosts was not changed");
        }
    }

    /// A container in another's network namespace has its files, too.
    fn share_files(&self, record: &ContainerRecord, host: &Host, name: &str) -> Result<()> {
        let other = self.container_dir(&host.target(name)?.container().id);
        let own = self.container_dir(&record.id);
        for file in FILES {
            read(&other.join(file))
                .and_then(|text| std::fs::write(own.join(file), text))
                .map_err(|error| Error::hidden(format!("the container's {file} could not be written"), error))?;
        }
        Ok(())
    }
}

/// Reads one of these files. Their container can write to them, and as much as it likes.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("its container has made it larger than {MOST} bytes")));
    }
    Ok(text)
}

/// The resolv.conf whose servers a host's own name server asks: what it was told, or that of the host above.
fn servers_beyond(host: &Host) -> Result<String> {
    let own = host.files_of_host()?.resolv_conf;
    if !ResolvConf::parse(&own).is_embedded() {
        return Ok(own);
    }
    let (Some(above), Some(myself)) = (host.state.parent.clone(), host.state.myself()) else { return Ok(own) };
    let above = Host::new(Arc::clone(&host.engine), above, false);
    let asked = dns(&myself.record().host_config, &host.engine.settings());
    Ok(ResolvConf::parse(&servers_beyond(&above)?).for_host(&asked).render())
}

fn dns(host: &HostConfig, settings: &Settings) -> DnsOptions {
    let or = |asked: &Option<Vec<String>>, default: &[String]| {
        asked.clone().filter(|asked| !asked.is_empty()).unwrap_or_else(|| default.to_vec())
    };
    DnsOptions {
        servers: or(&host.dns, &settings.dns),
        search: or(&host.dns_search, &settings.dns_search),
        options: or(&host.dns_options, &settings.dns_options),
    }
}

/// Addresses under which a container knows itself.
fn own_addresses(endpoint: &EndpointRecord) -> impl Iterator<Item = IpAddr> + use<> {
    let v4 = endpoint.v4.map(|(ip, _)| IpAddr::V4(ip));
    v4.into_iter().chain(endpoint.v6.map(|(ip, _)| IpAddr::V6(ip)))
}

/// What `host-gateway` means: the host's address on its default bridge, or on the container's own network.
fn host_gateway(host: &Host, network: Option<&Attachment>) -> Option<IpAddr> {
    let endpoints = network.map(Attachment::endpoints).unwrap_or_default();
    let own = endpoints.iter().find_map(|endpoint| endpoint.gateway4).map(IpAddr::V4);
    own.or_else(|| host.state.networks.default_gateway())
}
