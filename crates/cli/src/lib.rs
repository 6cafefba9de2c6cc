//! Droste's command-line client, a drop-in for `docker`: the same commands, options, output and exit codes, over
//! Docker's API and nothing else. The daemon is another process, reached through a socket; this crate links no engine.
//!
//! `app` finds the command, `flags` and `values` read the words, `net` speaks to the daemon, `create` turns `run`'s
//! options into a request, `session` carries a container's streams and `relay` other clients', `output` and `template`
//! write what comes back, `cmd` holds the commands, `podman` what a client of that name says besides. All of it is blocking and, but for `serve`, single-threaded: a
//! client that lives for a few milliseconds has no use for a runtime.

mod app;
mod archive;
mod cmd;
mod complete;
mod config;
mod context;
mod create;
mod credentials;
mod error;
mod flags;
mod help;
mod ignore;
mod net;
mod output;
mod plugin;
mod podman;
mod relay;
mod session;
mod template;
mod terminal;
mod values;

use std::ffi::{OsStr, OsString};

/// The hidden first word with which the client starts a daemon in a session of its own; `main` answers to it.
pub use net::autostart::DETACH;

/// Runs the client. `args` are the words after the program's name, which counts if it is `podman`; the result is the
/// exit code.
pub fn run(program: &OsStr, args: impl Iterator<Item = OsString>) -> u8 {
    let words: Vec<String> = args.map(|word| word.to_string_lossy().into_owned()).collect();
    app::run(&words, podman::is_name(program))
}
