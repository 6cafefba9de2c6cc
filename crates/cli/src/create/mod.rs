//! From `run` and `create`'s options to the body of `POST /containers/create`, field for field as Docker's client
//! sends it. Each file reads one family of options; this one puts the body together.

pub(crate) mod environment;
pub(crate) mod gpu;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod resources;
pub(crate) mod security;

use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::values;

/// What the options say, ready to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: Value,
    pub(crate) name: String,
    pub(crate) platform: String,
    pub(crate) image: String,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
}

/// Which standard streams are attached: in, out, err.
type Streams = (bool, bool, bool);

/// Puts the request together from the options, the image and the command after it.
pub(crate) fn request(flags: &Parsed, proxies: &[(String, String)], console: [u16; 2]) -> Result<Request> {
    let image = flags.args.first().cloned().unwrap_or_default();
    check_conflicts(flags)?;
    let (stdin, stdout, stderr) = streams(flags);
    let tty = flags.on("tty");
    let ports = ports::read(flags)?;
    let volumes = mount::volumes(flags)?;
    let networking = network::read(flags)?;
    let command = &flags.args[1..];

    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    put("Hostname", flags.str("hostname").into());
    put("Domainname", flags.str("domainname").into());
    put("User", flags.str("user").into());
    put("AttachStdin", stdin.into());
    put("AttachStdout", stdout.into());
    put("AttachStderr", stderr.into());
    if !ports.exposed.is_empty() {
        put("ExposedPorts", set(&ports.exposed));
    }
    put("Tty", tty.into());
    put("OpenStdin", flags.on("interactive").into());
    put("StdinOnce", (flags.on("interactive") && stdin).into());
    put("Env", or_null(environment::variables(flags, proxies)?));
    put("Cmd", if command.is_empty() { Value::Null } else { command.into() });
    if let Some(health) = environment::healthcheck(flags)? {
        put("Healthcheck", health);
    }
    put("Image", image.clone().into());
    put("Volumes", set(&volumes.anonymous));
    put("WorkingDir", flags.str("workdir").into());
    put("Entrypoint", flags.get("entrypoint").map_or(Value::Null, |e| json!([e])));
    put("OnBuild", Value::Null);
    put("Labels", environment::labels(flags)?.into());
    if let Some(signal) = flags.get("stop-signal").filter(|s| !s.is_empty()) {
        put("StopSignal", signal.into());
    }
    if let Some(seconds) = flags.int("stop-timeout") {
        put("StopTimeout", seconds.into());
    }
    put("HostConfig", host_config(flags, &ports, &volumes, &networking.mode, console)?);
    put("NetworkingConfig", json!({"EndpointsConfig": networking.endpoints}));
    Ok(Request {
        body: Value::Object(body),
        name: flags.str("name").to_owned(),
        platform: flags.str("platform").to_owned(),
        image,
        stdin,
        stdout,
        stderr,
        tty,
        open_stdin: flags.on("interactive"),
    })
}

