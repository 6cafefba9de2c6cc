//! From a request to its handler: host, version, route, grant.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use droste_api::query::{self, Query};
use droste_api::routes::{Answer, Effect, Match, Method, Operation, Route, find};
use droste_api::version::{OLDEST, split_path};
use droste_engine::{Engine, Host};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use percent_encoding::percent_decode_str;
use tracing::Instrument;

use crate::audit::{AuditLog, Peer};
use crate::call::Call;
use crate::error::{Failure, Result};
use crate::handlers;
use crate::http::{Bytes, Exchange, Reply, ReplyBody};
use crate::reply;

pub(crate) const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
                                        join\" to connect this node to swarm and try again.";
const NO_SWARMS: &str =
    "swarms are not part of Droste: 'docker compose up' starts a stack's services on this host, without a swarm";

/// Names the host that a request acts on, below the machine. Only the machine's own sockets listen to it.
const AT_HEADER: &str = "droste-at";

/// What a listener's connections may act on.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The host.
    pub(crate) host: Host,
    /// The engine, for the machine's administrator, who may act on any host below.
    pub(crate) engine: Option<Arc<Engine>>,
    /// Where changes are written down.
    pub(crate) audit: Arc<AuditLog>,
}

static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// Answers a request.
pub(crate) async fn answer(entry: Entry, peer: Peer, exchange: Exchange) -> Reply {
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let span =
        tracing::debug_span!("request", id = request, method = %exchange.head.method, path = exchange.head.uri.path());
    let outcome = route(entry, peer, exchange).instrument(span.clone()).await;
    let _in_span = span.enter();
    let mut reply = outcome.unwrap_or_else(|failure| {
        let Failure { status, message, log } = &failure;
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), cause = log.as_deref(), "{message}");
        } else {
            tracing::debug!(status = status.as_u16(), cause = log.as_deref(), "{message}");
        }
        Reply::from(failure)
    });
    tracing::debug!(status = reply.status().as_u16(), "answered");
    reply::add_common(reply.headers_mut());
    reply
}

async fn route(entry: Entry, peer: Peer, exchange: Exchange) -> Result<Reply> {
    let Exchange { head, body, mut takeover } = exchange;
    if head.method == hyper::Method::OPTIONS {
        return Ok(reply::empty(StatusCode::OK));
    }
    if let Some(clean) = cleaned(head.uri.path()) {
        return Ok(moved(&clean));
    }
    let (version, path) = split_path(head.uri.path());
    let method = Method::parse(head.method.as_str()).ok_or_else(Failure::no_page)?;
    let path = percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(""));
    // Whether a version is served is said only of paths that exist in one that is.
    let Match { route, parameter } = find(method, &path, version.max(OLDEST)).ok_or_else(Failure::no_page)?;
    if let Err(error) = version.check() {
        return Ok(refused_version(version, error.message));
    }
    let host = from_above(&entry, route).and_then(|()| host(&entry, &head.headers));
    let query = head.uri.query().unwrap_or_default();
    query::check(query)?;
    let query = Query::parse(query);
    let acted_on = host.as_ref().unwrap_or(&entry.host);
    let pending = entry.audit.begin(&peer, acted_on, route, (version, parameter, &query));
    if let Some(pending) = pending.clone() {
        takeover.tell(move |head| pending.taken_over(head));
    }
    let parameter = parameter.to_owned();
    let outcome = match host {
        Ok(host) => {
            let call = Call { host, version, parameter, query, headers: head.headers, body: Some(body), takeover };
            decided(route, method, call).await
        }
        Err(failure) => Err(failure),
    };
    if let Some(pending) = pending {
        pending.end(&outcome);
    }
    outcome
}

