//! What hosts use and may use: the one place that decides whether a host may have one more of something.
//!
//! Each host has an [`Account`]. What is used on a host counts on every host above it, so the sum over a subtree stays
//! within its limit, and a host can give nothing away that it does not have. Whoever makes something takes a [`Place`]
//! for it first and keeps it beside the thing; dropping it gives it back. Nothing of it is stored: after a start of the
//! daemon the things that are put back take their places again.
//!
//! Bytes on disk and of logs are measured (`usage`) and then held as places like everything else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_model::limit::{Limits, Resource};

use crate::error::{Error, Result, Scarce};

/// How many resources there are.
const COUNT: usize = Resource::ALL.len();

/// What a host may have unless somebody says otherwise; `None` is without limit of its own.
fn default_limit(resource: Resource) -> Option<u64> {
    match resource {
        Resource::Containers | Resource::Volumes | Resource::Execs => Some(4096),
        Resource::Networks => Some(512),
        Resource::Tags => Some(8192),
        Resource::Requests => Some(2048),
        Resource::Config => Some(256 << 20),
        // Shares of the file system, which the ledger knows.
        Resource::Disk | Resource::Logs => None,
    }
}

/// The part of the file system that one host may fill unless somebody says otherwise, in percent.
const DISK_SHARE: u64 = 80;

/// The part that its logs may fill.
const LOGS_SHARE: u64 = 20;

/// What all hosts' accounts share: one lock, so that a place is taken on all levels at once or on none.
#[derive(Debug)]
struct Ledger {
    turn: Mutex<()>,
    /// Bytes that the data root's file system has, if that is known.
    space: Option<u64>,
}

impl Ledger {
    fn default_limit(&self, resource: Resource) -> Option<u64> {
        let share = |percent: u64| self.space.map(|space| space / 100 * percent);
        match resource {
            Resource::Disk => share(DISK_SHARE),
            Resource::Logs => share(LOGS_SHARE),
            other => default_limit(other),
        }
    }
}

/// What one host uses and may use.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    parent: Option<Arc<Account>>,
    /// What the host's clients and its creator know it by.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: [u64; COUNT],
    set: Limits,
    closed: bool,
}

/// A limit and what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// Of what.
    pub resource: Resource,
    /// The least of the host's own limit and those of the hosts above; `None` without one.
    pub limit: Option<u64>,
    /// The host's own was set by somebody, and is not the default.
    pub is_set: bool,
    /// What the host and all below it use.
    pub used: u64,
}

/// The right to have a request answered, given back when dropped.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "its drop is what counts")] Place);

/// All places of one object.
pub(crate) type Places = Vec<Place>;

/// So much of a resource, taken by something that exists. Dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Place {
    account: Arc<Account>,
    resource: Resource,
    amount: u64,
}

impl Place {
    /// Whether it is one of this resource.
    pub(crate) fn is(&self, resource: Resource) -> bool {
        self.resource == resource
    }

