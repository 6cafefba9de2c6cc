//! What a volume driver is asked (`VolumeDriver.*`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::Stream;
use crate::http::ask;
use crate::{PluginError, Result};

/// How long a driver may take to make or mount a volume.
const LONG: Duration = Duration::from_secs(120);

/// How long it may take for everything else.
const SHORT: Duration = Duration::from_secs(60);

/// A volume as its driver sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginVolume {
    /// Its name.
    pub name: String,
    /// Where its files are, on the driver's host; empty while it is not mounted.
    pub mountpoint: String,
    /// When it was made, RFC 3339, if the driver says so.
    pub created_at: String,
    /// Whatever the driver wants to tell.
    pub status: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<&'a BTreeMap<String, String>>,
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// Answers come in one shape; each question fills in other parts of it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    err: String,
    mountpoint: String,
    volume: Option<PluginVolume>,
    volumes: Option<Vec<PluginVolume>>,
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Capabilities {
    scope: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Manifest {
    implements: Option<Vec<String>>,
}

/// A volume driver. Each question has a connection of its own, made by `connect`.
pub struct Volumes<'a> {
    name: &'a str,
    connect: Box<dyn Fn() -> Result<Stream> + 'a>,
}

impl<'a> Volumes<'a> {
    /// The driver of a name.
    pub fn new(name: &'a str, connect: impl Fn() -> Result<Stream> + 'a) -> Self {
        Self { name, connect: Box::new(connect) }
    }

    /// Greets it.
    ///
    /// # Errors
    /// When it is no volume driver.
    pub fn activate(&self) -> Result<()> {
        let manifest: Manifest = self.json("Plugin.Activate", b"{}", SHORT)?;
        let is_driver = manifest.implements.iter().flatten().any(|kind| kind == "VolumeDriver");
        if is_driver { Ok(()) } else { Err(PluginError::NotImplemented(self.name.to_owned())) }
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// As the driver says.
    pub fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        self.ask("VolumeDriver.Create", &Named { name, opts: Some(options), id: None }, LONG).map(drop)
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// As the driver says.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.ask("VolumeDriver.Remove", &Named { name, opts: None, id: None }, SHORT).map(drop)
    }

    /// Mounts a volume for a user; gives the path on the driver's host.
    ///
    /// # Errors
    /// As the driver says.
    pub fn mount(&self, name: &str, user: &str) -> Result<String> {
        let answer = self.ask("VolumeDriver.Mount", &Named { name, opts: None, id: Some(user) }, LONG)?;
        Ok(answer.mountpoint)
    }

    /// Takes a user's mount back.
    ///
    /// # Errors
    /// As the driver says.
    pub fn unmount(&self, name: &str, user: &str) -> Result<()> {
        self.ask("VolumeDriver.Unmount", &Named { name, opts: None, id: Some(user) }, SHORT).map(drop)
    }

    /// Where a mounted volume is.
    ///
    /// # Errors
    /// As the driver says.
    pub fn path(&self, name: &str) -> Result<String> {
        Ok(self.ask("VolumeDriver.Path", &Named { name, opts: None, id: None }, SHORT)?.mountpoint)
    }

    /// One volume.
    ///
    /// # Errors
    /// As the driver says.
    pub fn get(&self, name: &str) -> Result<PluginVolume> {
        let answer = self.ask("VolumeDriver.Get", &Named { name, opts: None, id: None }, SHORT)?;
        answer.volume.ok_or_else(|| PluginError::Refused(format!("{name}: no such volume")))
    }

    /// All volumes.
    ///
    /// # Errors
    /// As the driver says.
    pub fn list(&self) -> Result<Vec<PluginVolume>> {
        let answer: Answer = self.checked("VolumeDriver.List", b"{}", SHORT)?;
        Ok(answer.volumes.unwrap_or_default())
    }

    /// `local`, or `global` for one whose volumes are the same on all machines.
    ///
    /// # Errors
    /// When it is not known.
    pub fn scope(&self) -> Result<String> {
        let scope = self.checked("VolumeDriver.Capabilities", b"{}", SHORT)?.capabilities.scope.to_ascii_lowercase();
        Ok(if scope == "global" { scope } else { "local".to_owned() })
    }

    fn ask(&self, method: &'static str, what: &Named<'_>, wait: Duration) -> Result<Answer> {
        let body = serde_json::to_vec(what);
        let body = body.map_err(|error| PluginError::Protocol { method, reason: error.to_string() })?;
        self.checked(method, &body, wait)
    }

    fn checked(&self, method: &'static str, body: &[u8], wait: Duration) -> Result<Answer> {
        let answer: Answer = self.json(method, body, wait)?;
        if answer.err.is_empty() { Ok(answer) } else { Err(PluginError::Refused(answer.err)) }
    }

    fn json<T: DeserializeOwned>(&self, method: &'static str, body: &[u8], wait: Duration) -> Result<T> {
        let (status, answer) = ask((self.connect)()?, method, body, wait)?;
        if status != 200 {
            let said = serde_json::from_slice::<Answer>(&answer).ok().map(|answer| answer.err);
            let said = said.filter(|text| !text.is_empty());
            let said = said.unwrap_or_else(|| String::from_utf8_lossy(&answer).trim().chars().take(500).collect());
            return Err(PluginError::Refused(format!("{method}: {said}")));
        }
        serde_json::from_slice(&answer)
            .map_err(|error| PluginError::Protocol { method, reason: format!("no JSON: {error}") })
    }
}
