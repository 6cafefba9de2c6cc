//! The image names of one host, and how they lie over its parent's.
//!
//! A key is a reference in canonical form (`docker.io/library/alpine:latest`, `…@sha256:…`) or an image's id, under
//! which a host holds an image whether it has a name or not. A host that inherits reads its parent's keys through its
//! own; removing an inherited key hides it for this host alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use droste_model::host::{HostId, ImageView};
use droste_model::limit::Resource;
use droste_model::time::Timestamp;

use crate::error::Result;
use crate::limits::{Account, Place};
use crate::record::TagRecord;
use crate::store::{Change, Key};

/// A host's table of names.
pub(crate) struct Tags {
    host: HostId,
    view: ImageView,
    parent: Option<Arc<Tags>>,
    account: Arc<Account>,
    own: Mutex<BTreeMap<String, (TagRecord, Place)>>,
}

/// What a key says on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    /// The image's id.
    pub image: String,
    /// When the key was set.
    pub at: Timestamp,
}

/// Whether a key is an image's id rather than a reference.
pub(crate) fn is_id(key: &str) -> bool {
    key.starts_with("sha256:")
}

impl Tags {
    /// The table of a host over its parent's.
    pub(crate) fn new(host: HostId, view: ImageView, parent: Option<Arc<Tags>>, account: Arc<Account>) -> Self {
        Self { host, view, parent, account, own: Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<String, (TagRecord, Place)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inherited(&self) -> Option<&Arc<Tags>> {
        self.parent.as_ref().filter(|_| self.view == ImageView::Inherit)
    }

    /// Puts back what the store remembers.
    pub(crate) fn restore(&self, key: String, record: TagRecord) {
        let place = self.account.hold(Resource::Tags, 1);
        self.own().insert(key, (record, place));
    }

    /// What a key says, here or on the nearest host above that is read through.
    pub(crate) fn get(&self, key: &str) -> Option<Tagged> {
        match self.own().get(key) {
            Some((TagRecord::Image { id, at }, _)) => return Some(Tagged { image: id.clone(), at: *at }),
            Some((TagRecord::Hidden, _)) => return None,
            None => {}
        }
        self.inherited()?.get(key)
    }

    /// Everything that this host sees.
    pub(crate) fn visible(&self) -> BTreeMap<String, Tagged> {
        let mut all = self.inherited().map(|parent| parent.visible()).unwrap_or_default();
        for (key, (record, _)) in self.own().iter() {
            match record {
                TagRecord::Image { id, at } => drop(all.insert(key.clone(), Tagged { image: id.clone(), at: *at })),
                TagRecord::Hidden => drop(all.remove(key)),
            }
        }
        all
    }

    /// The images that this host itself keeps alive.
    pub(crate) fn held(&self) -> BTreeSet<String> {
        let image = |(record, _): &(TagRecord, Place)| match record {
            TagRecord::Image { id, .. } => Some(id.clone()),
            TagRecord::Hidden => None,
        };
        self.own().values().filter_map(image).collect()
    }

    /// Names an image by references, and holds it: all or nothing. The changes must be committed by the caller.
    pub(crate) fn set(&self, references: &[String], image: &str, at: Timestamp) -> Result<Vec<Change>> {
        let mut own = self.own();
        let keys: BTreeSet<&str> = references.iter().map(String::as_str).chain([image]).collect();
        let fresh: Vec<&str> = keys.iter().copied().filter(|key| !own.contains_key(*key)).collect();
        let mut places = fresh.iter().map(|_| self.account.take(Resource::Tags)).collect::<Result<Vec<Place>>>()?;
        let mut changes = Vec::new();
        for key in keys {
            let record = TagRecord::Image { id: image.to_owned(), at };
            changes.push(Change::put(Key::Tag(self.host.clone(), key.to_owned()), &record)?);
            match own.get_mut(key) {
                Some((known, _)) => *known = record,
                None => own.extend(places.pop().map(|place| (key.to_owned(), (record, place)))),
            }
        }
        Ok(changes)
    }

    /// Removes keys from this host's sight: own ones go, inherited ones are hidden.
    pub(crate) fn remove(&self, keys: &[String]) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for key in keys {
            let above = self.inherited().is_some_and(|parent| parent.get(key).is_some());
            let mut own = self.own();
            let store_key = Key::Tag(self.host.clone(), key.clone());
            if above {
                changes.push(Change::put(store_key, &TagRecord::Hidden)?);
                let place = own.remove(key).map(|(_, place)| place);
                let place = place.unwrap_or_else(|| self.account.hold(Resource::Tags, 1));
                own.insert(key.clone(), (TagRecord::Hidden, place));
            } else {
                changes.push(Change::remove(store_key));
                own.remove(key);
            }
        }
        Ok(changes)
    }

    /// The changes that forget the whole table, when its host is removed.
    pub(crate) fn forget(&self) -> Vec<Change> {
        let keys = std::mem::take(&mut *self.own()).into_keys();
        keys.map(|key| Change::remove(Key::Tag(self.host.clone(), key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use droste_model::limit::Limits;

    use super::*;

    const A: &str = "sha256:aa";
    const B: &str = "sha256:bb";

    fn child_of(parent: &Arc<Tags>, view: ImageView) -> Tags {
        let id = droste_model::id::ContainerId::from_bytes([1; 32]);
        Tags::new(HostId::Container(id), view, Some(Arc::clone(parent)), parent.account.below("a", Limits::new()))
    }

    fn machine() -> Arc<Tags> {
        let tags = Tags::new(HostId::Machine, ImageView::Isolated, None, Account::machine(None));
        tags.set(&["a:1".to_owned()], A, Timestamp::from_secs(1)).unwrap();
        Arc::new(tags)
    }

    fn image(tags: &Tags, key: &str) -> Option<String> {
        tags.get(key).map(|tagged| tagged.image)
    }

    #[test]
    fn a_host_reads_its_parents_names_through_its_own() {
        let machine = machine();
        let child = child_of(&machine, ImageView::Inherit);
        assert_eq!(image(&child, "a:1").as_deref(), Some(A));
        child.set(&["a:1".to_owned()], B, Timestamp::from_secs(2)).unwrap();
        assert_eq!(image(&child, "a:1").as_deref(), Some(B));
        assert_eq!(image(&machine, "a:1").as_deref(), Some(A), "the parent's tag is not poisoned");
        assert_eq!(child.held(), BTreeSet::from([B.to_owned()]));
    }

    #[test]
    fn removing_an_inherited_name_hides_it_here_alone() {
        let machine = machine();
        let child = child_of(&machine, ImageView::Inherit);
        child.remove(&["a:1".to_owned(), A.to_owned()]).unwrap();
        assert!(child.get("a:1").is_none() && child.visible().is_empty());
        assert_eq!(image(&machine, "a:1").as_deref(), Some(A));
        assert_eq!(image(&child_of(&machine, ImageView::Inherit), "a:1").as_deref(), Some(A));
    }

    #[test]
    fn an_isolated_host_sees_its_own_alone() {
        let machine = machine();
        let child = child_of(&machine, ImageView::Isolated);
        assert!(child.get("a:1").is_none());
        child.set(&[], B, Timestamp::from_secs(2)).unwrap();
        assert_eq!(child.visible().into_keys().collect::<Vec<_>>(), [B]);
    }
}