fn check_conflicts(flags: &Parsed) -> Result<()> {
    let restart = flags.str("restart");
    if flags.on("rm") && !matches!(restart, "" | "no") {
        return Err(CliError::new("conflicting options: cannot specify both --restart and --rm"));
    }
    if let Some(swappiness) = flags.int("memory-swappiness")
        && !(-1..=100).contains(&swappiness)
    {
        return Err(CliError::new(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100")));
    }
    Ok(())
}

fn streams(flags: &Parsed) -> Streams {
    let asked: Vec<String> = flags.all("attach").iter().map(|s| s.to_lowercase()).collect();
    let has = |name: &str| asked.iter().any(|s| s == name);
    if !asked.is_empty() {
        return (has("stdin"), has("stdout"), has("stderr"));
    }
    if flags.on("detach") {
        return (false, false, false);
    }
    (flags.on("interactive"), true, true)
}

fn host_config(
    flags: &Parsed,
    ports: &ports::Ports,
    volumes: &mount::Volumes,
    network: &str,
    console: [u16; 2],
) -> Result<Value> {
    let security = security::read(flags)?;
    check_namespaces(flags)?;
    let mut host = Map::new();
    let mut put = |name: &str, value: Value| {
        host.insert(name.to_owned(), value);
    };
    put("Binds", or_null(volumes.binds.clone()));
    put("ContainerIDFile", flags.str("cidfile").into());
    put("LogConfig", json!({"Type": flags.str("log-driver"), "Config": environment::log_options(flags)?}));
    put("NetworkMode", network.into());
    put("PortBindings", ports.bindings.clone().into());
    put("RestartPolicy", restart_policy(flags.str("restart"))?);
    put("AutoRemove", flags.on("rm").into());
    put("VolumeDriver", flags.str("volume-driver").into());
    put("VolumesFrom", or_null(flags.all("volumes-from").to_vec()));
    put("ConsoleSize", json!(console));
    if flags.given("annotation") {
        put("Annotations", environment::pairs(flags.all("annotation")).into());
    }
    put("CapAdd", or_null(security::capabilities(flags.all("cap-add"))));
    put("CapDrop", or_null(security::capabilities(flags.all("cap-drop"))));
    put("CgroupnsMode", flags.str("cgroupns").into());
    put("Dns", flags.all("dns").into());
    put("DnsOptions", flags.all("dns-option").into());
    put("DnsSearch", flags.all("dns-search").into());
    put("ExtraHosts", or_null(extra_hosts(flags)));
    put("GroupAdd", or_null(flags.all("group-add").to_vec()));
    put("IpcMode", flags.str("ipc").into());
    put("Cgroup", "".into());
    put("Links", or_null(flags.all("link").to_vec()));
    put("OomScoreAdj", flags.int("oom-score-adj").unwrap_or(0).into());
    put("PidMode", flags.str("pid").into());
    put("Privileged", flags.on("privileged").into());
    put("PublishAllPorts", flags.on("publish-all").into());
    put("ReadonlyRootfs", flags.on("read-only").into());
    put("SecurityOpt", or_null(security.options));
    if flags.given("storage-opt") {
        put("StorageOpt", environment::strict_pairs(flags.all("storage-opt"), "storage option")?.into());
    }
    if flags.given("tmpfs") {
        put("Tmpfs", tmpfs(flags.all("tmpfs")));
    }
    put("UTSMode", flags.str("uts").into());
    put("UsernsMode", flags.str("userns").into());
    put("ShmSize", flags.get("shm-size").and_then(|v| values::parse_bytes(v).ok()).unwrap_or(0).into());
    if flags.given("sysctl") {
        put("Sysctls", environment::pairs(flags.all("sysctl")).into());
    }
    if let Some(runtime) = flags.get("runtime").filter(|r| !r.is_empty()) {
        put("Runtime", runtime.into());
    }
    put("Isolation", flags.str("isolation").into());
    resources::fill(flags, &mut host)?;
    let mut put = |name: &str, value: Value| {
        host.insert(name.to_owned(), value);
    };
    let mounts = mount::mounts(flags)?;
    if !mounts.is_empty() {
        put("Mounts", mounts.into());
    }
    put("MaskedPaths", if security.bare_paths { json!([]) } else { Value::Null });
    put("ReadonlyPaths", if security.bare_paths { json!([]) } else { Value::Null });
    if let Some(init) = flags.switch("init") {
        put("Init", init.into());
    }
    Ok(Value::Object(host))
}

/// What Docker's client itself refuses; of `--ipc` the daemon decides.
fn check_namespaces(flags: &Parsed) -> Result<()> {
    let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let checks = [
        ("uts", "UTS", ["host", "host"]),
        ("userns", "USER", ["host", "host"]),
        ("cgroupns", "CGROUP", ["host", "private"]),
    ];
    let pid = flags.str("pid");
    if !matches!(pid, "" | "host") && !of_container(pid) {
        return Err(CliError::new("--pid: invalid PID mode"));
    }
    for (flag, name, valid) in checks {
        let mode = flags.str(flag);
        if !mode.is_empty() && !valid.contains(&mode) {
            return Err(CliError::new(format!("--{flag}: invalid {name} mode")));
        }
    }
    Ok(())
}

/// Reads `no`, `always`, `unless-stopped`, `on-failure[:N]`.
pub(crate) fn restart_policy(text: &str) -> Result<Value> {
    let text = if text.is_empty() { "no" } else { text };
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(CliError::new("invalid restart policy format: no policy provided before colon"));
    }
    let count = match count {
        "" => 0,
        count => values::parse_int(count)
            .map_err(|_| CliError::new("invalid restart policy format: maximum retry count must be an integer"))?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

fn extra_hosts(flags: &Parsed) -> Vec<String> {
    let pairs = flags.all("add-host").iter().filter_map(|h| values::extra_host(h));
    pairs.map(|(name, address)| format!("{name}:{address}")).collect()
}

fn tmpfs(given: &[String]) -> Value {
    let pairs = given.iter().map(|text| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), Value::from(options))
    });
    Value::Object(pairs.collect())
}

fn set(names: &[String]) -> Value {
    Value::Object(names.iter().map(|name| (name.clone(), json!({}))).collect())
}

/// A list as Go writes it: `null` when nothing was given.
fn or_null(list: Vec<String>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

#[cfg(test)]
mod tests;
