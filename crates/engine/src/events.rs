//! The events of one host: the latest, for replay and for those who listen; and those of all hosts, whose listeners look
//! from above. What is kept is bounded by number and by bytes, whoever listens however slowly: labels can be large.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use droste_model::event::Event;
use droste_model::host::HostId;
use droste_model::time::Timestamp;
use tokio::sync::watch;

/// How many events a host keeps for replay, as Docker does.
const KEPT: usize = 256;

/// How many events a slow listener may lag behind before it loses some.
const LAG: usize = 1024;

/// How many bytes of events are kept, for replay and for slow listeners together.
const BYTES: usize = 4 << 20;

/// What an event takes besides its attributes, and each of them besides its text; roughly.
const OVERHEAD: usize = 100;

/// What the event logs of all hosts share.
#[derive(Default)]
pub(crate) struct Levels {
    /// Held by whoever emits; who takes it alone sees all logs at one moment.
    gate: RwLock<()>,
    log: Log<(HostId, Arc<Event>)>,
}

impl Levels {
    /// What `read` sees while nothing is emitted on any host, and the events of all hosts from then on.
    pub(crate) fn listen<T>(&self, read: impl FnOnce() -> T) -> (T, Listener<(HostId, Arc<Event>)>) {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        (read(), self.log.listen())
    }
}

/// One host's events.
pub(crate) struct EventLog {
    host: HostId,
    levels: Arc<Levels>,
    log: Log<Arc<Event>>,
}

impl EventLog {
    /// The log of a host, beside those of all others.
    pub(crate) fn new(host: HostId, levels: Arc<Levels>) -> Self {
        Self { host, levels, log: Log::default() }
    }

    /// What it shares with the logs of all other hosts.
    pub(crate) fn levels(&self) -> &Arc<Levels> {
        &self.levels
    }

    /// Tells everyone who listens, and keeps the event for replay.
    pub(crate) fn emit(&self, event: Event) {
        let (bytes, event) = (size(&event), Arc::new(event));
        let _gate = self.levels.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.levels.log.push((self.host.clone(), Arc::clone(&event)), bytes, 0);
        self.log.push(event, bytes, KEPT);
    }

    /// The kept events from `since` to `until` (none without `since` or `until`), and the live ones from now on.
    pub(crate) fn listen(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<Arc<Event>>, Listener<Arc<Event>>) {
        let kept = self.log.kept();
        (replay(&kept, since, until), self.log.listen_after(&kept))
    }

    /// The kept events from `since` to `until`; none without either.
    pub(crate) fn replay(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
        replay(&self.log.kept(), since, until)
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.log.told.receiver_count()
    }
}

fn size(event: &Event) -> usize {
    let attributes = event.attributes.iter().map(|(key, value)| key.len() + value.len() + OVERHEAD);
    attributes.sum::<usize>() + event.action.len() + event.actor.len() + OVERHEAD
}

