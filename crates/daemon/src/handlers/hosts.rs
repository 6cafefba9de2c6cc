//! The hosts below: listed, inspected, limited.

use droste_api::decode::decode;
use droste_api::wire::{HostLimitsRequest, HostSummary, LimitValue};
use droste_model::limit::{InvalidLimit, Resource};
use hyper::StatusCode;

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::reply;

/// The word that takes a limit back.
const DEFAULT: &str = "default";

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let all: Vec<HostSummary> = call.host.hosts().await.iter().map(dress::host::summary).collect();
    Ok(reply::json(&all))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::json(&dress::host::inspect(&call.host.host_detail(&call.parameter).await?)))
}

pub(crate) async fn limits(mut call: Call) -> Result<Reply> {
    let wanted: HostLimitsRequest = decode(&call.take_json().await?)?;
    let change = wanted.iter().map(|(name, value)| one(name, value)).collect::<Result<Vec<_>, _>>();
    let change = change.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let limits = call.host.change_limits(&call.parameter, change).await?;
    Ok(reply::json(&dress::host::limits(&limits)))
}

fn one(name: &str, value: &LimitValue) -> Result<(Resource, Option<u64>), InvalidLimit> {
    let resource = Resource::parse(name)?;
    let value = match value {
        LimitValue::Number(number) => Some(*number),
        LimitValue::Text(text) if text == DEFAULT => None,
        LimitValue::Text(text) => Some(resource.parse_value(text)?),
    };
    Ok((resource, value))
}
