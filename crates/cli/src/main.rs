//! The one program: `droste daemon …` serves, everything else is the client.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|word| word.to_str()) {
        Some("daemon") => ExitCode::from(daemon(args.skip(1))),
        Some(droste_cli::DETACH) => {
            // A session of its own: the terminal that the client came from must not end the daemon.
            let _ = rustix::process::setsid();
            ExitCode::from(daemon(args.skip(1)))
        }
        _ => ExitCode::from(droste_cli::run(args)),
    }
}

/// The daemon's entry, with the words after `daemon`.
fn daemon(_args: impl Iterator<Item = OsString>) -> u8 {
    eprintln!("droste: this program was built without the daemon");
    1
}
