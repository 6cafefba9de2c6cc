//! Images and layers: content by digest, unpacked layers, archives, registries, garbage collection.
//!
//! Tags live in the engine, one table for each host; here are the things that tags point at, shared by all hosts.
//! Disk work is blocking (call it from a thread of its own); the registry client is async.

mod changes;
mod config;
mod decompress;
mod diff;
mod error;
mod extract;
mod forms;
mod gzip;
mod hash;
mod layer;
mod load;
mod make;
mod manifest;
mod pack;
mod possession;
mod progress;
pub mod registry;
mod remove;
mod save;
mod skeleton;
mod store;
mod tar;
mod unpack;

pub use changes::apply_changes;
pub use config::{History, ImageConfig, RootFs};
pub use decompress::{Compression, decompress};
pub use diff::{Change, ChangeKind, changes};
pub use error::{Error, MOST_LAYERS, Result};
pub use extract::Limits;
pub use hash::digest_of;
pub use load::{LoadOptions, Loaded, load};
pub use make::{MakeOptions, commit, import};
pub use manifest::{Descriptor, PlatformNote};
pub use pack::{PackOptions, archive_name, pack};
pub use possession::Possession;
pub use progress::{Progress, PushResult, Sink};
pub use remove::remove_tree;
pub use save::save;
pub use store::{Collected, Image, Overlay, Store};
pub use unpack::{UnpackOptions, unpack};
