//! What the client understands besides Docker's words when it is called by the name `podman`: what podman-compose and
//! scripts for podman say that Docker's client lacks or says in another way. Called by any other name, the client is
//! as if this were not here.

mod create;
mod observe;

use std::ffi::OsStr;
use std::path::Path;

use crate::app::{App, Command};
use crate::cmd::exists::there;
use crate::error::{CliError, Result};
use crate::flags::Parsed;

/// Whose words these are: `wait --condition=healthy` came with it, and podman-compose uses that from it on. Later ones
/// say more that is not here (`pull --policy`).
const VERSION: &str = "4.6.0";

const CREATE: &str = "
    !- network list Connect to a network; read by `create`, and checked as Docker's afterwards
    - http-proxy bool=true Pass variables about proxies on; they never are
    - pod string Pod to be in, which must be one that shares nothing
    - requires strings Containers that whoever starts this one has started before";
const WAIT: &str = "
    - condition string What to wait for: created, running, paused, stopped, exited, healthy or unhealthy
    - ignore bool Containers that do not exist are no error";
const IGNORE: &str = "
    - ignore bool What does not exist is no error";
const NO_HEADING: &str = "
    - noheading bool Show no line of headings";

/// Whether the program was called by podman's name.
pub(crate) fn is_name(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new("podman"))
}

/// What `--version` prints; readers take the last word.
pub(crate) fn version() -> String {
    format!("podman version {VERSION}")
}

/// Flags of a command that only podman has, or takes in more forms; they count before the command's own.
pub(crate) fn flags(command: &Command) -> &'static str {
    match (command.group, command.name()) {
        ("container", "create" | "run") => CREATE,
        ("container", "wait") => WAIT,
        ("container", "logs") => "- color bool Give each container a colour",
        ("container", "rm" | "stop") | ("image", "rm") => IGNORE,
        ("network" | "volume", "ls") => NO_HEADING,
        _ => "",
    }
}

/// Runs a command with podman's flags.
pub(crate) fn run(app: &App, command: &Command, mut flags: Parsed) -> Result<u8> {
    if flags.on("ignore") {
        flags.args = existing(app, command, flags.args)?;
    }
    match (command.group, command.name()) {
        ("container", "create" | "run") => create::adapt(&mut flags)?,
        ("container", "wait") if flags.given("condition") => return observe::wait(app, &flags),
        ("container", "ls") if flags.str("format") == "json" => return observe::list(app, &flags),
        ("volume", "ls") => headless(&mut flags, "{{.Driver}}\t{{.Name}}"),
        ("network", "ls") => headless(&mut flags, "{{.ID}}\t{{.Name}}\t{{.Driver}}"),
        _ => {}
    }
    if flags.on("ignore") && flags.args.is_empty() {
        return Ok(0);
    }
    (command.run)(app, &flags)
}

fn existing(app: &App, command: &Command, names: Vec<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        if there(app, command.group, &name)? {
            found.push(name);
        }
    }
    Ok(found)
}

/// A template prints no headings.
fn headless(flags: &mut Parsed, columns: &str) {
    if flags.on("noheading") && flags.str("format").is_empty() && !flags.on("quiet") {
        flags.set("format", columns);
    }
}

/// `pod`: a pod whose containers share nothing is only a name, and only of such is there something to say.
pub(crate) fn pod(words: &[String]) -> Result<u8> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["exists", _] => Ok(1),
        ["rm", ..] => Ok(0),
        ["create", ref options @ ..] if shares_nothing(options) => Ok(0),
        ["create", ..] => Err(CliError::new(
            "containers of a pod share nothing here: say --infra=false --share= \
             (podman-compose: --pod-args='--infra=false --share=' or --in-pod=false)",
        )),
        _ => Err(CliError::new("of a pod one can say: create --infra=false --share=, exists, rm")),
    }
}

/// A pod's own ports would be its infra container's.
fn shares_nothing(options: &[&str]) -> bool {
    let known = |option: &&str| matches!(*option, "--infra=false" | "--share=") || option.starts_with("--name=");
    options.contains(&"--infra=false") && options.contains(&"--share=") && options.iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_name_is_what_counts() {
        assert!(is_name(OsStr::new("podman")) && is_name(OsStr::new("/usr/bin/podman")));
        assert!(!is_name(OsStr::new("droste")) && !is_name(OsStr::new("/podman/docker")));
    }

    #[test]
    fn only_pods_that_share_nothing_are_made() {
        assert_eq!(pod(&words("create --name=x --infra=false --share=")).unwrap(), 0);
        assert_eq!(pod(&words("exists x")).unwrap(), 1);
        let refused = pod(&words("create --name=x")).unwrap_err().to_string();
        assert!(refused.contains("--in-pod=false"), "{refused}");
        assert!(pod(&words("create --infra=false --share= -p 80:80")).is_err());
        assert!(pod(&words("ps")).is_err());
    }
}
