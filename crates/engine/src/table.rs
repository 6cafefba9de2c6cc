//! The containers of one host, found by id, name or unique prefix of an id.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::id::ContainerId;
use droste_model::name::ContainerName;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::limits::Places;

/// A host's containers. Other hosts' containers are not in it, so nothing here can find them.
#[derive(Default)]
pub(crate) struct Table {
    by_id: BTreeMap<ContainerId, (Arc<Container>, Places)>,
    by_name: BTreeMap<ContainerName, ContainerId>,
}

impl Table {
    /// Finds by full id, then by name with or without a slash, then by unique prefix of an id.
    pub(crate) fn find(&self, typed: &str) -> Result<Arc<Container>> {
        if let Some(container) = self.by_text_id(typed).or_else(|| self.named(typed)) {
            return Ok(Arc::clone(container));
        }
        let mut matches = self.with_prefix(typed);
        match (matches.next(), matches.next()) {
            (Some(one), None) => Ok(Arc::clone(one)),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {typed}"))),
            (None, _) => Err(Error::no_such_container(typed)),
        }
    }

    fn by_text_id(&self, typed: &str) -> Option<&Arc<Container>> {
        self.by_id.get(&typed.parse().ok()?).map(|(container, _)| container)
    }

    fn named(&self, typed: &str) -> Option<&Arc<Container>> {
        self.by_id.get(self.by_name.get(&typed.parse().ok()?)?).map(|(container, _)| container)
    }

    fn with_prefix<'a>(&'a self, typed: &'a str) -> impl Iterator<Item = &'a Arc<Container>> {
        let hex = !typed.is_empty() && typed.len() < 64 && typed.bytes().all(|b| b.is_ascii_hexdigit());
        self.by_id
            .iter()
            .filter(move |(id, _)| hex && id.as_str().starts_with(typed))
            .map(|(_, (container, _))| container)
    }

    /// Reserves a name for a container that is about to be made, or that is renamed.
    pub(crate) fn reserve(&mut self, name: ContainerName, id: ContainerId) -> Result<()> {
        if let Some(holder) = self.by_name.get(&name).filter(|holder| **holder != id) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        self.by_name.insert(name, id);
        Ok(())
    }

    /// Gives a name back, if the container still holds it.
    pub(crate) fn release(&mut self, name: &ContainerName, id: &ContainerId) {
        if self.by_name.get(name) == Some(id) {
            self.by_name.remove(name);
        }
    }

    /// Adds a container whose name is reserved, with the places that it takes on its host.
    pub(crate) fn insert(&mut self, container: Arc<Container>, places: Places) {
        self.by_id.insert(container.id.clone(), (container, places));
    }

    /// Forgets a container and its names.
    pub(crate) fn remove(&mut self, id: &ContainerId) {
        self.by_id.remove(id);
        self.by_name.retain(|_, holder| holder != id);
    }

    /// All containers.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.by_id.values().map(|(container, _)| Arc::clone(container)).collect()
    }
}
