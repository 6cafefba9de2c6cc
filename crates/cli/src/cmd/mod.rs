//! The commands, and the tree that they hang in. A command is a value; adding one is adding it to its file's table.

mod absent;
pub(crate) mod container;
mod context;
pub(crate) mod exists;
mod host;
mod image;
mod inspect;
mod network;
mod prune;
mod system;
mod volume;

use crate::app::Command;

/// A word that gathers commands: `container`, `image`.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Listed apart in the help.
    pub(crate) swarm: bool,
}

const fn group(name: &'static str, about: &'static str) -> Group {
    Group { name, about, swarm: false }
}

const fn swarm(name: &'static str, about: &'static str) -> Group {
    Group { name, about, swarm: true }
}

/// Every group.
pub(crate) const GROUPS: &[Group] = &[
    group("builder", "Manage builds"),
    group("checkpoint", "Manage checkpoints"),
    group("container", "Manage containers"),
    group("context", "Manage contexts"),
    group("host", "Look at the hosts below this one"),
    group("image", "Manage images"),
    group("manifest", "Manage Docker image manifests and manifest lists"),
    group("network", "Manage networks"),
    group("plugin", "Manage plugins"),
    group("system", "Manage Docker"),
    group("trust", "Manage trust on Docker images"),
    group("volume", "Manage volumes"),
    swarm("config", "Manage Swarm configs"),
    swarm("node", "Manage Swarm nodes"),
    swarm("secret", "Manage Swarm secrets"),
    swarm("service", "Manage Swarm services"),
    swarm("stack", "Manage Swarm stacks"),
    swarm("swarm", "Manage Swarm"),
];

/// Every command.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    [
        container::COMMANDS,
        host::COMMANDS,
        image::COMMANDS,
        inspect::COMMANDS,
        exists::COMMANDS,
        network::COMMANDS,
        volume::COMMANDS,
        system::COMMANDS,
        context::COMMANDS,
        crate::complete::COMMANDS,
        absent::COMMANDS,
    ]
    .into_iter()
    .flatten()
}
