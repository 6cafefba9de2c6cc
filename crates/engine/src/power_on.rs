//! What starts when a host is switched on: the containers whose restart policies say so, each after those that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use droste_model::container::{HostConfig, NamespaceMode, RestartPolicy};
use droste_model::id::ContainerId;
use droste_model::network::NetworkMode;
use droste_model::state::State;
use tokio::sync::watch;

use crate::container::Container;
use crate::engine::Engine;
use crate::host::{Host, HostState};
use crate::links;

/// A container that starts with its host.
struct Starter {
    container: Arc<Container>,
    /// Those of the same host that have to run before.
    needs: Vec<ContainerId>,
}

impl Starter {
    fn new(container: Arc<Container>, host: &Host) -> Self {
        let asked = container.record().host_config.clone();
        Self { needs: needs(&asked, host), container }
    }
}

impl Engine {
    /// Starts what the restart policies of a host's containers say, once the host is on.
    pub(crate) fn power_on(self: &Arc<Self>, host: &Arc<HostState>) {
        let seen = Host::new(Arc::clone(self), Arc::clone(host), false);
        if host.networks.all().iter().any(|network| network.live().myself.is_some()) {
            let host = seen.clone();
            tokio::task::spawn_blocking(move || host.announce_self_everywhere());
        }
        let members = host.members().into_iter().filter(|container| starts_with_host(container));
        let starters = members.map(|container| Starter::new(container, &seen)).collect();
        let mut begun: BTreeMap<ContainerId, watch::Receiver<()>> = BTreeMap::new();
        for Starter { container, needs } in in_order(starters) {
            let before: Vec<_> = needs.iter().filter_map(|id| begun.get(id).cloned()).collect();
            let (started, done) = watch::channel(());
            begun.insert(container.id.clone(), done);
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                for mut other in before {
                    // Nothing is ever sent: it is over when the sender is gone.
                    let _ = other.changed().await;
                }
                engine.start_with_host(&container).await;
                drop(started);
            });
        }
    }

    async fn start_with_host(self: &Arc<Self>, container: &Arc<Container>) {
        let _turn = container.transition.lock().await;
        if container.state().running().is_some() {
            return;
        }
        if let Err(error) = self.launch(container).await {
            tracing::warn!(container = %container.id, %error, "it did not start with its host");
        }
    }
}

fn starts_with_host(container: &Container) -> bool {
    if matches!(container.state(), State::Created { failed: None }) {
        return false;
    }
    let record = container.record();
    let policy = record.host_config.restart_policy;
    let failed = matches!(policy, RestartPolicy::OnFailure { .. })
        && record.state.exit().is_some_and(|exit| policy.restarts(exit.code, record.restart_count));
    policy.starts_with_host(record.stopped_by_hand) || (failed && !record.stopped_by_hand)
}

/// The containers whose namespaces a container joins or that it is linked to.
fn needs(asked: &HostConfig, host: &Host) -> Vec<ContainerId> {
    let network = match &asked.network_mode {
        NetworkMode::Container(name) => Some(name.as_str()),
        _ => None,
    };
    let joined = [&asked.pid_mode, &asked.ipc_mode].into_iter().filter_map(|mode| match mode {
        NamespaceMode::Container(name) => Some(name.as_str()),
        _ => None,
    });
    let linked = asked.links.iter().flatten().map(|link| links::parts(link).0);
    let names = network.into_iter().chain(joined).chain(linked);
    names.filter_map(|name| Some(host.target(name).ok()?.container().id.clone())).collect()
}

/// In the order of creation, but each behind those that it needs. Of a circle, none of which can start, some are before
/// what they need.
fn in_order(mut starters: Vec<Starter>) -> Vec<Starter> {
    starters.sort_by_key(|starter| starter.container.record().created);
    let needs: Vec<(ContainerId, Vec<ContainerId>)> =
        starters.iter().map(|starter| (starter.container.id.clone(), starter.needs.clone())).collect();
    let mut by_id: BTreeMap<_, _> =
        starters.into_iter().map(|starter| (starter.container.id.clone(), starter)).collect();
    sorted(&needs).iter().filter_map(|id| by_id.remove(id)).collect()
}

/// Depth first, with a stack of its own: chains can be as long as a host has containers.
fn sorted(needs: &[(ContainerId, Vec<ContainerId>)]) -> Vec<ContainerId> {
    let of: BTreeMap<_, _> = needs.iter().map(|(id, needs)| (id, needs)).collect();
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for (first, _) in needs {
        let mut stack = vec![(first, false)];
        while let Some((id, complete)) = stack.pop() {
            if complete {
                order.push(id.clone());
            } else if seen.insert(id) {
                stack.push((id, true));
                stack.extend(of.get(id).into_iter().flat_map(|needs| needs.iter()).map(|need| (need, false)));
            }
        }
    }
    order.retain(|id| of.contains_key(id));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: char) -> ContainerId {
        letter.to_string().repeat(64).parse().unwrap()
    }

    fn order(needs: &[(char, &str)]) -> String {
        let needs: Vec<_> = needs.iter().map(|(of, needs)| (id(*of), needs.chars().map(id).collect())).collect();
        sorted(&needs).iter().filter_map(|id| id.as_str().chars().next()).collect()
    }

    #[test]
    fn what_is_needed_is_before() {
        assert_eq!(order(&[('a', ""), ('b', ""), ('c', "")]), "abc");
        assert_eq!(order(&[('a', "c"), ('b', ""), ('c', "d"), ('d', "")]), "dcab");
        assert_eq!(order(&[('a', "bc"), ('b', "c"), ('c', "")]), "cba");
    }

    #[test]
    fn what_does_not_start_is_not_waited_for() {
        assert_eq!(order(&[('a', "e"), ('b', "a")]), "ab");
    }

    #[test]
    fn circles_end() {
        assert_eq!(order(&[('a', "b"), ('b', "a"), ('c', "c")]), "bac");
    }
}