/// What the route does, unless the socket's grant or the host's limit of requests is against it.
async fn decided(route: &'static Route, method: Method, mut call: Call) -> Result<Reply> {
    if route.effect == Effect::Changes && call.host.is_read_only() {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "this socket is read-only (label droste.socket=parent-ro): it can look at its host but not change it",
        ));
    }
    let turn = Arc::new(call.host.take_turn()?);
    call.takeover.hold(Arc::clone(&turn));
    let reply = match route.answer {
        Answer::Does(operation) => act(operation, method, call).await,
        Answer::Later(text) => Err(later(route.pattern, &call, text)),
        Answer::NoSwarm => Err(no_swarm(route.pattern)),
        Answer::NoPlugins => no_plugins(route.pattern, &call),
    }?;
    Ok(reply.map(|body| body.holding(turn)))
}

/// What an engine outside a swarm says; whoever would make or join one is not sent round in a circle.
fn no_swarm(pattern: &str) -> Failure {
    let text = match pattern {
        "/swarm/init" | "/swarm/join" => NO_SWARMS,
        "/swarm/leave" => "This node is not part of a swarm",
        _ => NOT_A_MANAGER,
    };
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Refuses a look at all levels through a socket that belongs to one host.
fn from_above(entry: &Entry, route: &Route) -> Result<()> {
    if route.from_above && entry.engine.is_none() {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "this socket belongs to one host: only the machine's own socket looks at all levels",
        ));
    }
    Ok(())
}

/// The host that the request acts on: the connection's, or one below the machine's if its administrator says so.
fn host(entry: &Entry, headers: &hyper::HeaderMap) -> Result<Host> {
    match (headers.get(AT_HEADER), &entry.engine) {
        (Some(path), Some(engine)) => {
            let path = path.to_str().map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "invalid Droste-At header"))?;
            Ok(engine.at(path)?)
        }
        (Some(_), None) => Err(Failure::new(
            StatusCode::FORBIDDEN,
            "this socket belongs to one host: only the machine's own socket acts on others (Droste-At)",
        )),
        (None, _) => Ok(entry.host.clone()),
    }
}

