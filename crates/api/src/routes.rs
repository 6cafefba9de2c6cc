//! Every operation of Docker's API and of Droste's own, as one table.
//!
//! The router matches by it, `docs/api-coverage.md` is printed from it, and the security tests walk it: a route that is
//! not in the table does not exist.

use std::fmt::Write as _;

use crate::version::ApiVersion;

/// An HTTP method that the API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

impl Method {
    /// Reads the method's name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Delete].into_iter().find(|method| method.as_str() == text)
    }

    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Get => "GET",
            Head => "HEAD",
            Post => "POST",
            Put => "PUT",
            Delete => "DELETE",
        }
    }
}

/// What a path names with its parameter: the operation acts on one object of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Object {
    None,
    Container,
    Exec,
    Image,
    Network,
    Volume,
    Other,
}

/// Whether an operation changes anything on its host. A socket with the grant `parent-ro` only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It looks only.
    Looks,
    /// It changes something, or reaches into a container.
    Changes,
}

/// What Droste does with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does it.
    Does(Operation),
    /// A later version does it; until then 501 with this text.
    Later(&'static str),
    /// What an engine outside a swarm answers.
    NoSwarm,
    /// What an engine without plugins answers.
    NoPlugins,
}

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// What is done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the operations of Docker's schema")]
        pub enum Operation { $($name),* }

        impl Operation {
            /// All operations.
            pub const ALL: &'static [Operation] = &[$(Operation::$name),*];
        }
    };
}

operations! {
    ContainerList, ContainerCreate, ContainerInspect, ContainerTop, ContainerLogs, ContainerChanges, ContainerExport,
    ContainerStats, ContainerResize, ContainerStart, ContainerStop, ContainerRestart, ContainerKill, ContainerUpdate,
    ContainerRename, ContainerPause, ContainerUnpause, ContainerAttach, ContainerAttachWebsocket, ContainerWait, ContainerDelete,
    ContainerPrune, ArchiveStat, ArchiveGet, ArchivePut, ExecCreate, ExecStart, ExecInspect, ExecResize,
    ImageList, ImageCreate, ImageInspect, ImageHistory, ImagePush, ImageTag, ImageDelete, ImagePrune, ImageSave,
    ImageSaveMany, ImageLoad, ImageCommit, DistributionInspect,
    NetworkList, NetworkInspect, NetworkCreate, NetworkDelete, NetworkConnect, NetworkDisconnect, NetworkPrune, VolumeList, VolumeInspect, VolumeCreate, VolumeDelete, VolumePrune, VolumeUpdate,
    BuildPrune,
    Ping, Version, Info, Events, Auth, DiskUsage,
    DrosteTree, DrosteContainers, DrosteEvents, DrosteHosts, DrosteHost, DrosteHostLimits,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path below the version: words, `{x}` for one segment, `{x:.*}` for several.
    pub pattern: &'static str,
    /// The first version that has it.
    pub since: ApiVersion,
    /// What the path names.
    pub object: Object,
    /// Whether it changes anything.
    pub effect: Effect,
    /// What Droste does with it.
    pub answer: Answer,
    /// Whether it looks at the hosts below, too, and is for the machine's own sockets alone.
    pub from_above: bool,
}

impl Route {
    const fn since(mut self, minor: u16) -> Self {
        self.since = ApiVersion::new(1, minor);
        self
    }

    const fn of_all_levels(mut self) -> Self {
        self.from_above = true;
        self
    }
}

const fn route(method: Method, pattern: &'static str, object: Object, effect: Effect, answer: Answer) -> Route {
    Route { method, pattern, since: ApiVersion::new(1, 24), object, effect, answer, from_above: false }
}

const fn looks(method: Method, pattern: &'static str, object: Object, operation: Operation) -> Route {
    route(method, pattern, object, Effect::Looks, Answer::Does(operation))
}

const fn changes(method: Method, pattern: &'static str, object: Object, operation: Operation) -> Route {
    route(method, pattern, object, Effect::Changes, Answer::Does(operation))
}

const fn later(method: Method, pattern: &'static str, object: Object, text: &'static str) -> Route {
    route(method, pattern, object, Effect::Changes, Answer::Later(text))
}

const fn swarm(method: Method, pattern: &'static str) -> Route {
    route(method, pattern, Object::Other, Effect::Changes, Answer::NoSwarm)
}

const fn plugin(method: Method, pattern: &'static str) -> Route {
    route(method, pattern, Object::Other, Effect::Changes, Answer::NoPlugins)
}

const NO_BUILD: &str = "building images is not part of this version of Droste: build with 'docker buildx build --load', \
                        which does it in a container, or with another tool, and load the result with 'docker load'";
