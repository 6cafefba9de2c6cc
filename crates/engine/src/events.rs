//! The events of one host: the latest, for replay, and a channel for those who listen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use droste_model::event::Event;
use droste_model::time::Timestamp;
use tokio::sync::broadcast;

/// How many events a host keeps for replay, as Docker does.
const KEPT: usize = 256;

/// How many events a slow listener may lag behind before it loses some.
const LAG: usize = 1024;

/// One host's events.
pub(crate) struct EventLog {
    latest: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { latest: Mutex::default(), live: broadcast::channel(LAG).0 }
    }
}

impl EventLog {
    /// Tells everyone who listens, and keeps the event for replay.
    pub(crate) fn emit(&self, event: Event) {
        let event = Arc::new(event);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(Arc::clone(&event));
        // Sent under the lock, so that a new listener sees each event once: replayed or live.
        let _ = self.live.send(event);
    }

    /// The kept events from `since` to `until` (none without `since` or `until`), and the live ones from now on.
    pub(crate) fn listen(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |event: &Event| {
            since.is_none_or(|since| event.time >= since) && until.is_none_or(|until| event.time <= until)
        };
        let replay = if since.is_none() && until.is_none() {
            Vec::new()
        } else {
            latest.iter().filter(|event| wanted(event)).cloned().collect()
        };
        (replay, self.live.subscribe())
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.live.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use droste_model::event::EventType;

    use super::*;

    fn event(second: i64) -> Event {
        Event {
            kind: EventType::Container,
            action: "start".to_owned(),
            actor: second.to_string(),
            attributes: Default::default(),
            time: Timestamp::from_secs(second),
        }
    }

    #[test]
    fn replays_what_was_asked_for_and_keeps_the_latest() {
        let log = EventLog::default();
        for second in 0..300 {
            log.emit(event(second));
        }
        let replay = |since: Option<i64>, until: Option<i64>| {
            log.listen(since.map(Timestamp::from_secs), until.map(Timestamp::from_secs)).0.len()
        };
        assert_eq!(replay(None, None), 0);
        assert_eq!(replay(Some(0), None), KEPT);
        assert_eq!(replay(Some(298), None), 2);
        assert_eq!(replay(Some(290), Some(294)), 5);
    }

    #[test]
    fn a_listener_gets_what_comes() {
        let log = EventLog::default();
        let (_, mut live) = log.listen(None, None);
        log.emit(event(1));
        assert_eq!(live.try_recv().unwrap().actor, "1");
        assert_eq!(log.listeners(), 1);
    }
}
