//! Containers: life, inspection, pruning.

use droste_api::filters::Filters;
use droste_api::parse;
use droste_api::query::moment_before;
use droste_api::wire::{
    ContainerCreated, ContainerSummary, ContainersPruned, FilesystemChange, TopResponse, WaitError, WaitResponse,
    Warnings,
};
use droste_api::{RequestError, shape};
use droste_engine::view::ContainerView;
use droste_engine::{Host, RemoveOptions, UpdateContainer, WaitCondition};
use droste_model::signal::{InvalidSignal, Signal};
use droste_model::time::Timestamp;
use futures_util::stream;
use hyper::StatusCode;

use super::list;
use crate::call::Call;
use crate::dress;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let mut summaries = Vec::new();
    list_host(&call, &call.host, None, &mut summaries).await?;
    Ok(reply::json(&summaries))
}

/// `GET /droste/containers/json`: those of this host and of all hosts below it, host by host.
pub(crate) async fn list_levels(call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.get("filters"))?;
    if let Some(name) = ["before", "since"].into_iter().find(|name| filters.has(name)) {
        let text = format!("the filter {name} names a container of one host: it does not go with all levels");
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    let mut summaries = Vec::new();
    for (path, host) in call.host.levels() {
        list_host(&call, &host, Some(path), &mut summaries).await?;
    }
    if let Some(limit) = list::limit(&call)? {
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.created));
        summaries.truncate(limit);
    }
    Ok(reply::json(&summaries))
}

async fn list_host(call: &Call, host: &Host, path: Option<String>, to: &mut Vec<ContainerSummary>) -> Result<()> {
    let now = Timestamp::now();
    for view in list::containers(call, host)? {
        let sizes = match call.query.flag("size") {
            true => Some(host.container_size(view.id.as_str()).await?),
            false => None,
        };
        let summary = ContainerSummary { host: path.clone(), ..dress::container::summary(&view, sizes, now) };
        to.push(shape::container_summary(summary, call.version));
    }
    Ok(())
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let body = call.take_json().await?;
    let parsed = parse::create(&body, &call.query, call.version)?;
    let created = call.host.create(parsed.request).await.map_err(not_the_image)?;
    let warnings = parsed.warnings.into_iter().chain(created.warnings).collect();
    Ok(reply::json_with(StatusCode::CREATED, &ContainerCreated { id: created.id.to_string(), warnings }))
}

/// A client that reads 404 pulls the image and tries again, so only a missing image may say so.
fn not_the_image(error: droste_engine::Error) -> Failure {
    let failure = Failure::from(error);
    let of_image = ["No such image", "image with reference"].iter().any(|start| failure.message.starts_with(start));
    match failure.status {
        StatusCode::NOT_FOUND if !of_image => Failure { status: StatusCode::BAD_REQUEST, ..failure },
        _ => failure,
    }
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let view = call.host.container(&call.parameter)?;
    let sizes = match call.query.flag("size") {
        true => Some(call.host.container_size(&call.parameter).await?),
        false => None,
    };
    Ok(reply::json(&shape::container(dress::container::inspect(&view, sizes), call.version)))
}

pub(crate) async fn start(call: Call) -> Result<Reply> {
    call.host.start(&call.parameter).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// The signal of a query, with Docker's text for a wrong one.
fn signal(call: &Call, doing: &str, wrong: StatusCode) -> Result<Option<Signal>> {
    let text = call.query.get("signal");
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: InvalidSignal| {
        let reason = match text.parse::<i64>() {
            Ok(number) if number != 0 => format!("the linux daemon does not support signal {number}"),
            _ => error.to_string(),
        };
        Failure::new(wrong, format!("cannot {doing} container: {}: {reason}", call.parameter))
    })
}

