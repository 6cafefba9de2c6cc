//! Commands on what an engine without swarm and plugins does not have. They are parsed as Docker's are and asked of the
//! daemon, whose answer is the honest one; a daemon that has these things serves the simple ones.

use std::io::Write;

use serde_json::{Value, json};

use crate::app::{App, Arity, Command};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::net::client::{Query, Request, escape, escape_path};
use crate::output::indent::indent;
use crate::output::list::{self, Format, Row};

const LS: &str = "
    f filter filter Show what meets a condition
    - format string Format of the output: 'table' (the default), 'table TEMPLATE', 'json' or a Go template
    - no-trunc bool Show everything in full
    q quiet bool Show ids only";
const FORCE: &str = "
    f force bool Do it even if it is in use";
const INSPECT: &str = "
    f format string Format of the output: 'json' or a Go template
    - pretty bool Print for humans";
const SWARM_INIT: &str = "
    - advertise-addr string Address that others see
    - autolock bool Need a key to start a stopped manager
    - availability string=active Availability of the node
    - cert-expiry duration Validity of certificates
    - data-path-addr string Address of the data path
    - data-path-port uint32 Port of the data path
    - default-addr-pool list Pool of addresses
    - default-addr-pool-mask-length uint32=24 Length of the pool's subnets
    - dispatcher-heartbeat duration Period of the heartbeat
    - external-ca list Certificate authorities outside
    - force-new-cluster bool Begin a new cluster from what there is
    - listen-addr string=0.0.0.0:2377 Address to listen on
    - max-snapshots uint64 Snapshots to keep
    - snapshot-interval uint64=10000 Log entries between snapshots
    - task-history-limit int=5 Tasks to keep";
const SWARM_JOIN: &str = "
    - advertise-addr string Address that others see
    - availability string=active Availability of the node
    - data-path-addr string Address of the data path
    - listen-addr string=0.0.0.0:2377 Address to listen on
    - token string Token of the swarm";
const INSTALL: &str = "
    - alias string Name of the plugin here
    - disable bool Do not enable it
    - disable-content-trust bool=true Skip image verification
    - grant-all-permissions bool Grant what the plugin asks for";
const CHECKPOINT: &str = "
    - checkpoint-dir string Folder of checkpoints
    - leave-running bool Leave the container running";

const fn command(
    group: &'static str,
    names: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    flags: &'static str,
    arity: Arity,
    run: fn(&App, &Parsed) -> Result<u8>,
) -> Command {
    Command { top: "", group, names, usage, about, flags, arity, interspersed: true, run }
}

const fn listing(group: &'static str, about: &'static str, run: fn(&App, &Parsed) -> Result<u8>) -> Command {
    command(group, &["ls", "list"], "[OPTIONS]", about, LS, Arity::None, run)
}

const fn looking(group: &'static str, about: &'static str, run: fn(&App, &Parsed) -> Result<u8>) -> Command {
    command(group, &["inspect"], "[OPTIONS] NAME [NAME...]", about, INSPECT, Arity::AtLeast(1), run)
}

const fn removing(group: &'static str, about: &'static str, run: fn(&App, &Parsed) -> Result<u8>) -> Command {
    command(group, &["rm", "remove"], "NAME [NAME...]", about, FORCE, Arity::AtLeast(1), run)
}

