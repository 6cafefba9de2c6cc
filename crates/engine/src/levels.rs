//! What an administrator sees from above: a host together with all hosts below it, each named by its path. The tree,
//! the list of all levels, and their events.

use std::collections::BTreeMap;
use std::sync::Arc;

use droste_model::event::Event;
use droste_model::host::HostId;
use droste_model::time::Timestamp;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::events::{Listener, Unheard};
use crate::host::{Host, HostState};
use crate::view::TreeNode;

/// The path of the host that is asked.
const HERE: &str = "/";

impl Host {
    /// This host and every host below it, with their paths from here: names with slashes between, `/` for this one.
    /// Each comes before those below it.
    pub fn levels(&self) -> Vec<(String, Host)> {
        let mut found = vec![(HERE.to_owned(), self.clone())];
        let mut at = 0;
        while let Some((path, host)) = found.get(at).cloned() {
            let mut below: Vec<(String, Host)> =
                host.state.members().iter().filter_map(|inner| host.inner(&path, inner)).collect();
            below.sort_by(|a, b| a.0.cmp(&b.0));
            found.splice(at + 1..at + 1, below);
            at += 1;
        }
        found
    }

    /// A container of this host as a host, if it is one.
    fn inner(&self, path: &str, container: &Container) -> Option<(String, Host)> {
        let state = self.engine.host_of(&container.id)?;
        let path = join(path, container.record().name.as_str());
        Some((path, Host::new(Arc::clone(&self.engine), state, self.is_read_only())))
    }

    /// The events of all levels from `since` to `until`, oldest first, each with its host's path; and the live ones
    /// unless `until` is past.
    pub fn events_of_levels(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> (Vec<(String, Arc<Event>)>, Option<LevelEvents>) {
        let levels = self.levels();
        let replay = || {
            let of = |(path, host): &(String, Host)| {
                let events = host.state.events.replay(since, until);
                events.into_iter().map(|event| (path.clone(), event)).collect::<Vec<_>>()
            };
            levels.iter().flat_map(of).collect::<Vec<_>>()
        };
        let (mut past, live) = self.state.events.levels().listen(replay);
        past.sort_by_key(|(_, event)| event.time);
        let paths = levels.iter().map(|(path, host)| (host.state.id.clone(), path.clone())).collect();
        let over = until.is_some_and(|until| until <= Timestamp::now());
        (past, (!over).then(|| LevelEvents { live, top: self.clone(), paths }))
    }

    /// The path of a host from here; `None` if it is not below this one, or no more.
    fn path_to(&self, host: &HostId) -> Option<String> {
        let mut state = self.engine.host(host)?;
        let mut names = Vec::new();
        while state.id != self.state.id {
            names.push(state.myself()?.record().name.to_string());
            state = Arc::clone(state.parent.as_ref()?);
        }
        names.reverse();
        Some(if names.is_empty() { HERE.to_owned() } else { names.join("/") })
    }

    /// This host and everything below it, as the administrator sees it.
    pub async fn tree(&self) -> Result<TreeNode> {
        let host = self.clone();
        let drawn = tokio::task::spawn_blocking(move || host.node(&host.state, host.state.myself().as_ref()));
        drawn.await.map_err(|error| Error::hidden("the tree could not be drawn", error))
    }

    fn node(&self, state: &Arc<HostState>, container: Option<&Arc<Container>>) -> TreeNode {
        let on = Host::new(Arc::clone(&self.engine), Arc::clone(state), true);
        let mut children: Vec<TreeNode> = on
            .state
            .members()
            .iter()
            .map(|inner| match self.engine.host_of(&inner.id) {
                Some(own) => self.node(&own, Some(inner)),
                None => on.leaf_node(inner),
            })
            .collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        match container {
            Some(container) => {
                let above = Host::new(Arc::clone(&self.engine), Arc::clone(&container.host), true);
                TreeNode { children, ..above.leaf_node(container) }
            }
            None => TreeNode { host: state.id.clone(), container: None, name: on.name(), usage: None, children },
        }
    }

    fn leaf_node(&self, container: &Arc<Container>) -> TreeNode {
        let view = self.container(container.id.as_str()).ok();
        let usage =
            self.engine.cgroup(container).ok().filter(|_| container.state().running().is_some()).and_then(|group| {
                let cpu = group.cpu_stats().ok()?.total;
                Some((cpu, group.memory_stats().ok().flatten().map_or(0, |memory| memory.used())))
            });
        TreeNode {
            host: HostId::Container(container.id.clone()),
            name: container.record().name.to_string(),
            container: view,
            usage,
            children: Vec::new(),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path == HERE { name.to_owned() } else { format!("{path}/{name}") }
}

/// The events of a host and of all below it, as they happen; hosts that are made meanwhile included.
pub struct LevelEvents {
    live: Listener<(HostId, Arc<Event>)>,
    top: Host,
    /// Where hosts were when last heard of: the last events of one come when it is gone.
    paths: BTreeMap<HostId, String>,
}

impl LevelEvents {
    /// The next event and the path of its host.
    pub async fn recv(&mut self) -> std::result::Result<(String, Arc<Event>), Unheard> {
        loop {
            let (host, event) = self.live.recv().await?;
            if let Some(path) = self.path(&host) {
                self.forget(&event);
                return Ok((path, event));
            }
        }
    }

    fn path(&mut self, host: &HostId) -> Option<String> {
        match self.top.path_to(host) {
            Some(path) => {
                self.paths.insert(host.clone(), path.clone());
                Some(path)
            }
            None => self.paths.get(host).cloned(),
        }
    }

    /// Nothing comes from a host whose container was removed.
    fn forget(&mut self, event: &Event) {
        if event.action == "destroy"
            && let Ok(id) = event.actor.parse()
        {
            self.paths.remove(&HostId::Container(id));
        }
    }
}
