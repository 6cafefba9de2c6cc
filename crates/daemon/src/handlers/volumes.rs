//! Volumes: made, listed, inspected, removed, pruned.

use droste_api::RequestError;
use droste_api::decode::decode;
use droste_api::filters::Filters;
use droste_api::parse::volume_name;
use droste_api::wire::{VolumeCreate, VolumeList, VolumesPruned};
use droste_engine::{NewVolume, VolumeView};
use hyper::StatusCode;

use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::Reply;
use crate::reply;
use crate::router::NOT_A_MANAGER;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let unread =
        |error: RequestError| RequestError::invalid(format!("error reading volume filters: {}", error.message));
    let filters = Filters::parse(call.query.get("filters")).map_err(unread)?;
    let filters = filters.allow(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let fits = |view: &VolumeView| {
        filters.exact("driver", &view.driver)
            && filters.labels("label", &view.labels.clone().unwrap_or_default())
            && filters.matches("name", view.name.as_str())
            && dangling.is_none_or(|dangling| dangling == (view.users == 0))
    };
    let (all, warnings) = call.host.volumes().await?;
    let volumes = all.iter().filter(|view| fits(view)).map(dress::volume::volume).collect();
    let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
    Ok(reply::json(&VolumeList { volumes: Some(volumes), warnings }))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    Ok(reply::json(&dress::volume::volume(&call.host.volume(&call.parameter).await?)))
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let body = call.take_json().await?;
    let wanted: VolumeCreate = if body.is_empty() { VolumeCreate::default() } else { decode(&body)? };
    // 1.42: "POST /volumes/create now supports ClusterVolumeSpec".
    if wanted.cluster_volume_spec.is_some() && call.version.at_least(42) {
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NOT_A_MANAGER));
    }
    let name = Some(wanted.name).filter(|name| !name.is_empty());
    let wish = NewVolume {
        name: name.map(|name| volume_name(&name)).transpose()?,
        driver: wanted.driver,
        options: wanted.driver_opts,
        labels: wanted.labels,
    };
    let made = call.host.create_volume(wish).await?;
    Ok(reply::json_with(StatusCode::CREATED, &dress::volume::volume(&made)))
}

pub(crate) async fn delete(call: Call) -> Result<Reply> {
    call.host.remove_volume(&call.parameter, call.query.flag("force")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Only volumes of a swarm can be changed.
pub(crate) async fn update(_: Call) -> Result<Reply> {
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.filters(&["all", "label", "label!"])?;
    // 1.42: "POST /volumes/prune will only consider anonymous volumes".
    let all = call.version.below(42) || everything(&filters)?;
    let keep = move |view: &VolumeView| !filters.prune_labels(&view.labels.clone().unwrap_or_default());
    let (removed, freed) = call.host.prune_volumes(all, &keep).await?;
    let volumes_deleted = removed.iter().map(ToString::to_string).collect();
    Ok(reply::json(&VolumesPruned { volumes_deleted, space_reclaimed: freed }))
}

/// The filter `all`, by Go's rules for booleans.
fn everything(filters: &Filters) -> Result<bool, RequestError> {
    let mut all = false;
    for value in filters.values("all") {
        all = match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            other => {
                let text = format!("invalid filter 'all': strconv.ParseBool: parsing {other:?}: invalid syntax");
                return Err(RequestError::invalid(text));
            }
        };
    }
    Ok(all)
}
