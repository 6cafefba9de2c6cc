//! The engine: hosts, and on each of them containers, images, networks and events; the record store; recovery.
//!
//! It knows no HTTP and no JSON of Docker's. The daemon holds [`Host`]s, which are capabilities: everything that a
//! [`Host`] offers acts on that host alone. Requests are admitted in one place (`admit`), and only what was admitted is
//! made and launched.

mod admit;
mod apparmor;
mod attach;
mod base;
mod container;
mod create;
mod engine;
mod error;
mod etc;
mod events;
mod exec;
mod files;
mod health;
mod host;
mod hosts;
mod images;
mod inspect;
mod launch;
mod levels;
mod lifecycle;
mod limits;
mod links;
mod logs;
mod lookup;
mod merge;
mod mounting;
mod mounts;
mod names;
mod network;
mod oci;
mod options;
mod placement;
mod power_on;
mod privileges;
mod process;
mod random;
mod record;
mod recover;
mod registry;
mod selinux;
mod settings;
mod sockets;
mod start;
mod store;
mod streams;
mod system;
mod table;
mod tags;
mod transfer;
mod transit;
mod update;
mod usage;
pub mod view;
mod volumes;

pub use attach::{Attached, Input};
pub use container::Waiting;
pub use droste_cgroup::stats::{BlockIoEntry, BlockIoStats, CpuStats, MemoryStats, PidsStats};
pub use droste_confine::Bounds;
pub use droste_image::registry::{Auth, Proxies};
pub use droste_image::{History, Image, Progress, PushResult};
pub use droste_network::LinkStats;
pub use droste_runtime::sys::memory::give_back as give_back_memory;
pub use engine::{Engine, ListenerChange};
pub use error::{Error, Message, Result, Scarce};
pub use events::{Listener, Unheard};
pub use exec::ClaimedExec;
pub use host::Host;
pub use levels::LevelEvents;
pub use limits::{LimitView, Turn};
pub use options::{
    AttachOptions, ChangeKind, CommitOptions, Download, ExecStart, ImportOptions, LogLine, LogOptions, Logs, NewVolume,
    Output, PathStat, RemoveImage, RemoveOptions, Removed, StreamKind, Top, UpdateContainer, Upload, WaitCondition,
    WaitOutcome, WriteArchive,
};
pub use registry::{AuthChecked, Distribution};
pub use settings::{RegistrySettings, SecurityDefaults, Settings};
pub use system::StatsSample;
pub use transfer::ProgressSink;
pub use view::{
    ContainerView, Created, DiskUsage, ExecView, HostDetail, HostView, Info, NetworkView, TreeNode, VolumeView,
};