const NO_CHECKPOINT: &str = "checkpoints are not part of this version of Droste";
const NO_SEARCH: &str = "searching a registry is not part of this version of Droste";
const NO_DEBUG: &str = "Droste has no Go profiler";

use Method::{Delete, Get, Head, Post, Put};
use Object::{Container, Exec, Image, Network, None as Nothing, Volume};

/// All operations. The first that matches counts.
pub const ROUTES: &[Route] = &[
    looks(Get, "/_ping", Nothing, Operation::Ping),
    looks(Head, "/_ping", Nothing, Operation::Ping),
    looks(Get, "/version", Nothing, Operation::Version),
    looks(Get, "/info", Nothing, Operation::Info),
    looks(Get, "/events", Nothing, Operation::Events),
    looks(Post, "/auth", Nothing, Operation::Auth),
    looks(Get, "/system/df", Nothing, Operation::DiskUsage).since(25),
    later(Post, "/session", Nothing, NO_BUILD).since(39),
    later(Post, "/grpc", Nothing, NO_BUILD),
    looks(Get, "/containers/json", Nothing, Operation::ContainerList),
    changes(Post, "/containers/create", Nothing, Operation::ContainerCreate),
    changes(Post, "/containers/prune", Nothing, Operation::ContainerPrune).since(25),
    looks(Get, "/containers/{name}/json", Container, Operation::ContainerInspect),
    looks(Get, "/containers/{name}/top", Container, Operation::ContainerTop),
    looks(Get, "/containers/{name}/logs", Container, Operation::ContainerLogs),
    looks(Get, "/containers/{name}/changes", Container, Operation::ContainerChanges),
    looks(Get, "/containers/{name}/export", Container, Operation::ContainerExport),
    looks(Get, "/containers/{name}/stats", Container, Operation::ContainerStats),
    changes(Post, "/containers/{name}/resize", Container, Operation::ContainerResize),
    changes(Post, "/containers/{name}/start", Container, Operation::ContainerStart),
    changes(Post, "/containers/{name}/stop", Container, Operation::ContainerStop),
    changes(Post, "/containers/{name}/restart", Container, Operation::ContainerRestart),
    changes(Post, "/containers/{name}/kill", Container, Operation::ContainerKill),
    changes(Post, "/containers/{name}/update", Container, Operation::ContainerUpdate),
    changes(Post, "/containers/{name}/rename", Container, Operation::ContainerRename),
    changes(Post, "/containers/{name}/pause", Container, Operation::ContainerPause),
    changes(Post, "/containers/{name}/unpause", Container, Operation::ContainerUnpause),
    changes(Post, "/containers/{name}/attach", Container, Operation::ContainerAttach),
    changes(Get, "/containers/{name}/attach/ws", Container, Operation::ContainerAttachWebsocket),
    looks(Post, "/containers/{name}/wait", Container, Operation::ContainerWait),
    changes(Delete, "/containers/{name}", Container, Operation::ContainerDelete),
    looks(Head, "/containers/{name}/archive", Container, Operation::ArchiveStat),
    looks(Get, "/containers/{name}/archive", Container, Operation::ArchiveGet),
    changes(Put, "/containers/{name}/archive", Container, Operation::ArchivePut),
    later(Get, "/containers/{name}/checkpoints", Container, NO_CHECKPOINT).since(25),
    later(Post, "/containers/{name}/checkpoints", Container, NO_CHECKPOINT).since(25),
    later(Delete, "/containers/{name}/checkpoints/{checkpoint}", Container, NO_CHECKPOINT).since(25),
    changes(Post, "/containers/{name}/exec", Container, Operation::ExecCreate),
    changes(Post, "/exec/{id}/start", Exec, Operation::ExecStart),
    changes(Post, "/exec/{id}/resize", Exec, Operation::ExecResize),
    looks(Get, "/exec/{id}/json", Exec, Operation::ExecInspect),
    looks(Get, "/images/json", Nothing, Operation::ImageList),
    later(Get, "/images/search", Nothing, NO_SEARCH),
    looks(Get, "/images/get", Nothing, Operation::ImageSaveMany),
    changes(Post, "/images/create", Nothing, Operation::ImageCreate),
    changes(Post, "/images/load", Nothing, Operation::ImageLoad),
    changes(Post, "/images/prune", Nothing, Operation::ImagePrune).since(25),
    looks(Get, "/images/{name:.*}/get", Image, Operation::ImageSave),
    looks(Get, "/images/{name:.*}/history", Image, Operation::ImageHistory),
    looks(Get, "/images/{name:.*}/json", Image, Operation::ImageInspect),
    later(Get, "/images/{name:.*}/attestations", Image, "attestations are not part of this version of Droste")
        .since(55),
    changes(Post, "/images/{name:.*}/push", Image, Operation::ImagePush),
    changes(Post, "/images/{name:.*}/tag", Image, Operation::ImageTag),
    changes(Delete, "/images/{name:.*}", Image, Operation::ImageDelete),
    changes(Post, "/commit", Nothing, Operation::ImageCommit),
    later(Post, "/build", Nothing, NO_BUILD),
    changes(Post, "/build/prune", Nothing, Operation::BuildPrune).since(31),
    later(Post, "/build/cancel", Nothing, NO_BUILD).since(39),
    looks(Get, "/distribution/{name:.*}/json", Image, Operation::DistributionInspect).since(30),
    looks(Get, "/networks", Nothing, Operation::NetworkList),
    looks(Get, "/networks/", Nothing, Operation::NetworkList),
    looks(Get, "/networks/{id:.*}", Network, Operation::NetworkInspect),
    changes(Post, "/networks/create", Nothing, Operation::NetworkCreate),
    changes(Post, "/networks/prune", Nothing, Operation::NetworkPrune).since(25),
    changes(Post, "/networks/{id:.*}/connect", Network, Operation::NetworkConnect),
    changes(Post, "/networks/{id:.*}/disconnect", Network, Operation::NetworkDisconnect),
    changes(Delete, "/networks/{id:.*}", Network, Operation::NetworkDelete),
    looks(Get, "/volumes", Nothing, Operation::VolumeList),
    looks(Get, "/volumes/{name:.*}", Volume, Operation::VolumeInspect),
    changes(Post, "/volumes/create", Nothing, Operation::VolumeCreate),
    changes(Post, "/volumes/prune", Nothing, Operation::VolumePrune).since(25),
    changes(Put, "/volumes/{name:.*}", Object::Other, Operation::VolumeUpdate).since(42),
    changes(Delete, "/volumes/{name:.*}", Volume, Operation::VolumeDelete),
    plugin(Get, "/plugins"),
    plugin(Get, "/plugins/privileges"),
    plugin(Get, "/plugins/{name:.*}/json"),
    plugin(Delete, "/plugins/{name:.*}"),
    plugin(Post, "/plugins/pull"),
    plugin(Post, "/plugins/create"),
    plugin(Post, "/plugins/{name:.*}/enable"),
    plugin(Post, "/plugins/{name:.*}/disable"),
    plugin(Post, "/plugins/{name:.*}/push"),
    plugin(Post, "/plugins/{name:.*}/upgrade").since(26),
    plugin(Post, "/plugins/{name:.*}/set"),
    swarm(Get, "/swarm"),
    swarm(Get, "/swarm/unlockkey"),
    swarm(Post, "/swarm/init"),
    swarm(Post, "/swarm/join"),
    swarm(Post, "/swarm/leave"),
    swarm(Post, "/swarm/update"),
    swarm(Post, "/swarm/unlock"),
    swarm(Get, "/services"),
    swarm(Get, "/services/{id}"),
    swarm(Get, "/services/{id}/logs"),
    swarm(Post, "/services/create"),
    swarm(Post, "/services/{id}/update"),
    swarm(Delete, "/services/{id}"),
    swarm(Get, "/nodes"),
    swarm(Get, "/nodes/{id}"),
    swarm(Post, "/nodes/{id}/update"),
    swarm(Delete, "/nodes/{id}"),
    swarm(Get, "/tasks"),
    swarm(Get, "/tasks/{id}"),
    swarm(Get, "/tasks/{id}/logs"),
    swarm(Get, "/secrets"),
    swarm(Get, "/secrets/{id}"),
    swarm(Post, "/secrets/create"),
    swarm(Post, "/secrets/{id}/update"),
    swarm(Delete, "/secrets/{id}"),
    swarm(Get, "/configs"),
    swarm(Get, "/configs/{id}"),
    swarm(Post, "/configs/create"),
    swarm(Post, "/configs/{id}/update"),
    swarm(Delete, "/configs/{id}"),
    later(Get, "/debug/{name:.*}", Nothing, NO_DEBUG),
    looks(Get, "/droste/tree", Nothing, Operation::DrosteTree),
    looks(Get, "/droste/containers/json", Nothing, Operation::DrosteContainers).of_all_levels(),
    looks(Get, "/droste/events", Nothing, Operation::DrosteEvents).of_all_levels(),
    looks(Get, "/droste/hosts", Nothing, Operation::DrosteHosts),
    looks(Get, "/droste/hosts/{path:.*}/json", Container, Operation::DrosteHost),
    changes(Post, "/droste/hosts/{path:.*}/limits", Container, Operation::DrosteHostLimits),
];

