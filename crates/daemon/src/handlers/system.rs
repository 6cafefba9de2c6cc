//! What the engine says of itself.

use droste_api::shape;
use droste_model::time::Timestamp;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, PRAGMA};

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply, ReplyBody};
use crate::reply;

pub(crate) fn ping(head_only: bool) -> Result<Reply> {
    let body = if head_only { ReplyBody::empty() } else { ReplyBody::Whole(Bytes::from_static(b"OK")) };
    let mut reply = reply::with_body(StatusCode::OK, "text/plain; charset=utf-8", body);
    let headers = reply.headers_mut();
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("2"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if head_only {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(reply)
}

pub(crate) async fn version(_: Call) -> Result<Reply> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok(reply::json(&dress::system::version(&kernel)))
}

pub(crate) async fn info(call: Call) -> Result<Reply> {
    Ok(reply::json(&shape::info(dress::system::info(call.host.info().await?), call.version)))
}

pub(crate) async fn disk_usage(call: Call) -> Result<Reply> {
    let kinds: Vec<&str> = call.query.all("type").collect();
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(unknown) = kinds.iter().find(|kind| !known.contains(kind)) {
        return Err(Failure::new(StatusCode::BAD_REQUEST, format!("unknown object type: {unknown}")));
    }
    let usage = call.host.disk_usage().await?;
    let mut wire = dress::system::disk_usage(&usage, Timestamp::now());
    // 1.42: "GET /system/df now accepts type".
    if call.version.at_least(42) && !kinds.is_empty() {
        let asked = |kind: &str| kinds.contains(&kind);
        if !asked("image") {
            (wire.images, wire.layers_size) = (None, 0);
        }
        wire.containers = wire.containers.filter(|_| asked("container"));
        wire.volumes = wire.volumes.filter(|_| asked("volume"));
        wire.build_cache = wire.build_cache.filter(|_| asked("build-cache"));
    }
    Ok(reply::json(&shape::disk_usage(wire, call.version)))
}

pub(crate) async fn tree(call: Call) -> Result<Reply> {
    Ok(reply::json(&dress::system::tree(&call.host.tree().await?, Timestamp::now())))
}
