//! Events, of the past and as they happen.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use droste_api::filters::Filters;
use droste_api::wire::{EventActor, EventMessage};
use droste_api::{ApiVersion, shape};
use droste_engine::{LevelEvents, Listener, Unheard};
use droste_model::event::{Event, EventType};
use droste_model::time::Timestamp;
use futures_util::stream;
use hyper::StatusCode;

use crate::call::Call;
use crate::error::{Failure, Result};
use crate::http::{Bytes, Reply};
use crate::reply;

/// An event, and the path of its host where several tell.
type Told = (Option<String>, Arc<Event>);

/// Where events come from as they happen.
enum Live {
    Host(Listener<Arc<Event>>),
    Levels(LevelEvents),
}

impl Live {
    async fn recv(&mut self) -> std::result::Result<Told, Unheard> {
        match self {
            Live::Host(live) => Ok((None, live.recv().await?)),
            Live::Levels(live) => live.recv().await.map(|(path, event)| (Some(path), event)),
        }
    }
}

/// What is still to be told.
struct Feed {
    past: VecDeque<Told>,
    live: Option<Live>,
    until: Option<Timestamp>,
    filters: Filters,
    version: ApiVersion,
}

/// From when to when, as the client says.
type Span = (Option<Timestamp>, Option<Timestamp>);

pub(crate) async fn events(call: Call) -> Result<Reply> {
    feed(&call, |(since, until)| {
        let (past, live) = call.host.events(since, until);
        (past.into_iter().map(|event| (None, event)).collect(), live.map(Live::Host))
    })
}

/// `GET /droste/events`: those of this host and of all hosts below it.
pub(crate) async fn events_of_levels(call: Call) -> Result<Reply> {
    feed(&call, |(since, until)| {
        let (past, live) = call.host.events_of_levels(since, until);
        (past.into_iter().map(|(path, event)| (Some(path), event)).collect(), live.map(Live::Levels))
    })
}

fn feed(call: &Call, listen: impl FnOnce(Span) -> (VecDeque<Told>, Option<Live>)) -> Result<Reply> {
    let (since, until) = (call.query.moment("since")?, call.query.moment("until")?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        let (since, until) = (call.query.get("since"), call.query.get("until"));
        let text = format!("`since` time ({since}) cannot be after `until` time ({until})");
        return Err(Failure::new(StatusCode::BAD_REQUEST, text));
    }
    // Docker takes unknown filters of events without a word; they hold for no event and are ignored.
    let filters = Filters::parse(call.query.get("filters"))?;
    let (past, live) = listen((since, until));
    let feed = Feed { past, live, until, filters, version: call.version };
    let body = stream::unfold(feed, |mut feed| async move {
        let line = feed.next().await?;
        Some((Ok::<_, io::Error>(line), feed))
    });
    Ok(reply::stream("application/json", body))
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (host, event) = match self.past.pop_front() {
                Some(told) => told,
                None => self.live().await?,
            };
            if self.until.is_some_and(|until| event.time > until) {
                return None;
            }
            if fits(&self.filters, &event) {
                let shown = EventMessage { host, ..message(&event) };
                let mut line = serde_json::to_vec(&shape::event(shown, self.version)).unwrap_or_default();
                line.push(b'\n');
                return Some(line.into());
            }
        }
    }

    async fn live(&mut self) -> Option<Told> {
        let live = self.live.as_mut()?;
        let wait = self.until.map(|until| until.since(Timestamp::now()));
        loop {
            let received = match wait {
                Some(wait) => tokio::time::timeout(wait, live.recv()).await.ok()?,
                None => live.recv().await,
            };
            match received {
                Ok(told) => return Some(told),
                Err(Unheard::Missed(missed)) => tracing::warn!(missed, "a client was too slow for the events"),
                Err(Unheard::Over) => return None,
            }
        }
    }
}

/// An event in Docker's shape, with the fields of versions below 1.52.
fn message(event: &Event) -> EventMessage {
    let legacy = matches!(event.kind, EventType::Container | EventType::Image);
    let text = |text: &str| if legacy { text.to_owned() } else { String::new() };
    let from = match event.kind {
        EventType::Container => event.attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    EventMessage {
        status: text(&event.action),
        id: text(&event.actor),
        from,
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.time.as_secs(),
        time_nano: event.time.as_nanos(),
        host: None,
    }
}

fn fits(filters: &Filters, event: &Event) -> bool {
    let is = |kind: EventType| event.kind == kind;
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str).unwrap_or_default();
    let named = |filter: &str, kind: EventType| {
        filters
            .any(filter, |value| is(kind) && (event.actor.starts_with(value) || attribute("name").starts_with(value)))
    };
    filters.any("event", |value| is_action(&event.action, value))
        && filters.exact("type", event.kind.as_str())
        && filters.exact("scope", "local")
        && named("daemon", EventType::Daemon)
        && named("container", EventType::Container)
        && named("volume", EventType::Volume)
        && named("network", EventType::Network)
        && !filters.has("plugin")
        && filters.any("image", |value| is_image(event, value))
        && filters.labels("label", &event.attributes)
}

/// `exec_create: ls` is an `exec_create`.
fn is_action(action: &str, value: &str) -> bool {
    action == value || action.strip_prefix(value).is_some_and(|rest| rest.starts_with(':'))
}

fn is_image(event: &Event, value: &str) -> bool {
    let name = match event.kind {
        EventType::Image => event.attributes.get("name"),
        _ => event.attributes.get("image"),
    };
    let without_tag = |text: &str| match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name.to_owned(),
        _ => text.to_owned(),
    };
    let named = name.is_some_and(|name| name == value || without_tag(name) == value);
    named || (event.kind == EventType::Image && (event.actor == value || without_tag(&event.actor) == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("a", "b")];
        Event {
            kind: EventType::Container,
            action: "exec_create: ls".to_owned(),
            actor: "abcdef".to_owned(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            time: Timestamp::from_nanos(1_500_000_000),
        }
    }

    #[test]
    fn filters_are_dockers() {
        for (filters, expected) in [
            ("{}", true),
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"container":["web"],"type":["container"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"network":["web"]}"#, false),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:2"]}"#, false),
            (r#"{"label":["a=b"]}"#, true),
            (r#"{"label":["a=c"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
        ] {
            assert_eq!(fits(&Filters::parse(filters).unwrap(), &event()), expected, "{filters}");
        }
    }

    #[test]
    fn messages_have_the_fields_of_their_version() {
        let json = |minor| serde_json::to_string(&shape::event(message(&event()), ApiVersion::new(1, minor))).unwrap();
        let tail = r#""Type":"container","Action":"exec_create: ls","Actor":{"ID":"abcdef","Attributes":{"a":"b","image":"busybox:1","name":"web"}},"scope":"local","time":1,"timeNano":1500000000}"#;
        let head = r#"{"status":"exec_create: ls","id":"abcdef","from":"busybox:1","#;
        assert_eq!(json(51), format!("{head}{tail}"));
        assert_eq!(json(52), format!("{{{tail}"));
    }
}
