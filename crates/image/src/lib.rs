//! Images and layers: content by digest, unpacked layers, archives, registries, garbage collection.
//!
//! Tags live in the engine, one table for each host; here are the things that tags point at, shared by all hosts.
//! Disk work is blocking (call it from a thread of its own); the registry client is async.

mod config;
mod decompress;
mod error;
mod extract;
mod hash;
mod layer;
mod skeleton;
mod store;
mod tar;

pub use config::{History, ImageConfig, RootFs};
pub use decompress::{Compression, decompress};
pub use error::{Error, MOST_LAYERS, Result};
pub use extract::Limits;
pub use hash::digest_of;
pub use store::{Collected, Image, Overlay, Store};
