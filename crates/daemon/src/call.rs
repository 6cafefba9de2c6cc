//! One call of an operation, as its handler gets it.

use droste_api::ApiVersion;
use droste_api::decode::MOST_BYTES;
use droste_api::filters::Filters;
use droste_api::query::Query;
use droste_engine::Host;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, UPGRADE};

use crate::error::{Failure, Result};
use crate::http::{Body, TakeoverSender, Upload};

/// A call: on which host, of which version, and what the request says.
pub(crate) struct Call {
    /// The capability that came with the connection.
    pub(crate) host: Host,
    /// The version that the path names.
    pub(crate) version: ApiVersion,
    /// The path's parameter.
    pub(crate) parameter: String,
    /// The query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body, until a handler takes it.
    pub(crate) body: Option<Body>,
    /// The way to take the connection over.
    pub(crate) takeover: TakeoverSender,
}

impl Call {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client wants to upgrade the connection.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// The filters, if all of them are known.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters> {
        Ok(Filters::parse(self.query.get("filters"))?.allow(known)?)
    }

    /// The JSON body; empty if there is none.
    pub(crate) async fn take_json(&mut self) -> Result<Vec<u8>> {
        let Some(body) = self.body.take() else { return Ok(Vec::new()) };
        let bytes = body.read(MOST_BYTES).await?;
        if !bytes.is_empty() {
            check_media_type(&self.headers)?;
        }
        Ok(bytes)
    }

    /// The body as a reader for the engine's threads, and the work that feeds it.
    pub(crate) fn take_upload(&mut self) -> Result<(Upload, impl Future<Output = ()> + Send + use<>)> {
        let taken = || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the request body was read before");
        self.body.take().map(Body::split).ok_or_else(taken)
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<()> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = match media_type {
        "" => "malformed Content-Type header (): mime: no media type".to_owned(),
        other => format!("unsupported Content-Type header ({other}): must be 'application/json'"),
    };
    Err(Failure::new(StatusCode::BAD_REQUEST, message))
}
