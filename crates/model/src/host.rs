//! Hosts: the machine, or a container that holds an engine socket.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ContainerId;

/// Names a host. All of a host's tables are keyed by it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HostId {
    /// The machine: level 0.
    Machine,
    /// A container, one level below the host that it runs on.
    Container(ContainerId),
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostId::Machine => f.write_str("machine"),
            HostId::Container(id) => f.write_str(id.as_str()),
        }
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostId::Machine => f.write_str("machine"),
            HostId::Container(id) => f.write_str(id.short()),
        }
    }
}

/// What a container's engine socket acts on, chosen by its creator with the label [`Grant::LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Grant {
    /// The container itself: it is a host.
    Own,
    /// The creator's host.
    Parent,
    /// The creator's host, to look at only.
    ParentReadOnly,
}

/// A label value that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?} of label {label}: expected own, parent or parent-ro")]
pub struct InvalidGrant {
    /// What was given.
    pub value: String,
    /// For which label.
    pub label: &'static str,
}

impl Grant {
    /// The label by which a creator chooses the grant.
    pub const LABEL: &'static str = "droste.socket";

    /// The label by which the creator of a host says what sockets on that host grant if their own label does not.
    pub const CHILDREN_LABEL: &'static str = "droste.children";

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Grant::Own => "own",
            Grant::Parent => "parent",
            Grant::ParentReadOnly => "parent-ro",
        }
    }

    /// Reads the label's value.
    pub fn from_label(value: &str) -> Result<Self, InvalidGrant> {
        Self::parse(value, Self::LABEL)
    }

    /// Reads the value of the label for what is below.
    pub fn for_children(value: &str) -> Result<Self, InvalidGrant> {
        Self::parse(value, Self::CHILDREN_LABEL)
    }

    fn parse(value: &str, label: &'static str) -> Result<Self, InvalidGrant> {
        let all = [Grant::Own, Grant::Parent, Grant::ParentReadOnly];
        let found = all.into_iter().find(|grant| grant.word() == value);
        found.ok_or_else(|| InvalidGrant { value: value.to_owned(), label })
    }
}

/// Whether a host reads its parent's image tags, chosen with the label [`ImageView::LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageView {
    /// Own tags over the parent's.
    Inherit,
    /// Own tags alone.
    Isolated,
}

/// A label value that is no image view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {0:?} of label droste.images: expected inherit or isolated")]
pub struct InvalidImageView(pub String);

impl ImageView {
    /// The label by which a creator chooses the view.
    pub const LABEL: &'static str = "droste.images";

    /// Reads the label's value.
    pub fn from_label(value: &str) -> Result<Self, InvalidImageView> {
        match value {
            "inherit" => Ok(ImageView::Inherit),
            "isolated" => Ok(ImageView::Isolated),
            other => Err(InvalidImageView(other.to_owned())),
        }
    }
}