pub(crate) const COMMANDS: &[Command] = &[
    command("swarm", &["init"], "[OPTIONS]", "Initialize a swarm", SWARM_INIT, Arity::None, |app, _| {
        post(app, "/swarm/init", &json!({"ListenAddr": "0.0.0.0:2377"}))
    }),
    command(
        "swarm",
        &["join"],
        "[OPTIONS] HOST:PORT",
        "Join a swarm as a node and/or manager",
        SWARM_JOIN,
        Arity::Exactly(1),
        |app, flags| {
            post(
                app,
                "/swarm/join",
                &json!({"RemoteAddrs": flags.args, "JoinToken": flags.str("token"), "ListenAddr": "0.0.0.0:2377"}),
            )
        },
    ),
    command("swarm", &["leave"], "[OPTIONS]", "Leave the swarm", FORCE, Arity::None, |app, flags| {
        post(app, &Query::new().flag("force", flags.on("force")).on("/swarm/leave"), &Value::Null)
    }),
    command("swarm", &["update"], "[OPTIONS]", "Update the swarm", "", Arity::None, |app, _| get(app, "/swarm")),
    command("swarm", &["ca"], "[OPTIONS]", "Display and rotate the root CA", "", Arity::None, |app, _| {
        get(app, "/swarm")
    }),
    command(
        "swarm",
        &["join-token"],
        "[OPTIONS] (worker|manager)",
        "Manage join tokens",
        "",
        Arity::Exactly(1),
        |app, _| get(app, "/swarm"),
    ),
    command("swarm", &["unlock-key"], "[OPTIONS]", "Manage the unlock key", "", Arity::None, |app, _| {
        get(app, "/swarm/unlockkey")
    }),
    command("swarm", &["unlock"], "", "Unlock swarm", "", Arity::None, |app, _| {
        post(app, "/swarm/unlock", &json!({"UnlockKey": ""}))
    }),
    listing("node", "List nodes in the swarm", |app, flags| ls(app, flags, "/nodes")),
    looking("node", "Display detailed information on one or more nodes", |app, flags| inspect(app, flags, "/nodes")),
    removing("node", "Remove one or more nodes from the swarm", |app, flags| rm(app, flags, "/nodes")),
    listing("service", "List services", |app, flags| ls(app, flags, "/services")),
    looking("service", "Display detailed information on one or more services", |app, flags| {
        inspect(app, flags, "/services")
    }),
    removing("service", "Remove one or more services", |app, flags| rm(app, flags, "/services")),
    command(
        "service",
        &["create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new service",
        "",
        Arity::AtLeast(1),
        |app, flags| {
            post(app, "/services/create", &json!({"TaskTemplate": {"ContainerSpec": {"Image": flags.args[0]}}}))
        },
    ),
    command("stack", &["ls"], "[OPTIONS]", "List stacks", LS, Arity::None, |app, flags| ls(app, flags, "/services")),
    listing("secret", "List secrets", |app, flags| ls(app, flags, "/secrets")),
    looking("secret", "Display detailed information on one or more secrets", |app, flags| {
        inspect(app, flags, "/secrets")
    }),
    removing("secret", "Remove one or more secrets", |app, flags| rm(app, flags, "/secrets")),
    listing("config", "List configs", |app, flags| ls(app, flags, "/configs")),
    looking("config", "Display detailed information on one or more configs", |app, flags| {
        inspect(app, flags, "/configs")
    }),
    removing("config", "Remove one or more configs", |app, flags| rm(app, flags, "/configs")),
    listing("plugin", "List plugins", |app, flags| ls(app, flags, "/plugins")),
    removing("plugin", "Remove one or more plugins", |app, flags| rm(app, flags, "/plugins")),
    command(
        "plugin",
        &["install"],
        "[OPTIONS] PLUGIN [KEY=VALUE...]",
        "Install a plugin",
        INSTALL,
        Arity::AtLeast(1),
        |app, flags| get(app, &Query::new().add("remote", &flags.args[0]).on("/plugins/privileges")),
    ),
    command(
        "plugin",
        &["create"],
        "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
        "Create a plugin from a rootfs and configuration",
        "- compress bool Compress the context",
        Arity::Exactly(2),
        |app, flags| post(app, &Query::new().add("name", &flags.args[0]).on("/plugins/create"), &Value::Null),
    ),
    command(
        "plugin",
        &["enable"],
        "[OPTIONS] PLUGIN",
        "Enable a plugin",
        "- timeout int=30 Seconds to wait",
        Arity::Exactly(1),
        |app, flags| act(app, flags, "enable?timeout=0"),
    ),
    command("plugin", &["disable"], "[OPTIONS] PLUGIN", "Disable a plugin", FORCE, Arity::Exactly(1), |app, flags| {
        act(app, flags, "disable")
    }),
    command(
        "plugin",
        &["push"],
        "[OPTIONS] PLUGIN[:TAG]",
        "Push a plugin to a registry",
        "- disable-content-trust bool=true Skip image signing",
        Arity::Exactly(1),
        |app, flags| act(app, flags, "push"),
    ),
    command(
        "plugin",
        &["set"],
        "PLUGIN KEY=VALUE [KEY=VALUE...]",
        "Change settings for a plugin",
        "",
        Arity::AtLeast(2),
        |app, flags| post(app, &format!("/plugins/{}/set", escape_path(&flags.args[0])), &json!(flags.args[1..])),
    ),
    command(
        "plugin",
        &["upgrade"],
        "[OPTIONS] PLUGIN [REMOTE]",
        "Upgrade an existing plugin",
        "- disable-content-trust bool=true Skip image verification
         - grant-all-permissions bool Grant what the plugin asks for
         - skip-remote-check bool Do not compare it with what is there",
        Arity::Between(1, 2),
        |app, flags| act(app, flags, "upgrade"),
    ),
    command(
        "checkpoint",
        &["create"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Create a checkpoint from a running container",
        CHECKPOINT,
        Arity::Exactly(2),
        |app, flags| {
            post(
                app,
                &checkpoints(flags),
                &json!({"CheckpointID": flags.args[1], "CheckpointDir": flags.str("checkpoint-dir"), "Exit": !flags.on("leave-running")}),
            )
        },
    ),
    command(
        "checkpoint",
        &["ls", "list"],
        "[OPTIONS] CONTAINER",
        "List checkpoints for a container",
        CHECKPOINT,
        Arity::Exactly(1),
        |app, flags| get(app, &checkpoints(flags)),
    ),
    command(
        "checkpoint",
        &["rm", "remove"],
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Remove a checkpoint",
        CHECKPOINT,
        Arity::Exactly(2),
        |app, flags| {
            app.client()?.delete(format!("{}/{}", checkpoints(flags), escape(&flags.args[1])))?;
            Ok(0)
        },
    ),
    command(
        "manifest",
        &["inspect"],
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        "- insecure bool Speak to a registry without TLS\nv verbose bool Show layers and platform too",
        Arity::Between(1, 2),
        |app, flags| {
            get(app, &format!("/distribution/{}/json", escape_path(flags.args.last().map_or("", String::as_str))))
        },
    ),
    command(
        "manifest",
        &["create"],
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Create a local manifest list",
        "a amend bool Change a list that exists\n- insecure bool Speak to a registry without TLS",
        Arity::AtLeast(2),
        no_lists,
    ),
    command(
        "manifest",
        &["annotate"],
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Add information to a local image manifest",
        "- arch string Architecture\n- os string Operating system\n- os-features strings Its features\n- os-version string Its \
         version\n- variant string Variant of the architecture",
        Arity::Exactly(2),
        no_lists,
    ),
    command(
        "manifest",
        &["push"],
        "[OPTIONS] MANIFEST_LIST",
        "Push a manifest list to a repository",
        "- insecure bool Speak to a registry without TLS\np purge bool Remove the list afterwards",
        Arity::Exactly(1),
        no_lists,
    ),
    command(
        "manifest",
        &["rm"],
        "MANIFEST_LIST [MANIFEST_LIST...]",
        "Delete one or more manifest lists",
        "",
        Arity::AtLeast(1),
        no_lists,
    ),
    command(
        "trust",
        &["inspect"],
        "IMAGE[:TAG] [IMAGE[:TAG]...]",
        "Return information about keys and signatures",
        "- pretty bool Print for humans",
        Arity::AtLeast(1),
        no_trust,
    ),
    command(
        "trust",
        &["revoke"],
        "[OPTIONS] IMAGE[:TAG]",
        "Remove trust for an image",
        "y yes bool Do not ask",
        Arity::Exactly(1),
        no_trust,
    ),
    command(
        "trust",
        &["sign"],
        "IMAGE:TAG",
        "Sign an image",
        "- local bool Sign an image that is here",
        Arity::Exactly(1),
        no_trust,
    ),
    command("trust", &["key"], "COMMAND", "Manage keys for signing Docker images", "", Arity::Any, no_trust),
    command("trust", &["signer"], "COMMAND", "Manage entities who can sign Docker images", "", Arity::Any, no_trust),
];

fn no_lists(_app: &App, _flags: &Parsed) -> Result<u8> {
    Err(CliError::new("droste keeps no manifest lists of its own; `buildx imagetools create` makes and pushes them"))
}

fn no_trust(_app: &App, _flags: &Parsed) -> Result<u8> {
    Err(CliError::new(
        "droste does not do Docker Content Trust (Notary v1), which registries have given up; use cosign or notation",
    ))
}

fn checkpoints(flags: &Parsed) -> String {
    format!("/containers/{}/checkpoints", escape(&flags.args[0]))
}

fn act(app: &App, flags: &Parsed, verb: &str) -> Result<u8> {
    post(app, &format!("/plugins/{}/{verb}", escape_path(&flags.args[0])), &Value::Null)
}

fn post(app: &App, path: &str, body: &Value) -> Result<u8> {
    let request = Request::new("POST", path);
    let request = if body.is_null() { request } else { request.json(body) };
    print(&app.client()?.bytes(request)?)
}

fn get(app: &App, path: &str) -> Result<u8> {
    print(&app.client()?.bytes(Request::new("GET", path))?)
}

fn print(bytes: &[u8]) -> Result<u8> {
    let text = String::from_utf8_lossy(bytes);
    if !text.trim().is_empty() {
        writeln!(std::io::stdout().lock(), "{}", indent(text.trim(), "", "    "))?;
    }
    Ok(0)
}

fn inspect(app: &App, flags: &Parsed, path: &str) -> Result<u8> {
    crate::output::inspect::write(&flags.args, flags.str("format"), |name| {
        app.client()?.bytes(Request::new("GET", format!("{path}/{}", escape(name))))
    })
}

fn rm(app: &App, flags: &Parsed, path: &str) -> Result<u8> {
    let query = Query::new().flag("force", flags.on("force"));
    super::container::each(&flags.args, |name| {
        app.client()?.delete(query.clone().on(&format!("{path}/{}", escape_path(name)))).map(|_| None)
    })
}

/// Something with an id and a name, and in the case of plugins a little more.
struct Thing(Value);

fn ls(app: &App, flags: &Parsed, path: &str) -> Result<u8> {
    let all: Option<Vec<Value>> = app.client()?.get(Query::new().filters(flags.all("filter")).on(path))?;
    let rows = all.unwrap_or_default().into_iter().map(Thing).collect();
    let table =
        if path == "/plugins" { "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}" } else { "{{.ID}}\t{{.Name}}" };
    let format = if flags.on("quiet") {
        Format::Lines("{{.ID}}".to_owned())
    } else {
        Format::read(flags.str("format"), "", table)
    };
    list::write(rows, &format)?;
    Ok(0)
}

impl Row for Thing {
    const TYPE: &'static str = "*formatter.pluginContext";
    const FIELDS: &'static [(&'static str, &'static str)] =
        &[("ID", "ID"), ("Name", "NAME"), ("Description", "DESCRIPTION"), ("Enabled", "ENABLED")];

    fn field(&self, name: &str) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let value = &self.0;
        match name {
            "ID" => text(if value["ID"].is_null() { &value["Id"] } else { &value["ID"] }).chars().take(12).collect(),
            "Name" if value["Name"].is_null() => text(&value["Spec"]["Name"]),
            "Name" => text(&value["Name"]),
            "Description" => text(&value["Config"]["Description"]),
            _ => value["Enabled"].to_string(),
        }
    }
}
