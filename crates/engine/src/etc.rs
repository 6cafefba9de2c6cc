//! A container's /etc/hostname, /etc/hosts and /etc/resolv.conf.

use std::net::IpAddr;

use droste_model::container::HostConfig;
use droste_model::network::NetworkMode;
use droste_network::{DnsOptions, ExtraHost, ResolvConf, host_mode_hosts, hosts};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::network::Attachment;
use crate::record::ContainerRecord;
use crate::settings::Settings;

impl Engine {
    /// /etc/hostname, /etc/hosts and /etc/resolv.conf.
    pub(crate) fn write_files(
        &self,
        record: &ContainerRecord,
        host: &Host,
        network: Option<&Attachment>,
        settings: &Settings,
    ) -> Result<()> {
        if let NetworkMode::Container(name) = &record.host_config.network_mode {
            return self.share_files(record, host, name);
        }
        let folder = self.container_dir(&record.id);
        let gateway = network.and_then(|network| network.endpoint()).map(|endpoint| IpAddr::V4(endpoint.gateway));
        let extra = record.host_config.extra_hosts.iter().flatten();
        let extra = extra
            .map(|text| ExtraHost::parse(text, gateway))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::invalid(error.to_string()))?;
        let extra = [extra, linked(record, host)?].concat();
        let shares_host = network.is_none();
        let of_host = host.files_of_host()?;
        let hosts_file = if shares_host {
            host_mode_hosts(&of_host.hosts, &extra)
        } else {
            let address = network.and_then(|network| network.endpoint()).map(|endpoint| IpAddr::V4(endpoint.address.0));
            let addresses: Vec<IpAddr> = address.into_iter().collect();
            hosts(&addresses, &record.config.hostname, &record.config.domainname, &extra)
        };
        let asked = dns(&record.host_config, settings);
        let resolver = ResolvConf::parse(&of_host.resolv_conf);
        let resolver = if shares_host { resolver.for_host(&asked) } else { resolver.for_bridge(&asked) };
        let write = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content)
                .map_err(|error| Error::hidden(format!("the container's {name} could not be written"), error))
        };
        write("hostname", &format!("{}\n", record.config.hostname))?;
        write("hosts", &hosts_file)?;
        write("resolv.conf", &resolver.render())
    }

    /// A container in another's network namespace has its files, too.
    fn share_files(&self, record: &ContainerRecord, host: &Host, name: &str) -> Result<()> {
        let other = self.container_dir(&host.target(name)?.container().id);
        let own = self.container_dir(&record.id);
        for file in ["hostname", "hosts", "resolv.conf"] {
            std::fs::copy(other.join(file), own.join(file))
                .map_err(|error| Error::hidden(format!("the container's {file} could not be written"), error))?;
        }
        Ok(())
    }
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

/// The containers that `--link` names, under their aliases, names and host names.
fn linked(record: &ContainerRecord, host: &Host) -> Result<Vec<ExtraHost>> {
    let mut lines = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        let other = host.member(name)?;
        let (endpoint, names) = {
            let other = other.record();
            (other.endpoint.clone(), [alias.to_owned(), other.config.hostname.clone(), other.name.to_string()])
        };
        let endpoint = endpoint.ok_or_else(|| {
            Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                names[2], record.name
            ))
        })?;
        let address = IpAddr::V4(endpoint.address.0);
        lines.extend(names.into_iter().map(|name| ExtraHost { name, address }));
    }
    Ok(lines)
}
