//! Commands about the daemon as a whole.

mod df;
mod events;
mod info;
mod prune;
mod registry;
mod serve;
mod stdio;
mod tree;
mod version;

use crate::app::{App, Arity, Command};
use crate::error::Result;
use crate::flags::Parsed;

/// A command's names: at the top, its group, in the group.
type Place = (&'static str, &'static str, &'static [&'static str]);

const fn command(
    place: Place,
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: place.0, group: place.1, names: place.2, usage, about, flags, arity, interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(("", "system", &["df"]), "[OPTIONS]", "Show docker disk usage", df::FLAGS, Arity::None, df::run),
    command(
        ("events", "system", &["events"]),
        "[OPTIONS]",
        "Get real time events from the server",
        events::FLAGS,
        Arity::None,
        events::run,
    ),
    command(
        ("info", "system", &["info"]),
        "[OPTIONS]",
        "Display system-wide information",
        info::FLAGS,
        Arity::None,
        info::run,
    ),
    command(("", "system", &["prune"]), "[OPTIONS]", "Remove unused data", prune::FLAGS, Arity::None, prune::run),
    command(
        ("", "system", &["dial-stdio"]),
        "",
        "Connect standard input and output to the daemon",
        "",
        Arity::None,
        stdio::run,
    ),
    command(
        ("version", "", &["version"]),
        "[OPTIONS]",
        "Show the version information",
        version::FLAGS,
        Arity::None,
        version::run,
    ),
    command(
        ("login", "", &["login"]),
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry. Docker Hub is the one without a name.",
        registry::LOGIN,
        Arity::AtMost(1),
        registry::login,
    ),
    command(("logout", "", &["logout"]), "[SERVER]", "Log out from a registry", "", Arity::AtMost(1), registry::logout),
    command(
        ("search", "", &["search"]),
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        registry::SEARCH,
        Arity::Exactly(1),
        registry::search,
    ),
    command(
        ("serve", "", &["serve"]),
        "[OPTIONS]",
        "Hand this host on over the network: whoever reaches the port acts on this host",
        serve::FLAGS,
        Arity::None,
        serve::run,
    ),
    command(
        ("tree", "", &["tree"]),
        "[OPTIONS]",
        "Draw the hosts below this one and their containers",
        tree::FLAGS,
        Arity::None,
        tree::run,
    ),
];
