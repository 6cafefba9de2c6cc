//! `inspect` of anything, and of one kind of object.

use crate::app::{App, Arity, Command};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Request, escape, escape_path};
use crate::output::inspect;

const ANY: &str = "
    f format string Format of the output: 'json' or a Go template
    s size bool Show the sizes of a container's files
    - type string Inspect objects of one type only";
const SIZED: &str = "
    f format string Format of the output: 'json' or a Go template
    s size bool Show the sizes of files";
const IMAGE: &str = "
    f format string Format of the output: 'json' or a Go template
    - platform string Inspect this platform of the image";
const PLAIN: &str = "
    f format string Format of the output: 'json' or a Go template";
const NETWORK: &str = "
    f format string Format of the output: 'json' or a Go template
    v verbose bool Say more, for diagnosis";

const fn command(
    top: &'static str,
    group: &'static str,
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top, group, names: &["inspect"], usage, about, flags, arity: Arity::AtLeast(1), interspersed: true, run }
}

pub(crate) const COMMANDS: &[Command] = &[
    command(
        "inspect",
        "",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        ANY,
        any,
    ),
    command(
        "",
        "container",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        SIZED,
        |app, flags| one(app, flags, "container"),
    ),
    command(
        "",
        "image",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        IMAGE,
        |app, flags| one(app, flags, "image"),
    ),
    command(
        "",
        "network",
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        NETWORK,
        |app, flags| one(app, flags, "network"),
    ),
    command(
        "",
        "volume",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        PLAIN,
        |app, flags| one(app, flags, "volume"),
    ),
    command(
        "",
        "plugin",
        "[OPTIONS] PLUGIN [PLUGIN...]",
        "Display detailed information on one or more plugins",
        PLAIN,
        |app, flags| one(app, flags, "plugin"),
    ),
];

/// Kinds in the order in which a name is looked up; the second part is what only exists in a swarm.
const KINDS: &[&str] = &["container", "image", "network", "volume"];
const SWARM_KINDS: &[&str] = &["service", "task", "node", "plugin", "secret", "config"];

fn one(app: &App, flags: &Parsed, kind: &str) -> Result<u8> {
    inspect::write(&flags.args, flags.str("format"), |name| fetch(app, flags, kind, name))
}

fn any(app: &App, flags: &Parsed) -> Result<u8> {
    let kind = flags.str("type");
    if kind.is_empty() && !flags.given("type") {
        return inspect::write(&flags.args, flags.str("format"), |name| search(app, flags, name));
    }
    if !KINDS.contains(&kind) && !SWARM_KINDS.contains(&kind) {
        return Err(CliError::new(format!(
            "unknown type: {kind:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \
             \"secret\", \"service\", \"task\", \"volume\""
        )));
    }
    one(app, flags, kind)
}

fn search(app: &App, flags: &Parsed, name: &str) -> Result<Vec<u8>> {
    for kind in KINDS.iter().chain(&["plugin"]) {
        match fetch(app, flags, kind, name) {
            Err(CliError::Api { status: 400 | 404 | 501, .. }) => {}
            other => return other,
        }
    }
    Err(CliError::new(format!("Error: No such object: {name}")))
}

pub(super) fn fetch(app: &App, flags: &Parsed, kind: &str, name: &str) -> Result<Vec<u8>> {
    if name.is_empty() {
        return Err(CliError::new(format!("Error response from daemon: No such {kind}: ")));
    }
    let id = escape(name);
    let path = match kind {
        "container" => format!("/containers/{id}/json{}", if flags.on("size") { "?size=1" } else { "" }),
        "image" => format!("/images/{}/json{}", escape_path(name), platform(flags)?),
        "network" => format!("/networks/{id}{}", if flags.on("verbose") { "?verbose=true" } else { "" }),
        "volume" => format!("/volumes/{id}"),
        "plugin" => format!("/plugins/{}/json", escape_path(name)),
        other => format!("/{other}s/{id}"),
    };
    app.client()?.bytes(Request::new("GET", path))
}

/// `os[/arch[/variant]]` as the JSON that the newer requests want.
pub(crate) fn platform(flags: &Parsed) -> Result<String> {
    Ok(match flags.get("platform").filter(|p| !p.is_empty()) {
        Some(text) => format!("?platform={}", escape(&platform_json(text).to_string())),
        None => String::new(),
    })
}

/// A platform's parts.
pub(crate) fn platform_json(text: &str) -> serde_json::Value {
    let mut parts = text.split('/');
    let mut out = serde_json::Map::new();
    for name in ["os", "architecture", "variant"] {
        if let Some(part) = parts.next().filter(|p| !p.is_empty()) {
            out.insert(name.to_owned(), part.into());
        }
    }
    out.into()
}
