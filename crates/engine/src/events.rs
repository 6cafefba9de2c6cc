//! The events of one host: the latest, for replay, and a channel for those who listen; and one channel for the events
//! of all hosts, whose listeners look from above.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use droste_model::event::Event;
use droste_model::host::HostId;
use droste_model::time::Timestamp;
use tokio::sync::broadcast;

/// How many events a host keeps for replay, as Docker does.
const KEPT: usize = 256;

/// How many events a slow listener may lag behind before it loses some.
const LAG: usize = 1024;

/// What the event logs of all hosts share.
pub(crate) struct Levels {
    /// Held by whoever emits; who takes it alone sees all logs at one moment.
    gate: RwLock<()>,
    live: broadcast::Sender<(HostId, Arc<Event>)>,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gate: RwLock::default(), live: broadcast::channel(LAG).0 }
    }
}

impl Levels {
    /// What `read` sees while nothing is emitted on any host, and the events of all hosts from then on.
    pub(crate) fn listen<T>(&self, read: impl FnOnce() -> T) -> (T, broadcast::Receiver<(HostId, Arc<Event>)>) {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        (read(), self.live.subscribe())
    }
}

/// One host's events.
pub(crate) struct EventLog {
    host: HostId,
    levels: Arc<Levels>,
    latest: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl EventLog {
    /// The log of a host, beside those of all others.
    pub(crate) fn new(host: HostId, levels: Arc<Levels>) -> Self {
        Self { host, levels, latest: Mutex::default(), live: broadcast::channel(LAG).0 }
    }

    /// What it shares with the logs of all other hosts.
    pub(crate) fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Tells everyone who listens, and keeps the event for replay.
    pub(crate) fn emit(&self, event: Event) {
        let event = Arc::new(event);
        let _gate = self.levels.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(Arc::clone(&event));
        // Sent under the lock, so that a new listener sees each event once: replayed or live.
        let _ = self.levels.live.send((self.host.clone(), Arc::clone(&event)));
        let _ = self.live.send(event);
    }

    /// The kept events from `since` to `until` (none without `since` or `until`), and the live ones from now on.
    pub(crate) fn listen(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (replay(&latest, since, until), self.live.subscribe())
    }

    /// The kept events from `since` to `until`; none without either.
    pub(crate) fn replay(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
        replay(&self.latest.lock().unwrap_or_else(PoisonError::into_inner), since, until)
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.live.receiver_count()
    }
}

fn replay(kept: &VecDeque<Arc<Event>>, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
    if since.is_none() && until.is_none() {
        return Vec::new();
    }
    let wanted =
        |event: &Event| since.is_none_or(|since| event.time >= since) && until.is_none_or(|until| event.time <= until);
    kept.iter().filter(|event| wanted(event)).cloned().collect()
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
        let log = EventLog::new(HostId::Machine, Arc::default());
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
        let log = EventLog::new(HostId::Machine, Arc::default());
        let (_, mut live) = log.listen(None, None);
        log.emit(event(1));
        assert_eq!(live.try_recv().unwrap().actor, "1");
        assert_eq!(log.listeners(), 1);
    }
}
