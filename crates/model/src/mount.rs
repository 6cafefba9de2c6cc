//! Mounts that a client asks for: `-v`, `--mount`, `--tmpfs`, `--volumes-from`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::VolumeName;
use crate::path::{ClientPath, ContainerPath};

/// How mounts made later travel between a bind and its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Propagation {
    /// `private`.
    Private,
    /// `rprivate`, Docker's default.
    #[default]
    RPrivate,
    /// `shared`.
    Shared,
    /// `rshared`.
    RShared,
    /// `slave`.
    Slave,
    /// `rslave`.
    RSlave,
}

impl Propagation {
    /// Docker's and the kernel's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::RPrivate => "rprivate",
            Propagation::Shared => "shared",
            Propagation::RShared => "rshared",
            Propagation::Slave => "slave",
            Propagation::RSlave => "rslave",
        }
    }

    /// Reads the word; `None` if it is none of the six.
    pub fn parse(text: &str) -> Option<Self> {
        use Propagation::{Private, RPrivate, RShared, RSlave, Shared, Slave};
        [Private, RPrivate, Shared, RShared, Slave, RSlave].into_iter().find(|p| p.as_str() == text)
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MountSource {
    /// A path on the client's host.
    Bind {
        /// Where it is there.
        source: ClientPath,
        /// Make a directory there if nothing exists (`-v`), or refuse (`--mount`).
        create: bool,
        /// Leave out what is mounted below the source.
        non_recursive: bool,
    },
    /// A volume by name, or a new anonymous one.
    Volume {
        /// The name; `None` for an anonymous volume.
        name: Option<VolumeName>,
        /// Do not copy the image's content into a new volume.
        no_copy: bool,
        /// A directory of the volume in place of its root.
        subpath: Option<String>,
        /// The volume driver; empty for the default.
        driver: String,
        /// Options of the driver for a new volume.
        driver_opts: BTreeMap<String, String>,
        /// Labels of a new volume.
        labels: BTreeMap<String, String>,
    },
    /// Memory.
    Tmpfs {
        /// Size in bytes; `None` for the kernel's default.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
        /// Further mount options, as given to `--tmpfs`.
        options: Vec<String>,
    },
    /// An image's file system, read-only.
    Image {
        /// The image's reference.
        reference: String,
        /// A directory of it in place of its root.
        subpath: Option<String>,
    },
}

/// One mount that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where in the container.
    pub target: ContainerPath,
    /// Writes are refused.
    pub read_only: bool,
    /// Only the mount itself is read-only, not what is mounted below it.
    pub read_only_non_recursive: bool,
    /// Fail if what is mounted below can't be made read-only.
    pub read_only_force_recursive: bool,
    /// Propagation between the bind and its source.
    pub propagation: Propagation,
    /// The mode letters of `-v` as typed (`ro,z`), which inspect shows again.
    pub mode: String,
    /// The whole `-v` value as typed; `None` for `--mount`. What was asked is echoed by inspect.
    pub typed: Option<String>,
}
