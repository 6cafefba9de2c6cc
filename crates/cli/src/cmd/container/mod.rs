//! Commands on containers.

mod cp;
mod exec;
mod facts;
mod lifecycle;
mod logs;
mod ps;
mod pull;
mod run;
mod start;
mod stats;

use crate::app::{App, Arity, Command};
use crate::cmd::prune;
use crate::error::Result;
use crate::flags::Parsed;

pub(crate) use facts::download;
pub(crate) use lifecycle::each;
pub(crate) use ps::Summary;
pub(crate) use pull::{pull_image, pull_reference};

/// Options that `run` and `create` share.
const CREATE: &str = include_str!("create.flags");
const RUN: &str = concat!(include_str!("create.flags"), include_str!("run.flags"));

/// A command with the same name at the top and in the group.
const fn simple(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: name, group: "container", names: &[], usage, about, flags, arity, interspersed: true, run }
}

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
    simple(
        "attach",
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        start::ATTACH,
        Arity::Exactly(1),
        start::attach,
    ),
    simple(
        "commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        facts::COMMIT,
        Arity::Between(1, 2),
        facts::commit,
    ),
    simple(
        "cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdroste cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        cp::FLAGS,
        Arity::Exactly(2),
        cp::run,
    ),
    simple(
        "diff",
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        "",
        Arity::Exactly(1),
        facts::diff,
    ),
    simple(
        "export",
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        facts::EXPORT,
        Arity::Exactly(1),
        facts::export,
    ),
    simple(
        "kill",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        lifecycle::KILL,
        Arity::AtLeast(1),
        lifecycle::kill,
    ),
    simple(
        "pause",
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        "",
        Arity::AtLeast(1),
        lifecycle::pause,
    ),
    simple(
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        "",
        Arity::Between(1, 2),
        facts::port,
    ),
    Command {
        top: "",
        group: "container",
        names: &["prune"],
        usage: "[OPTIONS]",
        about: "Remove all stopped containers",
        flags: prune::FLAGS,
        arity: Arity::None,
        interspersed: true,
        run: prune::containers,
    },
    simple("rename", "CONTAINER NEW_NAME", "Rename a container", "", Arity::Exactly(2), lifecycle::rename),
    simple(
        "restart",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        lifecycle::STOP,
        Arity::AtLeast(1),
        lifecycle::restart,
    ),
    Command {
        top: "rm",
        group: "container",
        names: &["rm", "remove"],
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Remove one or more containers",
        flags: lifecycle::RM,
        arity: Arity::AtLeast(1),
        interspersed: true,
        run: lifecycle::rm,
    },
    simple(
        "start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        start::START,
        Arity::AtLeast(1),
        start::start,
    ),
    simple(
        "stats",
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        stats::FLAGS,
        Arity::Any,
        stats::run,
    ),
    simple(
        "stop",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        lifecycle::STOP,
        Arity::AtLeast(1),
        lifecycle::stop,
    ),
    Command {
        top: "top",
        group: "container",
        names: &["top"],
        usage: "CONTAINER [ps OPTIONS]",
        about: "Display the running processes of a container",
        flags: "",
        arity: Arity::AtLeast(1),
        interspersed: false,
        run: facts::top,
    },
    simple(
        "unpause",
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        "",
        Arity::AtLeast(1),
        lifecycle::unpause,
    ),
    simple(
        "update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        facts::UPDATE,
        Arity::AtLeast(1),
        facts::update,
    ),
    simple(
        "wait",
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        "",
        Arity::AtLeast(1),
        lifecycle::wait,
    ),
];
