//! AppArmor on this machine: whether containers that name no profile get Droste's own, and that a profile which a process
//! is about to be put in can be used.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

use droste_confine::apparmor::{DEFAULT, UNCONFINED, default_profile};
use droste_confine::{Bounds, Privileges};
use droste_model::state::State;
use droste_runtime::apparmor::{LoadError, admits, is_enabled, load, own_profile, profile_of};
use droste_runtime::words;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::host::HostState;
use crate::privileges;
use crate::record::ContainerRecord;

/// The rules that the default profile was written for, as AppArmor's packages describe them.
const ABI: &str = "abi/3.0";

/// Whether the kernel has AppArmor and uses it.
pub(crate) fn enabled() -> bool {
    static ENABLED: OnceLock<bool> = OnceLock::new();
    *ENABLED.get_or_init(is_enabled)
}

/// Whether containers that name no profile are put in the default one: settled once, so that a profile which is lost
/// later stops starts instead of leaving containers unconfined.
pub(crate) fn has_default() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| enabled() && is_there())
}

fn is_there() -> bool {
    if admits(DEFAULT).is_ok() {
        return true;
    }
    let loaded = load_default();
    if let Err(error) = &loaded {
        tracing::warn!(%error, "no AppArmor profile for containers: those that name none run unconfined, until the daemon is started again with one");
    }
    loaded.is_ok()
}

fn load_default() -> Result<(), LoadError> {
    let abi = Path::new("/etc/apparmor.d").join(ABI).exists().then_some(ABI);
    let daemon = own_profile().unwrap_or_else(|_| UNCONFINED.to_owned());
    load(&default_profile(abi, &daemon))?;
    Ok(admits(DEFAULT)?)
}

/// What `info` warns of.
pub(crate) fn warning() -> Option<String> {
    let lacks = enabled() && !has_default();
    lacks.then(|| {
        "WARNING: No AppArmor profile for containers: install the package apparmor and restart droste".to_owned()
    })
}

/// The profile that a process is put in; `None` to stay in the daemon's.
pub(crate) fn applied(given: &Privileges) -> Option<&str> {
    given.apparmor.as_deref().filter(|profile| enabled() && *profile != UNCONFINED)
}

/// A host's bounds with the profile that its first process has taken by itself, if nobody has put it in one.
pub(crate) fn bounds<'a>(host: &HostState, given: &'a Bounds) -> Result<Cow<'a, Bounds>> {
    let open = enabled() && given.confined().is_none();
    let shim = host.myself().filter(|_| open).and_then(|container| container.shim());
    let Some(shim) = shim else { return Ok(Cow::Borrowed(given)) };
    let profile = profile_of(shim.pidfd().as_fd(), shim.pid()).map_err(unreadable)?;
    if profile == UNCONFINED || own_profile().is_ok_and(|own| own == profile) {
        return Ok(Cow::Borrowed(given));
    }
    Ok(Cow::Owned(Bounds { apparmor: Some(profile), ..given.clone() }))
}

/// Why a host's label was not read: mostly since it has ended.
pub(crate) fn unreadable(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => HostState::off(),
        _ if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => HostState::off(),
        _ => Error::hidden("the label of the host's first process could not be read", error),
    }
}

/// Makes sure that a process can be put in its profile. The default one is loaded again if somebody has removed it.
pub(crate) fn ready(given: &Privileges) -> Result<()> {
    let Some(profile) = applied(given) else { return Ok(()) };
    let Err(error) = admits(profile) else { return Ok(()) };
    match error.kind() {
        ErrorKind::NotFound if profile == DEFAULT => load_default()
            .map_err(|error| Error::internal(format!("the AppArmor profile {DEFAULT} could not be loaded: {error}"))),
        ErrorKind::NotFound => Err(Error::internal(format!(
            "the AppArmor profile {profile:?} is not loaded: load it with apparmor_parser, or name another with --security-opt apparmor=NAME"
        ))),
        _ => Err(Error::internal(format!(
            "a process of the daemon's can't be put in the AppArmor profile {profile:?}: {}",
            words(&error)
        ))),
    }
}

/// The profile as inspect shows it: what was asked for, and, once a container has been started where there is AppArmor,
/// what it gets on its host; empty for none.
pub(crate) fn shown(record: &ContainerRecord, host: &HostState) -> String {
    let asked = privileges::asked_profile(&record.host_config);
    let started = enabled() && !matches!(record.state, State::Created { .. });
    let power = started.then(|| host.power().ok()).flatten();
    let bounds = power.as_ref().and_then(|power| bounds(host, &power.bounds).ok());
    let given = match bounds {
        Some(bounds) => bounds.profile(asked.as_deref(), record.host_config.privileged, has_default()),
        None => asked,
    };
    given.unwrap_or_default()
}
