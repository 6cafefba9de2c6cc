//! Reaching a daemon: where it is (`endpoint`), the stream to it (`stream`, `tls`), HTTP on that stream (`http`),
//! and Docker's API on top (`client`); being reached instead of one (`listen`). Nothing here knows a command.

pub(crate) mod autostart;
pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod http;
pub(crate) mod listen;
pub(crate) mod stream;
pub(crate) mod tls;
