//! Kernel parameters (`--sysctl`): which a container may set, by the namespaces that are its own.

use serde::{Deserialize, Serialize};

/// A parameter that a container may not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It belongs to the IPC namespace, which is the host's.
    #[error("sysctl {0:?} is not allowed in the hosts ipc namespace")]
    HostIpc(String),
    /// It belongs to the network namespace, which is the host's.
    #[error("sysctl {0:?} not allowed in host network namespace")]
    HostNetwork(String),
    /// It is the UTS namespace's, which is the host's.
    #[error("sysctl {0:?} is not allowed in the hosts UTS namespace")]
    HostUts(String),
    /// The host name has an option of its own.
    #[error("sysctl {0:?} is not allowed as it conflicts with the OCI \"hostname\" field")]
    Hostname(String),
    /// It is the machine's.
    #[error("sysctl {0:?} is not in a separate kernel namespace")]
    Machine(String),
}

/// Which namespaces a container has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlScope {
    /// IPC.
    pub own_ipc: bool,
    /// Network.
    pub own_network: bool,
    /// UTS.
    pub own_uts: bool,
}

const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl SysctlScope {
    /// Whether a container may set `name`.
    pub fn admit(self, name: &str) -> Result<(), SysctlError> {
        let dotted = normalise(name);
        let owned = || name.to_owned();
        match dotted.as_str() {
            ipc if IPC.contains(&ipc) || ipc.starts_with("fs.mqueue.") => {
                self.own_ipc.then_some(()).ok_or_else(|| SysctlError::HostIpc(owned()))
            }
            net if net.starts_with("net.") => {
                self.own_network.then_some(()).ok_or_else(|| SysctlError::HostNetwork(owned()))
            }
            "kernel.domainname" => self.own_uts.then_some(()).ok_or_else(|| SysctlError::HostUts(owned())),
            "kernel.hostname" => Err(SysctlError::Hostname(owned())),
            _ => Err(SysctlError::Machine(owned())),
        }
    }
}

/// Dots between the parts: `net/ipv4/conf/eth0.1/x` is `net.ipv4.conf.eth0/1.x`.
pub fn normalise(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => swap(name),
        _ => name.to_owned(),
    }
}

/// The file below `/proc/sys`, or nothing for a name that leads out of it.
pub fn file(name: &str) -> Option<String> {
    let path = swap(&normalise(name));
    let sound = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    sound.then_some(path)
}

fn swap(name: &str) -> String {
    let other = |one: char| match one {
        '.' => '/',
        '/' => '.',
        same => same,
    };
    name.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_namespace() {
        let own = SysctlScope { own_ipc: true, own_network: true, own_uts: true };
        let hosts = SysctlScope { own_ipc: false, own_network: false, own_uts: false };
        for name in ["kernel.shmmax", "fs.mqueue.msg_max", "net.ipv4.ip_forward", "kernel.domainname"] {
            assert_eq!(own.admit(name), Ok(()));
        }
        assert_eq!(
            hosts.admit("kernel.shmmax").unwrap_err().to_string(),
            "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace"
        );
        assert_eq!(
            hosts.admit("net.ipv4.ip_forward").unwrap_err().to_string(),
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace"
        );
        assert_eq!(own.admit("kernel/shmmax"), Ok(()));
        assert!(own.admit("kernel.panic").is_err() && own.admit("net").is_err());
    }

    #[test]
    fn files() {
        assert_eq!(file("net.ipv4.conf.eth0/1.rp_filter").as_deref(), Some("net/ipv4/conf/eth0.1/rp_filter"));
        assert_eq!(file("net/ipv4/conf/eth0.1/rp_filter").as_deref(), Some("net/ipv4/conf/eth0.1/rp_filter"));
        assert_eq!(file("net...x"), None);
        assert_eq!(file("net./../x"), None);
    }
}
