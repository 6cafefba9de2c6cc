//! Networks: making, listing, inspecting, joining, leaving, removing and pruning them.

use droste_api::filters::Filters;
use droste_api::query::moment_before;
use droste_api::wire::{BuildsPruned, NetworkCreated, NetworksPruned};
use droste_api::{RequestError, parse};
use droste_engine::NetworkView;
use droste_model::time::Timestamp;
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
        .networks(with_containers)
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
    let dangling = !view.builtin && !view.used;
    filters.exact("driver", &view.driver)
        && filters.matches("name", &view.name)
        && filters.any("id", |value| view.id.as_str().contains(value))
        && filters.labels("label", &view.labels)
        && filters.exact("scope", &view.scope)
        && filters.exact("type", if view.builtin { "builtin" } else { "custom" })
        && filters.flag("dangling").ok().flatten().is_none_or(|wanted| wanted == dangling)
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    // What a swarm knows of a network beyond this would be shown: there is none.
    let verbose = call.query.get("verbose");
    if !verbose.is_empty() && parse::go_bool(verbose).is_none() {
        let text =
            format!("invalid value for verbose: {verbose}: strconv.ParseBool: parsing {verbose:?}: invalid syntax");
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    let view = call.host.network(&call.parameter)?;
    let scope = call.query.get("scope");
    if !scope.is_empty() && scope != view.scope {
        return Err(Failure::new(StatusCode::NOT_FOUND, format!("network {} not found", call.parameter)));
    }
    Ok(reply::json(&dress::network::network(&view, true)))
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let request = parse::network(&call.take_json().await?, call.version)?;
    let id = call.host.create_network(request).await?;
    Ok(reply::json_with(StatusCode::CREATED, &NetworkCreated { id: id.to_string(), warning: String::new() }))
}

pub(crate) async fn delete(call: Call) -> Result<Reply> {
    call.host.remove_network(&call.parameter).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn connect(mut call: Call) -> Result<Reply> {
    let (container, request) = parse::connect(&call.take_json().await?, call.version)?;
    call.host.connect(&call.parameter, &container, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn disconnect(mut call: Call) -> Result<Reply> {
    let (container, force) = parse::disconnect(&call.take_json().await?)?;
    call.host.disconnect(&call.parameter, &container, force).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.filters(&["label", "label!", "until"])?;
    let until = filters.single("until")?.map(|text| moment_before(text, Timestamp::now())).transpose()?;
    let keep = move |view: &NetworkView| {
        until.is_some_and(|until| view.created > until) || !filters.prune_labels(&view.labels)
    };
    let gone = call.host.prune_networks(&keep).await?;
    Ok(reply::json(&NetworksPruned { networks_deleted: Some(gone).filter(|gone| !gone.is_empty()) }))
}

/// There is no build cache so far.
pub(crate) async fn prune_builds(_: Call) -> Result<Reply> {
    Ok(reply::json(&BuildsPruned::default()))
}
