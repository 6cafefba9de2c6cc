//! Commands on images.

mod ls;

use crate::app::{Arity, Command};

pub(crate) const COMMANDS: &[Command] = &[Command {
    top: "images",
    group: "image",
    names: &["ls", "list"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: ls::FLAGS,
    arity: Arity::AtMost(1),
    interspersed: true,
    run: ls::run,
}];
