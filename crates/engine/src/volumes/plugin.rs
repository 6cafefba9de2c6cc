//! Volumes whose files a plugin keeps. A plugin is looked up, reached and believed on the host that asks: its folders and
//! sockets are that host's, and so are the paths that it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::name::VolumeName;
use droste_plugin::{Folders, PluginError, PluginVolume};
use droste_runtime::namespaces::MountView;

use super::{LOCAL, Volume, Volumes, lock};
use crate::error::{Error, Message, Result};
use crate::host::HostState;
use crate::lookup::Resolver;
use crate::view::VolumeView;

/// A driver's failure, which the client reads as the driver says it.
fn failed(error: PluginError) -> Error {
    Error::internal(error.to_string())
}

/// Whether a volume's files are a plugin's.
pub(super) fn is_plugins(volume: &Volume) -> bool {
    volume.record.driver != LOCAL
}

impl Volumes {
    /// Asks a driver of a host. Blocking.
    fn ask<T>(
        &self,
        host: &HostState,
        driver: &str,
        question: impl FnOnce(&droste_plugin::Volumes<'_>) -> Result<T, PluginError>,
    ) -> Result<T, PluginError> {
        let absent = || PluginError::NotFound(driver.to_owned());
        let namespaces = host.power().map_err(|_| absent())?.namespaces;
        let connect = || {
            let look_up = |place: &str| Resolver::at(host.level).at_port(place);
            let connected = namespaces.inside(|| Folders::default().find(driver)?.connect(look_up));
            connected.map_err(|error| {
                tracing::warn!(%error, driver, "a host could not be entered to ask a plugin");
                absent()
            })?
        };
        let asked = droste_plugin::Volumes::new(driver, connect);
        let key = (host.id.clone(), driver.to_owned());
        if !lock(&self.activated).contains(&key) {
            asked.activate()?;
            lock(&self.activated).insert(key.clone());
        }
        let answer = question(&asked);
        if matches!(answer, Err(PluginError::NotFound(_) | PluginError::Connect { .. })) {
            lock(&self.activated).remove(&key);
        }
        answer
    }

    /// Refuses a driver that is not there. Blocking.
    pub(super) fn look_up_driver(&self, host: &HostState, driver: &str) -> Result<()> {
        self.ask(host, driver, |_| Ok(())).map_err(|error| {
            let text = format!("error looking up volume plugin {driver}: {error}");
            match error {
                PluginError::NotFound(_) => Error::NotFound(Message::new(text)),
                _ => Error::internal(text),
            }
        })
    }

    /// Lets a plugin make a volume, unless it has one of that name. Blocking.
    pub(super) fn make_in_plugin(&self, host: &HostState, volume: &Volume) -> Result<()> {
        let (name, none) = (volume.record.name.as_str(), BTreeMap::new());
        let options = volume.record.options.as_ref().unwrap_or(&none);
        let make = |driver: &droste_plugin::Volumes<'_>| match driver.get(name) {
            Ok(_) => Ok(()),
            Err(_) => driver.create(name, options),
        };
        self.ask(host, &volume.record.driver, make).map_err(failed)
    }

    /// Lets a plugin remove a volume. Blocking.
    pub(super) fn remove_in_plugin(&self, host: &HostState, volume: &Volume) -> Result<()> {
        let name = volume.record.name.as_str();
        self.ask(host, &volume.record.driver, |driver| driver.remove(name))
            .map_err(|error| Error::internal(format!("remove {name}: {error}")))
    }

    /// Lets a plugin mount a volume for a user. Blocking.
    pub(super) fn mount_in_plugin(&self, host: &HostState, volume: &Volume, user: &str) -> Result<()> {
        let name = volume.record.name.as_str();
        let place = self
            .ask(host, &volume.record.driver, |driver| driver.mount(name, user))
            .map_err(|error| Error::internal(format!("error while mounting volume {name:?}: {error}")))?;
        *lock(&volume.place) = Some(place);
        Ok(())
    }