/// A route that matches a request, and what its parameter is.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'static Route,
    /// The path's parameter, decoded; empty if the pattern has none.
    pub parameter: &'a str,
}

/// Finds the route of a decoded path without its version.
pub fn find(method: Method, path: &str, version: ApiVersion) -> Option<Match<'_>> {
    ROUTES
        .iter()
        .filter(|route| route.method == method && route.since <= version)
        .find_map(|route| parameter(route.pattern, path).map(|parameter| Match { route, parameter }))
}

/// The first parameter of a path that fits a pattern; `None` if it does not fit.
fn parameter<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let (name, after) = rest.split_once('}')?;
    let rest = path.strip_prefix(before)?;
    if name.ends_with(":.*") {
        return rest.strip_suffix(after).filter(|value| !value.is_empty());
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (value, rest) = rest.split_at(end);
    (!value.is_empty() && parameter(after, rest).is_some()).then_some(value)
}

/// The table as Markdown, for `docs/api-coverage.md`.
pub fn coverage() -> String {
    let mut text = String::from(
        "# The API, operation by operation\n\n\
         Printed from the route table in `crates/api/src/routes.rs`; a test compares the two \
         (`DROSTE_WRITE_DOCS=1 cargo test -p droste-api` writes this file anew).\n\n\
         - *looks* and *changes*: whether a socket with the grant `parent-ro` may do it.\n\
         - *503*, *none*: Droste answers as a Docker Engine outside a swarm, or without plugins.\n\
         - *later*: answered with 501 and a sentence that says so.\n\n\
         | method | path | since | effect | Droste |\n|---|---|---|---|---|\n",
    );
    for route in ROUTES {
        let effect = match route.effect {
            Effect::Looks => "looks",
            Effect::Changes => "changes",
        };
        let answer = match route.answer {
            Answer::Does(_) => "yes",
            Answer::Later(_) => "later",
            Answer::NoSwarm => "503",
            Answer::NoPlugins => "none",
        };
        let Route { method, pattern, since, .. } = route;
        let _ = writeln!(text, "| {} | `{pattern}` | {since} | {effect} | {answer} |", method.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::CURRENT;

    fn found(method: Method, path: &str) -> Option<(Answer, &str)> {
        find(method, path, CURRENT).map(|found| (found.route.answer, found.parameter))
    }

    #[test]
    fn paths_find_their_operations() {
        use Answer::Does;
        for (method, path, operation, parameter) in [
            (Get, "/containers/json", Operation::ContainerList, ""),
            (Get, "/containers/web/json", Operation::ContainerInspect, "web"),
            (Delete, "/containers/web", Operation::ContainerDelete, "web"),
            (Get, "/images/a/b:c/json", Operation::ImageInspect, "a/b:c"),
            (Get, "/images/json", Operation::ImageList, ""),
            (Get, "/images/json/json", Operation::ImageInspect, "json"),
            (Get, "/images/get", Operation::ImageSaveMany, ""),
            (Delete, "/images/h:5000/a", Operation::ImageDelete, "h:5000/a"),
            (Post, "/images/a/push/push", Operation::ImagePush, "a/push"),
            (Post, "/exec/ab/start", Operation::ExecStart, "ab"),
            (Get, "/networks/bridge", Operation::NetworkInspect, "bridge"),
            (Get, "/networks/", Operation::NetworkList, ""),
        ] {
            assert_eq!(found(method, path), Some((Does(operation), parameter)), "{path}");
        }
        for (method, path) in [
            (Get, "/"),
            (Get, "/containers/"),
            (Get, "/containers"),
            (Get, "/containers/a/b/json"),
            (Post, "/containers/web/json"),
            (Get, "/images//json"),
            (Delete, "/info"),
            (Get, "/containers/a/jsonx"),
            (Get, "/auth"),
        ] {
            assert_eq!(found(method, path), None, "{path}");
        }
    }

    #[test]
    fn older_versions_lack_newer_routes() {
        let at = |minor| find(Get, "/system/df", ApiVersion::new(1, minor)).is_some();
        assert!(at(25) && !at(24));
    }

    #[test]
    fn every_operation_has_a_route() {
        for operation in Operation::ALL {
            let routed = ROUTES.iter().any(|route| route.answer == Answer::Does(*operation));
            assert!(routed, "{operation:?}");
        }
    }

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api-coverage.md");
        if std::env::var_os("DROSTE_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
            std::fs::write(path, coverage()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            coverage(),
            "docs/api-coverage.md is not current"
        );
    }

    #[test]
    fn the_schema_has_no_route_that_the_table_lacks() {
        // Method and path of every operation in Docker's schema of version 1.51.
        for line in include_str!("../tests/schema-1.51.txt").lines() {
            let (method, path) = line.split_once(' ').unwrap();
            let sample = path.replace("{id}", "x").replace("{name}", "x");
            assert!(find(Method::parse(method).unwrap(), &sample, CURRENT).is_some(), "{line}");
        }
    }
}
