//! Networks, as far as they are listed and inspected.

use droste_api::RequestError;
use droste_api::decode::decode;
use droste_api::filters::Filters;
use droste_api::wire::{BuildsPruned, NetworkCreate, NetworksPruned};
use droste_engine::NetworkView;
use hyper::StatusCode;

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::reply;

const NETWORK_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let filters = call.filters(&NETWORK_FILTERS)?;
    check(&filters)?;
    // 1.28: "GET /networks does not return the containers any more".
    let with_containers = call.version.below(28);
    let networks: Vec<_> = call
        .host
        .networks()
        .iter()
        .filter(|view| fits(&filters, view))
        .map(|view| dress::network::network(view, with_containers))
        .collect();
    Ok(reply::json(&networks))
}

fn check(filters: &Filters) -> Result<()> {
    if filters.flag("dangling").is_err() {
        let text = "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    match filters.values("type").find(|value| !matches!(*value, "builtin" | "custom")) {
        Some(value) => Err(RequestError::server(format!("invalid filter: 'type'='{value}'")).into()),
        None => Ok(()),
    }
}

fn fits(filters: &Filters, view: &NetworkView) -> bool {
    // The three networks of a host are built in, and nothing makes others so far.
    filters.exact("driver", &view.driver)
        && filters.any("name", |value| view.name.contains(value))
        && filters.any("id", |value| view.id.as_str().contains(value))
        && filters.labels("label", &Default::default())
        && filters.exact("scope", "local")
        && filters.exact("type", "builtin")
        && filters.flag("dangling").ok().flatten() != Some(true)
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let scope = call.query.get("scope");
    let view = call.host.network(&call.parameter)?;
    if !matches!(scope, "" | "local") {
        return Err(Failure::new(StatusCode::NOT_FOUND, format!("network {} not found", call.parameter)));
    }
    Ok(reply::json(&dress::network::network(&view, true)))
}

/// What can be said of a request that makes, changes or joins networks, before it is said that Droste does not.
pub(crate) async fn refuse(pattern: &str, call: &mut Call) -> Result<()> {
    if pattern == "/networks/create" {
        let wanted: NetworkCreate = decode(&call.take_json().await?)?;
        if wanted.name.is_empty() {
            return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid name: name is empty"));
        }
        let known = call.host.network(&wanted.name).is_ok_and(|view| view.name == wanted.name);
        let text = format!("operation is not permitted on predefined {} network ", wanted.name);
        return if known { Err(Failure::new(StatusCode::FORBIDDEN, text)) } else { Ok(()) };
    }
    let view = call.host.network(&call.parameter)?;
    match pattern {
        "/networks/{id}" => {
            let text = format!("{} is a pre-defined network and cannot be removed", view.name);
            Err(Failure::new(StatusCode::FORBIDDEN, text))
        }
        _ => Ok(()),
    }
}

/// The networks of a host are built in and stay.
pub(crate) async fn prune_networks(call: Call) -> Result<Reply> {
    call.filters(&["label", "label!", "until"])?;
    Ok(reply::json(&NetworksPruned { networks_deleted: None }))
}

/// There is no build cache so far.
pub(crate) async fn prune_builds(_: Call) -> Result<Reply> {
    Ok(reply::json(&BuildsPruned::default()))
}
