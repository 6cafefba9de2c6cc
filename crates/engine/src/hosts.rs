//! The hosts below a host, as whoever stands above them sees them: found by path, listed, shown, limited.

use std::sync::Arc;

use droste_model::host::{Grant, ImageView};
use droste_model::limit::{Limits, Resource};
use droste_model::state::State;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::host::{Host, HostState};
use crate::limits::LimitView;
use crate::store::{Change, Key};
use crate::view::{HostDetail, HostView};

impl Host {
    /// The host at a path of container names or ids below this one, `ci-1/build`; this one for an empty path.
    pub fn below(&self, path: &str) -> Result<Host> {
        let mut host = self.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let container = host.member(name)?;
            let state = self.engine.host_of(&container.id);
            let state = state
                .ok_or_else(|| Error::invalid(format!("container {name} is not a host: it holds no engine socket")))?;
            host = Host::new(Arc::clone(&self.engine), state, self.is_read_only());
        }
        Ok(host)
    }

    /// All hosts below this one, each after the one that it is on.
    pub async fn hosts(&self) -> Vec<HostView> {
        self.measure_all().await;
        let mut all = Vec::new();
        self.list_below("", &mut all);
        all
    }

    fn list_below(&self, path: &str, into: &mut Vec<HostView>) {
        let mut members = self.state.members();
        members.sort_by_cached_key(|container| container.record().name.to_string());
        for container in members {
            let name = container.record().name.to_string();
            let Some(state) = self.engine.host_of(&container.id) else { continue };
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            into.push(view(&path, &container, &state));
            Host::new(Arc::clone(&self.engine), state, true).list_below(&path, into);
        }
    }

    /// The host at a path below this one, in full.
    pub async fn host_detail(&self, path: &str) -> Result<HostDetail> {
        let (host, container) = self.strictly_below(path)?;
        host.measure_all().await;
        let socket = container.record().socket.clone();
        let created = host.state.record().created;
        let parent: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        Ok(HostDetail {
            view: view(&self.path_of(&host.state), &container, &host.state),
            parent: parent.split_last().map(|(_, above)| above.join("/")).unwrap_or_default(),
            created,
            grant: socket.as_ref().map_or(Grant::Own, |socket| socket.grant),
            children: socket.as_ref().and_then(|socket| socket.children),
            images: socket.map_or(ImageView::Inherit, |socket| socket.images),
            pid: container.state().running().map_or(0, |running| self.pid_here(running.pid)),
            cgroup: (self.level() == 0).then(|| host.state.cgroup.to_string()),
            bounds: host.state.power().ok().map(|power| power.bounds),
        })
    }

    /// Changes limits of the host at a path below this one; `None` goes back to the default. No limit gets above what
    /// the host's own parent may have.
    pub async fn change_limits(&self, path: &str, change: Vec<(Resource, Option<u64>)>) -> Result<Vec<LimitView>> {
        self.require_write()?;
        let (host, container) = self.strictly_below(path)?;
        let wanted: Limits = change.iter().filter_map(|(resource, value)| Some((*resource, (*value)?))).collect();
        container.host.account.check_given(&wanted)?;
        let record = {
            let mut record = host.state.record();
            record.limits = host.state.account.set(&change);
            record.clone()
        };
        let key = Key::Host(host.state.id.clone());
        self.engine.store.commit(vec![Change::put(key, &record)?]).await?;
        host.measure_all().await;
        Ok(host.state.account.view())
    }

    /// A host below this one and the container that it is. This host itself is none.
    fn strictly_below(&self, path: &str) -> Result<(Host, Arc<Container>)> {
        let host = self.below(path)?;
        match host.state.myself().filter(|_| !Arc::ptr_eq(&host.state, &self.state)) {
            Some(container) => Ok((host, container)),
            None => Err(Error::invalid("no host below this one is named: give its path, such as ci-1/build")),
        }
    }

    /// The path of names from this host down to one below it.
    fn path_of(&self, state: &Arc<HostState>) -> String {
        let up = std::iter::successors(Some(state), |host| host.parent.as_ref());
        let below = up.take_while(|host| !Arc::ptr_eq(host, &self.state));
        let mut names: Vec<String> = below.filter_map(|host| Some(host.myself()?.record().name.to_string())).collect();
        names.reverse();
        names.join("/")
    }
}

fn view(path: &str, container: &Arc<Container>, state: &Arc<HostState>) -> HostView {
    let members = state.members();
    let running = members.iter().filter(|inner| matches!(inner.state(), State::Running(_))).count();
    let record = container.record();
    HostView {
        path: path.to_owned(),
        id: container.id.clone(),
        name: record.name.to_string(),
        level: state.level,
        is_on: state.is_on(),
        state: record.state.clone(),
        image: record.config.image.clone(),
        containers: members.len(),
        running,
        limits: state.account.view(),
    }
}
