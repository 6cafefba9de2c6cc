//! Docker's plugin protocol: JSON over HTTP on sockets that lie in known folders. [`find`] looks a plugin up, [`Address`]
//! connects to it, [`Volumes`] asks what a volume driver is asked.
//!
//! Nothing here knows hosts. Whoever calls decides in which root the folders are looked up and in which network an
//! address is connected to; a connected [`Stream`] can be used from anywhere. All calls block, for a bounded time.

mod address;
mod http;
mod volume;

pub use address::{Address, Folders, Stream};
pub use volume::{PluginVolume, Volumes};

/// Why a plugin could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No folder has a plugin of that name.
    #[error("plugin {0:?} not found")]
    NotFound(String),
    /// What the folder has is no address.
    #[error("plugin {name:?}: {file} does not say where it listens: {reason}")]
    Spec {
        /// The plugin.
        name: String,
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// It does not listen.
    #[error("dial {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke, or took too long.
    #[error("{method}: {source}")]
    Io {
        /// What was asked.
        method: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It does not speak the protocol.
    #[error("{method}: the plugin answered {reason}")]
    Protocol {
        /// What was asked.
        method: &'static str,
        /// What came.
        reason: String,
    },
    /// It is no volume driver.
    #[error("plugin {0:?} does not implement the requested driver")]
    NotImplemented(String),
    /// It says why not.
    #[error("{0}")]
    Refused(String),
}

/// A result of the protocol.
pub type Result<T, E = PluginError> = std::result::Result<T, E>;
