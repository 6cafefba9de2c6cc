//! Events of a host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The kind of object that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The daemon.
    Daemon,
}

impl EventType {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Container => "container",
            EventType::Image => "image",
            EventType::Network => "network",
            EventType::Volume => "volume",
            EventType::Daemon => "daemon",
        }
    }
}

/// Something that happened on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    pub kind: EventType,
    /// What happened: `create`, `die`, `exec_start: ls`, …
    pub action: String,
    /// The object's id or name.
    pub actor: String,
    /// Image, name, labels, exit code, …
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}