fn replay(kept: &Kept<Arc<Event>>, since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Arc<Event>> {
    if since.is_none() && until.is_none() {
        return Vec::new();
    }
    let wanted =
        |event: &Event| since.is_none_or(|since| event.time >= since) && until.is_none_or(|until| event.time <= until);
    let latest = kept.events.iter().skip(kept.events.len().saturating_sub(KEPT));
    latest.map(|(event, _)| event).filter(|event| wanted(event)).cloned().collect()
}

/// The latest events, numbered from the first ever, each with its size.
struct Kept<E> {
    events: VecDeque<(E, usize)>,
    bytes: usize,
    /// The number of the next one.
    next: u64,
}

impl<E> Kept<E> {
    /// Forgets the oldest until no more than `most` are left, and not too many bytes; the latest stays.
    fn shorten(&mut self, most: usize) {
        while self.events.len() > most || (self.bytes > BYTES && self.events.len() > 1) {
            let Some((_, bytes)) = self.events.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    /// The number of the oldest that is kept.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }
}

/// A log whose listeners read from it what it keeps.
struct Log<E> {
    kept: Arc<Mutex<Kept<E>>>,
    /// Says that there is something new; gone with the log.
    told: watch::Sender<()>,
}

impl<E> Default for Log<E> {
    fn default() -> Self {
        let kept = Kept { events: VecDeque::new(), bytes: 0, next: 0 };
        Self { kept: Arc::new(Mutex::new(kept)), told: watch::channel(()).0 }
    }
}

impl<E> Log<E> {
    fn kept(&self) -> MutexGuard<'_, Kept<E>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event; `most` are kept while nobody listens.
    fn push(&self, event: E, bytes: usize, most: usize) {
        let mut kept = self.kept();
        kept.events.push_back((event, bytes));
        kept.bytes += bytes;
        kept.next += 1;
        kept.shorten(if self.told.receiver_count() == 0 { most } else { LAG });
        drop(kept);
        self.told.send_replace(());
    }

    fn listen(&self) -> Listener<E> {
        self.listen_after(&self.kept())
    }

    /// Listens to what comes after what is kept now.
    fn listen_after(&self, now: &Kept<E>) -> Listener<E> {
        Listener { kept: Arc::clone(&self.kept), next: now.next, told: self.told.subscribe() }
    }
}

/// Gets the events of a log as they come.
pub struct Listener<E> {
    kept: Arc<Mutex<Kept<E>>>,
    next: u64,
    told: watch::Receiver<()>,
}

/// Why a listener got no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// It was too slow for so many.
    Missed(u64),
    /// No more come.
    Over,
}

impl<E: Clone> Listener<E> {
    /// The next event.
    pub async fn recv(&mut self) -> Result<E, Unheard> {
        loop {
            self.told.borrow_and_update();
            if let Some(found) = self.take() {
                return found;
            }
            let more = self.told.changed().await;
            more.map_err(|_| Unheard::Over)?;
        }
    }

    fn take(&mut self) -> Option<Result<E, Unheard>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = kept.oldest().saturating_sub(self.next);
        if missed > 0 {
            self.next = kept.oldest();
            return Some(Err(Unheard::Missed(missed)));
        }
        let (event, _) = kept.events.get(usize::try_from(self.next - kept.oldest()).ok()?)?;
        self.next += 1;
        Some(Ok(event.clone()))
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

    fn large(second: i64) -> Event {
        let attributes = [("label".to_owned(), "x".repeat(1 << 20))].into();
        Event { attributes, ..event(second) }
    }

    fn log() -> EventLog {
        EventLog::new(HostId::Machine, Arc::default())
    }

    #[test]
    fn replays_what_was_asked_for_and_keeps_the_latest() {
        let log = log();
        let listeners = (log.listen(None, None).1, log.levels.listen(|| ()).1);
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
        drop(listeners);
        log.emit(event(300));
        assert_eq!(log.log.kept().events.len(), KEPT, "what listeners needed goes with them");
        assert_eq!(log.levels.log.kept().events.len(), 0);
    }

    #[tokio::test]
    async fn a_listener_gets_what_comes_until_the_log_is_gone() {
        let log = log();
        log.emit(event(1));
        let (_, mut live) = log.listen(None, None);
        log.emit(event(2));
        log.emit(event(3));
        assert_eq!(log.listeners(), 1);
        drop(log);
        assert_eq!(live.recv().await.unwrap().actor, "2");
        assert_eq!(live.recv().await.unwrap().actor, "3");
        assert_eq!(live.recv().await, Err(Unheard::Over));
    }

    #[tokio::test]
    async fn a_slow_listener_loses_the_oldest() {
        let log = log();
        let (_, mut live) = log.listen(None, None);
        for second in 0..LAG + 3 {
            log.emit(event(i64::try_from(second).unwrap()));
        }
        assert_eq!(live.recv().await, Err(Unheard::Missed(3)));
        assert_eq!(live.recv().await.unwrap().actor, "3");
    }

    #[tokio::test]
    async fn bytes_are_bounded_however_slow_a_listener_is() {
        let log = log();
        let ((), mut above) = log.levels.listen(|| ());
        for second in 0..20 {
            log.emit(large(second));
        }
        assert!(log.log.kept().bytes <= BYTES && log.levels.log.kept().bytes <= BYTES);
        assert_eq!(log.replay(Some(Timestamp::from_secs(0)), None).len(), 3);
        assert_eq!(above.recv().await, Err(Unheard::Missed(17)));
        let huge = Event { attributes: [("label".to_owned(), "x".repeat(2 * BYTES))].into(), ..event(20) };
        log.emit(huge);
        assert_eq!(log.log.kept().events.len(), 1, "the latest is told, whatever it has");
        assert_eq!(above.recv().await, Err(Unheard::Missed(3)));
        assert_eq!(above.recv().await.unwrap().1.actor, "20");
    }
}
