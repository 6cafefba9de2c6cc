//! HTTP/1.1 as Docker's clients use it: ordinary exchanges, streams, and connections that a handler takes over.
//!
//! Nothing here knows Docker's operations or the engine.

mod body;
mod connection;
mod io;
mod line;
mod takeover;
pub(crate) mod websocket;

pub(crate) use self::body::{Body, BodyError, Bytes, ReplyBody, Upload};
pub(crate) use self::connection::serve;
pub(crate) use self::io::Socket;
pub(crate) use self::takeover::{Duplex, Reader, TakeoverSender, Writer};

/// A request with its body still to be read.
pub(crate) struct Exchange {
    /// Method, path, headers.
    pub(crate) head: hyper::http::request::Parts,
    /// The body.
    pub(crate) body: Body,
    /// The way to take the connection over.
    pub(crate) takeover: TakeoverSender,
}

/// A response.
pub(crate) type Reply = hyper::Response<ReplyBody>;
