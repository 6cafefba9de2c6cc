//! `exists` of a kind of object: a question for scripts, answered by the exit code alone. Docker's client has none.

use super::inspect::fetch;
use crate::app::{App, Arity, Command};
use crate::error::Result;
use crate::flags::Parsed;

const fn command(
    group: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    let arity = Arity::Exactly(1);
    Command { top: "", group, names: &["exists"], usage, about, flags: "", arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command("container", "CONTAINER", "Whether a container exists: exit code 0, or 1 if not", |app, flags| {
        answer(app, flags, "container")
    }),
    command("image", "IMAGE", "Whether an image exists: exit code 0, or 1 if not", |app, flags| {
        answer(app, flags, "image")
    }),
    command("network", "NETWORK", "Whether a network exists: exit code 0, or 1 if not", |app, flags| {
        answer(app, flags, "network")
    }),
    command("volume", "VOLUME", "Whether a volume exists: exit code 0, or 1 if not", |app, flags| {
        answer(app, flags, "volume")
    }),
];

fn answer(app: &App, flags: &Parsed, kind: &str) -> Result<u8> {
    Ok(u8::from(!there(app, kind, &flags.args[0])?))
}

/// Whether there is an object of that kind and name.
pub(crate) fn there(app: &App, kind: &str, name: &str) -> Result<bool> {
    match fetch(app, &Parsed::default(), kind, name) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