pub(crate) async fn stop(call: Call) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    // 1.42: "POST /containers/{id}/stop now accepts a signal".
    let signal = match call.version.at_least(42) {
        true => signal(&call, "stop", StatusCode::INTERNAL_SERVER_ERROR)?,
        false => None,
    };
    call.host.stop(&call.parameter, timeout, signal).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn restart(call: Call) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    let signal = match call.version.at_least(42) {
        true => signal(&call, "restart", StatusCode::INTERNAL_SERVER_ERROR)?,
        false => None,
    };
    call.host.restart(&call.parameter, timeout, signal).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn kill(call: Call) -> Result<Reply> {
    let signal = signal(&call, "kill", StatusCode::BAD_REQUEST)?;
    call.host.kill(&call.parameter, signal).await.map_err(|error| {
        let failure = Failure::from(error);
        let message = match failure.message.starts_with("cannot kill") {
            true => failure.message,
            false => format!("cannot kill container: {}: {}", call.parameter, failure.message),
        };
        Failure { message, ..failure }
    })?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn pause(call: Call) -> Result<Reply> {
    call.host.pause(&call.parameter).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn unpause(call: Call) -> Result<Reply> {
    call.host.unpause(&call.parameter).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn rename(call: Call) -> Result<Reply> {
    let name = call.query.get("name");
    if name.is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "Neither old nor new names may be empty"));
    }
    call.host.rename(&call.parameter, name).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn update(mut call: Call) -> Result<Reply> {
    let (resources, restart_policy) = parse::update(&call.take_json().await?)?;
    let warnings = call.host.update(&call.parameter, UpdateContainer { resources, restart_policy }).await?;
    Ok(reply::json(&Warnings { warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) }))
}

/// The size of a terminal, as `resize` takes it.
pub(crate) fn window(call: &Call) -> Result<(u16, u16)> {
    let side = |name: &str, word: &str| {
        let text = call.query.get(name);
        text.parse().map_err(|_| {
            let reason = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
                "value out of range"
            } else {
                "invalid syntax"
            };
            RequestError::invalid(format!("invalid resize {word} {text:?}: {reason}"))
        })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (rows, cols) = window(&call)?;
    call.host.resize(&call.parameter, rows, cols).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(crate) async fn delete(call: Call) -> Result<Reply> {
    let options =
        RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v"), link: call.query.flag("link") };
    call.host.remove(&call.parameter, options).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn wait(call: Call) -> Result<Reply> {
    let condition = match call.query.get("condition") {
        _ if call.version.below(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => {
            return Err(Failure::new(StatusCode::BAD_REQUEST, format!("invalid condition: {other:?}")));
        }
    };
    let waiting = call.host.wait(&call.parameter, condition).await?;
    // The client starts the container when it has the head, so the head does not wait for the end.
    let body = stream::once(async move {
        let outcome = waiting.done().await;
        let response = WaitResponse {
            error: outcome.error.filter(|text| !text.is_empty()).map(|message| WaitError { message }),
            status_code: outcome.code,
        };
        let mut bytes = serde_json::to_vec(&response).unwrap_or_default();
        bytes.push(b'\n');
        Ok(Bytes::from(bytes))
    });
    Ok(reply::stream("application/json", body))
}

pub(crate) async fn top(call: Call) -> Result<Reply> {
    let arguments = call.query.given("ps_args").filter(|text| !text.is_empty()).unwrap_or("-ef");
    let top = call.host.top(&call.parameter, arguments).await?;
    Ok(reply::json(&TopResponse { processes: top.processes, titles: top.titles }))
}

pub(crate) async fn changes(call: Call) -> Result<Reply> {
    let changes = call.host.changes(&call.parameter).await?;
    let list: Vec<_> = changes.into_iter().map(|(kind, path)| FilesystemChange { path, kind: kind as u8 }).collect();
    // Docker sends null for an unchanged container.
    Ok(reply::json(&Some(list).filter(|list| !list.is_empty())))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.filters(&["label", "label!", "until"])?;
    let until = filters.single("until")?.map(|text| moment_before(text, Timestamp::now())).transpose()?;
    let keep = move |view: &ContainerView| {
        until.is_some_and(|until| view.created > until) || !filters.prune_labels(&view.config.labels)
    };
    let (ids, space_reclaimed) = call.host.prune_containers(&keep).await?;
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let containers_deleted = Some(ids).filter(|ids| !ids.is_empty());
    Ok(reply::json(&ContainersPruned { containers_deleted, space_reclaimed }))
}
