//! The daemon: it listens, finds the handler of each request, and turns the engine's answers into Docker's.
//!
//! Which host a connection acts on is settled when it is accepted, by the socket through which it came; nothing inside
//! a request changes that. The daemon opens no namespace and knows nothing of mounts.

mod audit;
mod call;
mod dress;
mod error;
mod glob;
mod handlers;
mod http;
mod listen;
mod log;
mod notify;
mod options;
mod progress;
mod quiet;
mod reply;
mod router;
mod run;
mod serve;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::options::Command;

/// `droste daemon`: serves until SIGTERM. `args` are the words after it.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let options = match options::parse(&args) {
        Ok(Command::Serve(options)) => options,
        Ok(Command::Help) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("Droste version {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    if options.validate {
        // Nothing else that is read later comes from the configuration alone.
        if let Some(Err(error)) = options.tls.as_ref().map(tls::acceptor) {
            return fail(&error);
        }
        println!("configuration OK");
        return ExitCode::SUCCESS;
    }
    match run::run(*options, &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("droste daemon: {error}");
    ExitCode::FAILURE
}
