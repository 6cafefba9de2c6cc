//! Handlers: each takes typed input, calls one method of the host, and wraps the output.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod hosts;
pub(crate) mod images;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod networks;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod transfer;
pub(crate) mod volumes;
pub(crate) mod websocket;
