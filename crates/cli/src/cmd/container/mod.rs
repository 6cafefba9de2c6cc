//! Commands on containers.

mod exec;
mod logs;
mod ps;
mod pull;
mod run;

use crate::app::{Arity, Command};

pub(crate) use pull::pull_image;

/// Options that `run` and `create` share.
const CREATE: &str = include_str!("create.flags");
const RUN: &str = concat!(include_str!("create.flags"), include_str!("run.flags"));

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        top: "run",
        group: "container",
        names: &["run"],
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create and run a new container from an image",
        flags: RUN,
        arity: Arity::AtLeast(1),
        interspersed: false,
        run: run::run,
    },
    Command {
        top: "create",
        group: "container",
        names: &["create"],
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create a new container",
        flags: CREATE,
        arity: Arity::AtLeast(1),
        interspersed: false,
        run: run::create,
    },
    Command {
        top: "exec",
        group: "container",
        names: &["exec"],
        usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
        about: "Execute a command in a running container",
        flags: exec::FLAGS,
        arity: Arity::AtLeast(2),
        interspersed: false,
        run: exec::run,
    },
    Command {
        top: "ps",
        group: "container",
        names: &["ls", "list", "ps"],
        usage: "[OPTIONS]",
        about: "List containers",
        flags: ps::FLAGS,
        arity: Arity::None,
        interspersed: true,
        run: ps::run,
    },
    Command {
        top: "logs",
        group: "container",
        names: &["logs"],
        usage: "[OPTIONS] CONTAINER",
        about: "Fetch the logs of a container",
        flags: logs::FLAGS,
        arity: Arity::Exactly(1),
        interspersed: true,
        run: logs::run,
    },
];
