//! SELinux on this machine: what runs on a host has the label that the host's own first process has. Labels that clients
//! ask for are remembered and not applied, as in a Docker without `--selinux-enabled`.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use droste_runtime::selinux::{is_enabled, label_of, own_label};

use crate::apparmor::unreadable;
use crate::error::Result;
use crate::host::HostState;

/// Whether the kernel has SELinux and uses it.
fn enabled() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    *ENABLED.get_or_init(is_enabled)
}

/// The label of a process on a host: its first process's own, or, where that has the daemon's still, what holds for the
/// host itself. `None` where that is the daemon's, too: the policy decides, as for a container on the machine.
pub(crate) fn floor(host: &HostState) -> Result<Option<String>> {
    if !enabled() {
        return Ok(None);
    }
    let own = own_label().map_err(unreadable)?;
    let mut at = Some(host);
    while let Some(host) = at {
        if let Some(shim) = host.myself().and_then(|container| container.shim()) {
            let label = label_of(shim.pidfd().as_fd(), shim.pid()).map_err(unreadable)?;
            if label != own {
                return Ok(Some(label));
            }
        }
        at = host.parent.as_deref();
    }
    Ok(None)
}