    /// Takes more or less from now on, whatever the limit is.
    pub(crate) fn resize(&mut self, amount: u64) {
        self.account.change(self.resource, self.amount, amount);
        self.amount = amount;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.give_back(self.resource, self.amount);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(resource: Resource) -> usize {
    resource as usize
}

impl Account {
    /// The machine's: without limits. Hosts below it share a file system of so many bytes.
    pub(crate) fn machine(space: Option<u64>) -> Arc<Self> {
        let ledger = Arc::new(Ledger { turn: Mutex::default(), space });
        Arc::new(Self { ledger, parent: None, name: "the machine".to_owned(), state: Mutex::default() })
    }

    /// That of a host below, with the limits that were set for it.
    pub(crate) fn below(self: &Arc<Self>, name: &str, set: Limits) -> Arc<Self> {
        let (ledger, parent) = (Arc::clone(&self.ledger), Some(Arc::clone(self)));
        let state = Mutex::new(State { set, ..State::default() });
        Arc::new(Self { ledger, parent, name: format!("host {name}"), state })
    }

    fn with_those_above(&self) -> impl Iterator<Item = &Account> {
        std::iter::successors(Some(self), |account| account.parent.as_deref())
    }

    /// The host's own limit: as set, else the default; the machine has none.
    fn own_limit(&self, resource: Resource) -> Option<u64> {
        let default = self.parent.as_ref().and_then(|_| self.ledger.default_limit(resource));
        lock(&self.state).set.get(&resource).copied().or(default)
    }

    /// The most that this host can have: the least of its own limit and those above.
    pub(crate) fn limit(&self, resource: Resource) -> Option<u64> {
        self.with_those_above().filter_map(|account| account.own_limit(resource)).min()
    }

    /// How much this host can still have, on the level that has the least left; `None` without a limit.
    pub(crate) fn left(&self, resource: Resource) -> Option<u64> {
        let left = |account: &Account| Some(account.own_limit(resource)?.saturating_sub(account.used(resource)));
        self.with_those_above().filter_map(left).min()
    }

    /// Whether somebody set the limit, of this host or of one above.
    pub(crate) fn is_set(&self, resource: Resource) -> bool {
        self.with_those_above().any(|account| lock(&account.state).set.contains_key(&resource))
    }

    /// Whether more is used than may be, on any level.
    pub(crate) fn is_passed(&self, resource: Resource) -> bool {
        let passed =
            |account: &Account| account.own_limit(resource).is_some_and(|limit| account.used(resource) > limit);
        self.with_those_above().any(passed)
    }

    /// Refuses what would write while there is no space left on some level.
    pub(crate) fn check_space(&self) -> Result<()> {
        for resource in [Resource::Disk, Resource::Logs] {
            for account in self.with_those_above() {
                let used = account.used(resource);
                if let Some(limit) = account.own_limit(resource).filter(|limit| used >= *limit) {
                    return Err(self.over(account, resource, limit, used));
                }
            }
        }
        Ok(())
    }

    /// What the host and all below it use.
    pub(crate) fn used(&self, resource: Resource) -> u64 {
        lock(&self.state).used[index(resource)]
    }

    /// Takes one place, or says which host's limit is in the way.
    pub(crate) fn take(self: &Arc<Self>, resource: Resource) -> Result<Place> {
        self.take_much(resource, 1)
    }

    /// Takes `amount`, or says which host's limit is in the way.
    pub(crate) fn take_much(self: &Arc<Self>, resource: Resource, amount: u64) -> Result<Place> {
        let _all = lock(&self.ledger.turn);
        for account in self.with_those_above() {
            let used = account.used(resource);
            if let Some(limit) = account.own_limit(resource)
                && used.saturating_add(amount) > limit
            {
                return Err(self.over(account, resource, limit, used));
            }
        }
        Ok(self.enter(resource, amount))
    }

    /// Takes a place for something that is there already, whatever the limit is by now.
    pub(crate) fn hold(self: &Arc<Self>, resource: Resource, amount: u64) -> Place {
        let _all = lock(&self.ledger.turn);
        self.enter(resource, amount)
    }

    /// The turn of one request.
    pub(crate) fn take_turn(self: &Arc<Self>) -> Result<Turn> {
        self.take(Resource::Requests).map(Turn)
    }

    /// The places of a new object whose record has so many bytes.
    pub(crate) fn take_object(self: &Arc<Self>, resource: Resource, bytes: usize) -> Result<Places> {
        Ok(vec![self.take(resource)?, self.take_much(Resource::Config, bytes as u64)?])
    }

    /// The places of an object that is put back.
    pub(crate) fn hold_object(self: &Arc<Self>, resource: Resource, bytes: usize) -> Places {
        vec![self.hold(resource, 1), self.hold(Resource::Config, bytes as u64)]
    }

    fn enter(self: &Arc<Self>, resource: Resource, amount: u64) -> Place {
        for account in self.with_those_above() {
            lock(&account.state).used[index(resource)] += amount;
        }
        Place { account: Arc::clone(self), resource, amount }
    }

    fn give_back(&self, resource: Resource, amount: u64) {
        self.change(resource, amount, 0);
    }

    /// What was taken on a host that is closed was given back then.
    fn change(&self, resource: Resource, before: u64, now: u64) {
        let _all = lock(&self.ledger.turn);
        for account in self.with_those_above() {
            let mut state = lock(&account.state);
            let used = &mut state.used[index(resource)];
            *used = used.saturating_sub(before) + now;
            if state.closed {
                break;
            }
        }
    }

    /// The host is gone: whatever still counts on it counts nowhere above any more.
    pub(crate) fn close(&self) {
        let _all = lock(&self.ledger.turn);
        let left = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.used
        };
        for account in self.with_those_above().skip(1) {
            let mut state = lock(&account.state);
            for (used, left) in state.used.iter_mut().zip(left) {
                *used = used.saturating_sub(left);
            }
        }
    }

    /// Refuses limits that are above what this host itself may have.
    pub(crate) fn check_given(&self, wanted: &Limits) -> Result<()> {
        for (resource, value) in wanted {
            if let Some(own) = self.limit(*resource).filter(|own| value > own) {
                return Err(Error::invalid(format!(
                    "limit {resource}={value} is more than {} itself may have: {own} ({})",
                    self.name,
                    resource.label()
                )));
            }
        }
        Ok(())
    }

    /// Sets limits anew; `None` goes back to the default. What is used already stays.
    pub(crate) fn set(&self, change: &[(Resource, Option<u64>)]) -> Limits {
        let mut state = lock(&self.state);
        for (resource, value) in change {
            match value {
                Some(value) => drop(state.set.insert(*resource, *value)),
                None => drop(state.set.remove(resource)),
            }
        }
        state.set.clone()
    }

    /// All limits, with what is used of them.
    pub(crate) fn view(&self) -> Vec<LimitView> {
        let set = lock(&self.state).set.clone();
        let one = |resource: Resource| LimitView {
            resource,
            limit: self.limit(resource),
            is_set: set.contains_key(&resource),
            used: self.used(resource),
        };
        Resource::ALL.into_iter().map(one).collect()
    }

    /// The refusal. Of a host above nothing is told but that it is above: what others use is none of this host's
    /// business.
    fn over(&self, whose: &Account, resource: Resource, limit: u64, used: u64) -> Error {
        let way_out = match resource {
            Resource::Requests => "wait for others to end",
            _ => "remove what is not needed",
        };
        let label = resource.label();
        let text = if std::ptr::eq(whose, self) {
            let unit = if resource.is_bytes() { " bytes" } else { "" };
            format!(
                "this host's limit of {resource} is reached: {used} of {limit}{unit} in use; {way_out}, or let the host \
                 above raise it (label {label})"
            )
        } else {
            format!("a host above this one has reached its limit of {resource} (label {label}); {way_out}")
        };
        let what = match resource {
            Resource::Requests => Scarce::Turn,
            Resource::Disk | Resource::Logs => Scarce::Space,
            _ => Scarce::Number,
        };
        Error::exhausted(what, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Resource = Resource::Containers;

    fn limited(parent: &Arc<Account>, containers: u64) -> Arc<Account> {
        parent.below("a", Limits::from([(C, containers)]))
    }

    #[test]
    fn the_sum_of_a_subtree_stays_within_its_limit() {
        let machine = Account::machine(None);
        let (outer, inner, beside);
        outer = limited(&machine, 3);
        inner = limited(&outer, 2);
        beside = outer.below("b", Limits::new());
        let places = [inner.take(C).unwrap(), inner.take(C).unwrap()];
        assert!(
            inner
                .take(C)
                .unwrap_err()
                .to_string()
                .contains("this host's limit of containers is reached: 2 of 2 in use")
        );
        let last = beside.take(C).unwrap();
        let above = beside.take(C).unwrap_err().to_string();
        assert!(above.contains("a host above this one has reached its limit of containers (label"), "{above}");
        assert_eq!((machine.used(C), outer.used(C), inner.used(C)), (3, 3, 2));
        drop(last);
        drop(places);
        assert_eq!((machine.used(C), outer.used(C), inner.used(C)), (0, 0, 0));
    }

    #[test]
    fn the_last_place_is_taken_once() {
        let account = limited(&Account::machine(None), 10);
        let take = || (0..8).filter_map(|_| account.take(C).ok()).collect::<Vec<_>>();
        let taken: Vec<Place> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((taken.len(), account.used(C)), (10, 10));
    }

    #[test]
    fn a_host_gives_no_more_than_it_has() {
        let host = limited(&Account::machine(None), 5);
        assert!(host.check_given(&Limits::from([(C, 5)])).is_ok());
        let error = host.check_given(&Limits::from([(C, 6)])).unwrap_err().to_string();
        assert_eq!(error, "limit containers=6 is more than host a itself may have: 5 (droste.limit.containers)");
        assert_eq!(limited(&host, 9).limit(C), Some(5), "a limit that was set before counts no more than those above");
        assert_eq!(host.below("b", Limits::new()).limit(C), Some(5));
    }

    #[test]
    fn limits_change_while_places_are_taken() {
        let host = limited(&Account::machine(None), 2);
        let _places = [host.take(C).unwrap(), host.take(C).unwrap()];
        host.set(&[(C, Some(1))]);
        assert!(host.take(C).is_err());
        host.set(&[(C, Some(3))]);
        assert!(host.take(C).is_ok());
        host.set(&[(C, None)]);
        assert_eq!(host.limit(C), default_limit(C));
    }

    #[test]
    fn what_is_left_on_a_host_that_is_gone_counts_nowhere() {
        let machine = Account::machine(None);
        let (outer, inner);
        outer = machine.below("a", Limits::new());
        inner = outer.below("b", Limits::new());
        let place = inner.take_much(Resource::Config, 100).unwrap();
        let other = outer.take_much(Resource::Config, 7).unwrap();
        inner.close();
        assert_eq!(outer.used(Resource::Config), 7);
        drop(place);
        assert_eq!((machine.used(Resource::Config), outer.used(Resource::Config)), (7, 7));
        drop(other);
        assert_eq!(machine.used(Resource::Config), 0);
    }

    #[test]
    fn space_is_a_share_of_the_file_system_unless_somebody_says() {
        let machine = Account::machine(Some(1000));
        let (host, below);
        host = machine.below("a", Limits::from([(Resource::Logs, 50)]));
        below = host.below("b", Limits::new());
        assert_eq!((machine.left(Resource::Disk), host.left(Resource::Disk)), (None, Some(800)));
        assert_eq!((host.limit(Resource::Logs), below.left(Resource::Logs)), (Some(50), Some(50)));
        assert!(below.check_space().is_ok());
        let held = below.hold(Resource::Logs, 50);
        assert!(below.check_space().unwrap_err().to_string().contains("a host above this one"));
        assert!(
            host.check_space().unwrap_err().to_string().contains("limit of logs is reached: 50 of 50 bytes in use")
        );
        assert!(!host.is_passed(Resource::Logs), "all of it may be used");
        let _more = host.hold(Resource::Logs, 1);
        assert!(below.is_passed(Resource::Logs) && !below.is_passed(Resource::Disk));
        drop(held);
        assert!(below.check_space().is_ok() && machine.check_space().is_ok());
    }

    #[test]
    fn what_is_there_already_is_held_over_the_limit() {
        let host = limited(&Account::machine(None), 1);
        let _held = [host.hold(C, 1), host.hold(C, 1)];
        assert_eq!(host.used(C), 2);
        assert!(host.take(C).is_err());
    }
}