    /// Lets a plugin unmount a volume for a user. A host that is off has no plugins that could. Blocking.
    pub(super) fn unmount_in_plugin(&self, host: &HostState, volume: &Volume, user: &str) {
        let name = volume.record.name.as_str();
        let outcome = self.ask(host, &volume.record.driver, |driver| driver.unmount(name, user));
        match outcome {
            Err(error) if host.is_on() => tracing::warn!(volume = name, %error, "it was not unmounted"),
            _ => {}
        }
    }

    /// Where a mounted volume of a plugin's is, in its host's root. Blocking.
    pub(super) fn place_in_plugin(&self, host: &HostState, volume: &Volume) -> Result<(MountView, String)> {
        let name = volume.record.name.as_str();
        let known = lock(&volume.place).clone();
        let place = match known {
            Some(place) => place,
            None => self.ask(host, &volume.record.driver, |driver| driver.path(name)).map_err(failed)?,
        };
        if !place.starts_with('/') {
            return Err(Error::internal(format!(
                "error while mounting volume {name:?}: driver {} answered the path {place:?}, which is not absolute",
                volume.record.driver
            )));
        }
        let entered = |error: std::io::Error| Error::hidden("the host's root could not be entered", error);
        Ok((host.power()?.namespaces.view().map_err(entered)?, place))
    }

    /// What a plugin says of a volume. Blocking.
    pub(super) fn view_in_plugin(&self, host: &HostState, volume: &Volume, view: VolumeView) -> Result<VolumeView> {
        let name = volume.record.name.as_str();
        let found = self.ask(host, &volume.record.driver, |driver| driver.get(name));
        let found = found.map_err(|error| Error::internal(format!("get {name}: {error}")))?;
        Ok(self.dressed(host, found, view))
    }

    fn dressed(&self, host: &HostState, found: PluginVolume, view: VolumeView) -> VolumeView {
        let scope = self.ask(host, &view.driver, |driver| driver.scope());
        VolumeView {
            mountpoint: found.mountpoint,
            status: found.status.filter(|status| !status.is_empty()),
            scope: scope.unwrap_or_else(|_| "local".to_owned()),
            created: found.created_at.parse().unwrap_or(view.created),
            ..view
        }
    }

    /// The names of a host's plugins. Blocking.
    fn plugins(&self, host: &HostState) -> std::collections::BTreeSet<String> {
        let names = host.power().ok().and_then(|power| power.namespaces.inside(|| Folders::default().names()).ok());
        names.unwrap_or_default()
    }

    /// The plugin that has a volume of a name, if one of a host's has. Blocking.
    pub(super) fn plugin_of(&self, host: &HostState, name: &VolumeName) -> Option<String> {
        let has = |driver: &String| self.ask(host, driver, |driver| driver.get(name.as_str())).is_ok();
        self.plugins(host).into_iter().find(has)
    }

    /// The volumes of all plugins of a host, known to the engine or not, and why some can't be listed. Blocking.
    pub(super) fn list_plugins(
        &self,
        host: &HostState,
        known: impl Fn(&VolumeName) -> Option<Arc<Volume>>,
        view: impl Fn(VolumeName, &str, Option<&Volume>) -> VolumeView,
    ) -> (Vec<VolumeView>, Vec<String>) {
        let (mut all, mut warnings) = (Vec::new(), Vec::new());
        for driver in self.plugins(host) {
            match self.ask(host, &driver, |driver| driver.list()) {
                Ok(found) => {
                    for volume in found {
                        let Ok(name) = volume.name.parse::<VolumeName>() else { continue };
                        let record = known(&name).filter(|known| known.record.driver == driver);
                        let view = view(name, &driver, record.as_deref());
                        all.push(self.dressed(host, volume, view));
                    }
                }
                Err(PluginError::NotImplemented(_)) => {}
                Err(error) => warnings.push(format!("list {driver}: {error}")),
            }
        }
        (all, warnings)
    }
}
