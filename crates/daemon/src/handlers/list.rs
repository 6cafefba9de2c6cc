//! `GET /containers/json`: which containers a client asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use droste_api::RequestError;
use droste_api::filters::Filters;
use droste_api::query::atoi;
use droste_engine::Host;
use droste_engine::view::ContainerView;
use droste_model::state::{HealthStatus, State};

use crate::call::Call;
use crate::error::Result;

const KNOWN: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "capability",
];

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// What the filters say, checked.
struct Wanted {
    filters: Filters,
    exited: BTreeSet<i64>,
    ancestors: Option<BTreeSet<String>>,
    before: Option<Arc<ContainerView>>,
    since: Option<Arc<ContainerView>>,
    all: bool,
}

/// How many a client wants at most.
pub(crate) fn limit(call: &Call) -> Result<Option<usize>> {
    Ok(call.query.number("limit")?.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()))
}

/// The containers of a host to list, newest first.
pub(crate) fn containers(call: &Call, host: &Host) -> Result<Vec<Arc<ContainerView>>> {
    let limit = limit(call)?;
    let wanted = wanted(call, host, limit.is_some())?;
    let all = host.containers().into_iter().filter(|view| wanted.has(view));
    Ok(match limit {
        Some(limit) => all.take(limit).collect(),
        None => all.collect(),
    })
}

fn wanted(call: &Call, host: &Host, limited: bool) -> Result<Wanted> {
    let filters = call.filters(&KNOWN)?;
    one_of(&filters, "status", "state", &STATES)?;
    one_of(&filters, "health", "health", &HEALTHS)?;
    filters.flag("is-task")?;
    for name in ["publish", "expose"] {
        filters.values(name).try_for_each(|value| check_ports(name, value))?;
    }
    let exited = filters
        .values("exited")
        .map(|text| {
            atoi(text)
                .map_err(|error| RequestError::invalid(format!("invalid filter 'exited={text}': {}", error.message)))
        })
        .collect::<Result<_, _>>()?;
    let other = |name: &str| filters.values(name).last().map(|typed| host.container(typed)).transpose();
    let (before, since) = (other("before")?, other("since")?);
    let all = call.query.flag("all") || limited || filters.has("status");
    let ancestors = filters.has("ancestor").then(|| ancestors(host, &filters));
    Ok(Wanted { exited, ancestors, before, since, all, filters })
}

fn check_ports(name: &str, value: &str) -> Result<(), RequestError> {
    let range = value.split_once('/').map_or(value, |(range, _)| range);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match [first, last].iter().find(|part| part.parse::<u16>().is_err()) {
        Some(part) => Err(RequestError::server(format!(
            "error while looking up for {name} {value}: strconv.ParseUint: parsing {part:?}: invalid syntax"
        ))),
        None => Ok(()),
    }
}

fn one_of(filters: &Filters, name: &str, word: &str, known: &[&str]) -> Result<(), RequestError> {
    match filters.values(name).find(|value| !known.contains(value)) {
        Some(value) => Err(RequestError::invalid(format!(
            "invalid filter '{name}={value}': invalid value for {word} ({value}): must be one of {}",
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// The ids of images that a filter names, and of those made of them.
fn ancestors(host: &Host, filters: &Filters) -> BTreeSet<String> {
    let named: Vec<_> = filters.values("ancestor").filter_map(|typed| host.image(typed, None).ok()).collect();
    let made_of = |layers: &[droste_model::digest::Digest]| {
        named.iter().any(|image| !image.image.layers().is_empty() && layers.starts_with(image.image.layers()))
    };
    let derived = host.images().into_iter().filter(|image| made_of(image.image.layers())).map(|image| image.id);
    derived.chain(named.iter().map(|image| image.id.clone())).collect()
}

impl Wanted {
    fn has(&self, view: &ContainerView) -> bool {
        let filters = &self.filters;
        let running = matches!(view.state, State::Running(_) | State::Restarting { .. });
        (self.all || running)
            && filters.prefix("id", view.id.as_str())
            && (filters.matches("name", view.name.as_str()) || filters.matches("name", &format!("/{}", view.name)))
            && filters.labels("label", &view.config.labels)
            && filters.exact("status", view.state.word())
            && filters.exact("health", health(view))
            && filters.any("isolation", |value| value == "default" || value.is_empty())
            && filters.any("is-task", |value| !matches!(value, "1" | "true"))
            && (self.exited.is_empty() || exit_code(view).is_some_and(|code| self.exited.contains(&code)))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&view.image_id))
            && self.before.as_ref().is_none_or(|other| view.created < other.created)
            && self.since.as_ref().is_none_or(|other| view.created > other.created)
            && filters.any("network", |name| on_network(view, name))
            && filters.any("volume", |text| has_volume(view, text))
            && filters.any("publish", |text| publishes(view, text))
            && filters.any("expose", |text| exposes(view, text))
    }
}

fn health(view: &ContainerView) -> &'static str {
    view.health.as_ref().map_or("none", |health| match health.status {
        HealthStatus::Starting => "starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    })
}

/// The exit code of a container that has run and does not run.
fn exit_code(view: &ContainerView) -> Option<i64> {
    match &view.state {
        State::Exited { exit, .. } => Some(exit.code.into()),
        _ => None,
    }
}

fn on_network(view: &ContainerView, name: &str) -> bool {
    view.networks.iter().any(|(known, endpoint)| {
        known == name || (!endpoint.network_id.is_empty() && endpoint.network_id.starts_with(name))
    })
}

fn has_volume(view: &ContainerView, text: &str) -> bool {
    view.mounts.iter().any(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        name == text || mount.destination == text
    })
}

/// Whether a port lies in `FIRST[-LAST][/PROTOCOL]`.
fn in_range(port: u16, protocol: &str, text: &str) -> bool {
    let (range, wanted) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let bounds = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    wanted == protocol && bounds.is_some_and(|(first, last)| (first..=last).contains(&port))
}

fn publishes(view: &ContainerView, text: &str) -> bool {
    view.ports.iter().any(|port| in_range(port.host_port, port.container.protocol.as_str(), text))
}

fn exposes(view: &ContainerView, text: &str) -> bool {
    let published = view.ports.iter().map(|port| port.container);
    let exposed = view.config.exposed_ports.iter().copied();
    published.chain(exposed).any(|port| in_range(port.port, port.protocol.as_str(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_in_ranges() {
        assert!(in_range(80, "tcp", "80") && in_range(80, "tcp", "79-81/tcp"));
        assert!(!in_range(80, "udp", "80") && !in_range(80, "tcp", "81-90") && !in_range(80, "tcp", "x"));
    }
}
