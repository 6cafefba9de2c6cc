//! Responses in Docker's manner.

use std::io;

use droste_api::version::CURRENT;
use droste_api::wire::ErrorResponse;
use futures_util::Stream;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::error::Failure;
use crate::http::{Bytes, Reply, ReplyBody};

/// The engine's name for clients that ask.
pub(crate) const SERVER: &str = concat!("Droste/", env!("CARGO_PKG_VERSION"), " (linux)");

pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// A reply without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = status;
    reply
}

/// A reply with a media type and a body.
pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// JSON with a newline, as Go's encoder writes it.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Reply {
    // Wire types have string keys only and always serialise.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    with_body(status, "application/json", ReplyBody::Whole(bytes.into()))
}

/// 200 and JSON.
pub(crate) fn json(value: &impl Serialize) -> Reply {
    json_with(StatusCode::OK, value)
}

/// 200 and bytes as they come.
pub(crate) fn stream(
    media_type: &'static str,
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Reply {
    with_body(StatusCode::OK, media_type, ReplyBody::stream(stream))
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        if failure.status == StatusCode::NOT_MODIFIED {
            return empty(failure.status);
        }
        json_with(failure.status, &ErrorResponse { message: failure.message })
    }
}

/// Sets what every response carries.
pub(crate) fn add_common(headers: &mut HeaderMap) {
    let set = [
        ("api-version", HeaderValue::from_str(&CURRENT.to_string())),
        ("docker-experimental", Ok(HeaderValue::from_static("false"))),
        ("ostype", Ok(HeaderValue::from_static("linux"))),
        ("server", Ok(HeaderValue::from_static(SERVER))),
    ];
    for (name, value) in set {
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The head of a connection that is taken over: 101 for a client that asked for an upgrade, else 200.
pub(crate) fn takeover_head(upgrade: bool, media_type: &str) -> Vec<u8> {
    let text = if upgrade {
        format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {media_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n")
    };
    let common =
        format!("Api-Version: {CURRENT}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: {SERVER}\r\n");
    format!("{text}{common}\r\n").into_bytes()
}
