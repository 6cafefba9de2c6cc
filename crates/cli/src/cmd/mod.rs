//! The commands, and the tree that they hang in. A command is a value; adding one is adding it to its file's table.

pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod inspect;

use crate::app::Command;

/// A word that gathers commands: `container`, `image`.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) swarm: bool,
}

const fn group(name: &'static str, about: &'static str) -> Group {
    Group { name, about, swarm: false }
}

/// Every group, in the order of the help.
pub(crate) const GROUPS: &[Group] = &[group("container", "Manage containers"), group("image", "Manage images")];

/// Every command.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    [container::COMMANDS, image::COMMANDS, inspect::COMMANDS].into_iter().flatten()
}
