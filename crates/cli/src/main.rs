//! The one program: `droste daemon …` serves, everything else is the client.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().peekable();
    let program = args.next().unwrap_or_default();
    match args.peek().and_then(|word| word.to_str()) {
        Some("daemon") => droste_daemon::main(args.skip(1)),
        Some(droste_cli::DETACH) => {
            // A session of its own: the terminal that the client came from must not end the daemon.
            let _ = rustix::process::setsid();
            droste_daemon::main(args.skip(1))
        }
        _ => ExitCode::from(droste_cli::run(&program, args)),
    }
}