/// The path without empty and dotted parts, if it has any; Docker redirects there.
fn cleaned(path: &str) -> Option<String> {
    let odd = |part: &str| matches!(part, "" | "." | "..");
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let (last, before) = parts.split_last()?;
    if !before.iter().any(|part| odd(part)) && !matches!(*last, "." | "..") {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in parts {
        match part {
            "" | "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

fn moved(to: &str) -> Reply {
    let mut reply = reply::empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(to) {
        reply.headers_mut().insert(LOCATION, location);
    }
    reply
}

/// Docker answers versions below 1.24 in plain text, since their clients read no JSON.
fn refused_version(version: droste_api::ApiVersion, message: String) -> Reply {
    if version >= OLDEST {
        return Failure::new(StatusCode::BAD_REQUEST, message).into();
    }
    let text = Bytes::from(format!("{message}\n"));
    let mut reply = reply::with_body(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", ReplyBody::Whole(text));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

fn later(pattern: &str, call: &Call, text: &str) -> Failure {
    match pattern {
        "/session" if !call.wants_upgrade() => Failure::new(StatusCode::BAD_REQUEST, "no upgrade proto in request"),
        "/grpc" if !call.wants_upgrade() => {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "no upgrade proto in request")
        }
        _ => Failure::new(StatusCode::NOT_IMPLEMENTED, text),
    }
}

fn no_plugins(pattern: &str, call: &Call) -> Result<Reply> {
    match pattern {
        "/plugins" => Ok(reply::json(&[(); 0])),
        _ if call.parameter.is_empty() => {
            Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "plugins are not part of Droste"))
        }
        _ => Err(Failure::new(StatusCode::NOT_FOUND, format!("plugin {:?} not found", call.parameter))),
    }
}

async fn act(operation: Operation, method: Method, call: Call) -> Result<Reply> {
    use handlers::{
        archive, attach, containers, events, exec, hosts, images, logs, networks, stats, system, transfer, volumes,
        websocket,
    };
    match operation {
        Operation::ContainerList => containers::list(call).await,
        Operation::ContainerCreate => containers::create(call).await,
        Operation::ContainerInspect => containers::inspect(call).await,
        Operation::ContainerTop => containers::top(call).await,
        Operation::ContainerLogs => logs::logs(call).await,
        Operation::ContainerChanges => containers::changes(call).await,
        Operation::ContainerExport => archive::export(call).await,
        Operation::ContainerStats => stats::stats(call).await,
        Operation::ContainerResize => containers::resize(call).await,
        Operation::ContainerStart => containers::start(call).await,
        Operation::ContainerStop => containers::stop(call).await,
        Operation::ContainerRestart => containers::restart(call).await,
        Operation::ContainerKill => containers::kill(call).await,
        Operation::ContainerUpdate => containers::update(call).await,
        Operation::ContainerRename => containers::rename(call).await,
        Operation::ContainerPause => containers::pause(call).await,
        Operation::ContainerUnpause => containers::unpause(call).await,
        Operation::ContainerAttach => attach::attach(call).await,
        Operation::ContainerAttachWebsocket => websocket::attach(call).await,
        Operation::ContainerWait => containers::wait(call).await,
        Operation::ContainerDelete => containers::delete(call).await,
        Operation::ContainerPrune => containers::prune(call).await,
        Operation::ArchiveStat => archive::stat(call).await,
        Operation::ArchiveGet => archive::get(call).await,
        Operation::ArchivePut => archive::put(call).await,
        Operation::ExecCreate => exec::create(call).await,
        Operation::ExecStart => exec::start(call).await,
        Operation::ExecInspect => exec::inspect(call).await,
        Operation::ExecResize => exec::resize(call).await,
        Operation::ImageList => images::list(call).await,
        Operation::ImageCreate => transfer::create(call).await,
        Operation::ImageInspect => images::inspect(call).await,
        Operation::ImageHistory => images::history(call).await,
        Operation::ImagePush => transfer::push(call).await,
        Operation::ImageTag => images::tag(call).await,
        Operation::ImageDelete => images::delete(call).await,
        Operation::ImagePrune => images::prune(call).await,
        Operation::ImageSave => transfer::save_one(call).await,
        Operation::ImageSaveMany => transfer::save_many(call).await,
        Operation::ImageLoad => transfer::load(call).await,
        Operation::ImageCommit => images::commit(call).await,
        Operation::DistributionInspect => transfer::distribution(call).await,
        Operation::NetworkList => networks::list(call).await,
        Operation::NetworkInspect => networks::inspect(call).await,
        Operation::NetworkCreate => networks::create(call).await,
        Operation::NetworkDelete => networks::delete(call).await,
        Operation::NetworkConnect => networks::connect(call).await,
        Operation::NetworkDisconnect => networks::disconnect(call).await,
        Operation::NetworkPrune => networks::prune(call).await,
        Operation::VolumePrune => volumes::prune(call).await,
        Operation::VolumeCreate => volumes::create(call).await,
        Operation::VolumeDelete => volumes::delete(call).await,
        Operation::VolumeUpdate => volumes::update(call).await,
        Operation::BuildPrune => networks::prune_builds(call).await,
        Operation::VolumeList => volumes::list(call).await,
        Operation::VolumeInspect => volumes::inspect(call).await,
        Operation::Ping => system::ping(method == Method::Head),
        Operation::Version => system::version(call).await,
        Operation::Info => system::info(call).await,
        Operation::Events => events::events(call).await,
        Operation::Auth => transfer::auth(call).await,
        Operation::DiskUsage => system::disk_usage(call).await,
        Operation::DrosteTree => system::tree(call).await,
        Operation::DrosteContainers => containers::list_levels(call).await,
        Operation::DrosteEvents => events::events_of_levels(call).await,
        Operation::DrosteHosts => hosts::list(call).await,
        Operation::DrosteHost => hosts::inspect(call).await,
        Operation::DrosteHostLimits => hosts::limits(call).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_cleaned() {
        for (path, clean) in [
            ("//info", Some("/info")),
            ("/containers//json", Some("/containers/json")),
            ("/a/../b", Some("/b")),
            ("/a/.", Some("/a")),
            ("/info", None),
            ("/networks/", None),
            ("/", None),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }
}
