//! Commands on images.

mod build;
mod ls;
mod manage;
mod transfer;
mod tree;

use crate::app::{App, Arity, Command, RAW};
use crate::cmd::prune;
use crate::error::Result;
use crate::flags::Parsed;

pub(crate) use ls::{Line, Summary, lines};
pub(crate) use manage::prune_images;

const fn command(
    top: &'static str,
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top, group: "image", names, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(
        "build",
        &["build"],
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        RAW,
        Arity::Any,
        build::run,
    ),
    command(
        "history",
        &["history"],
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        manage::HISTORY,
        Arity::Exactly(1),
        manage::history,
    ),
    command(
        "images",
        &["ls", "list"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        ls::FLAGS,
        Arity::AtMost(1),
        ls::run,
    ),
    command(
        "import",
        &["import"],
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        transfer::IMPORT,
        Arity::Between(1, 2),
        transfer::import,
    ),
    command(
        "load",
        &["load"],
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        transfer::LOAD,
        Arity::None,
        transfer::load,
    ),
    Command {
        group: "builder",
        ..command(
            "",
            &["build"],
            "[OPTIONS] PATH | URL | -",
            "Build an image from a Dockerfile",
            RAW,
            Arity::Any,
            build::run,
        )
    },
    Command {
        group: "builder",
        ..command("", &["prune"], "[OPTIONS]", "Remove build cache", prune::BUILDS, Arity::None, prune::builds)
    },
    command("", &["prune"], "[OPTIONS]", "Remove unused images", manage::PRUNE, Arity::None, manage::prune),
    command(
        "pull",
        &["pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        transfer::PULL,
        Arity::Exactly(1),
        transfer::pull,
    ),
    command(
        "push",
        &["push"],
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        transfer::PUSH,
        Arity::Exactly(1),
        transfer::push,
    ),
    command(
        "rmi",
        &["rm", "remove"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        manage::RM,
        Arity::AtLeast(1),
        manage::rm,
    ),
    command(
        "save",
        &["save"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        transfer::SAVE,
        Arity::AtLeast(1),
        transfer::save,
    ),
    command(
        "tag",
        &["tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "",
        Arity::Exactly(2),
        manage::tag,
    ),
];
