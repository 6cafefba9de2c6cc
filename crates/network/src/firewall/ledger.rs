//! Which elements the table should have, and how many bridges and ports need each.
//!
//! Two published ports may lead to one port of a container, and so share an element.

use std::collections::BTreeMap;

use super::Entry;

/// The elements that are needed, each with how often.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    needed: BTreeMap<Entry, usize>,
}

/// Elements to add and to delete.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: Vec<Entry>,
    pub(crate) removed: Vec<Entry>,
}

impl Ledger {
    /// Notes what is needed anew and what no more; says what that means for the table.
    pub(crate) fn change(&mut self, fresh: &[Entry], stale: &[Entry]) -> Difference {
        let before = |ledger: &Self, entry: &Entry| ledger.needed.contains_key(entry);
        let touched: BTreeMap<&Entry, bool> =
            fresh.iter().chain(stale).map(|entry| (entry, before(self, entry))).collect();
        for entry in fresh {
            *self.needed.entry(entry.clone()).or_default() += 1;
        }
        for entry in stale {
            if let Some(count) = self.needed.get_mut(entry) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(entry);
                }
            }
        }
        let mut difference = Difference::default();
        for (entry, was) in touched {
            match (was, self.needed.contains_key(entry)) {
                (false, true) => difference.added.push(entry.clone()),
                (true, false) => difference.removed.push(entry.clone()),
                _ => {}
            }
        }
        difference
    }

    /// Begins anew with what is needed.
    pub(crate) fn reset(&mut self, entries: impl Iterator<Item = Entry>) {
        self.needed.clear();
        for entry in entries {
            *self.needed.entry(entry).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Element;

    fn entry(key: u8) -> Entry {
        ("ports", Element::key(vec![key]))
    }

    #[test]
    fn what_two_need_goes_with_the_second() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.change(&[entry(1), entry(2)], &[]).added.len(), 2);
        assert_eq!(ledger.change(&[entry(1)], &[]), Difference::default());
        assert_eq!(ledger.change(&[], &[entry(1)]), Difference::default());
        assert_eq!(ledger.change(&[], &[entry(1)]).removed, [entry(1)]);
        assert_eq!(ledger.change(&[], &[entry(1)]), Difference::default(), "it is gone already");
    }

    #[test]
    fn an_exchange_touches_what_differs() {
        let mut ledger = Ledger::default();
        ledger.reset([entry(1), entry(2)].into_iter());
        let difference = ledger.change(&[entry(2), entry(3)], &[entry(1), entry(2)]);
        assert_eq!((difference.added, difference.removed), (vec![entry(3)], vec![entry(1)]));
    }
}
