//! dockerd's flags.

use std::ffi::OsString;

use super::OptionError;
use super::values::Values;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--x`, `--x=true`, `--x=false`.
    Bool,
    /// One value; the last counts.
    Text,
    /// Several values.
    List,
    /// Understood, and without effect because it is always so or means nothing here.
    Ignored(&'static str),
    /// Not to be ignored: who asks for it relies on it.
    Refused(&'static str),
}

/// One flag: its name, its letter, its key in the file, what it takes, and what it is for.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) key: &'static str,
    pub(super) kind: Kind,
}

const fn flag(name: &'static str, short: Option<char>, key: &'static str, kind: Kind) -> Flag {
    Flag { name, short, key, kind }
}

const ALWAYS: &str = "is always so";
const OWN: &str = "means nothing to Droste";

use Kind::{Bool, Ignored, List, Refused, Text};

/// All flags that are known.
pub(super) const FLAGS: &[Flag] = &[
    flag("host", Some('H'), "hosts", List),
    flag("group", Some('G'), "group", Text),
    flag("tls", None, "tls", Bool),
    flag("tlsverify", None, "tlsverify", Bool),
    flag("tlscacert", None, "tlscacert", Text),
    flag("tlscert", None, "tlscert", Text),
    flag("tlskey", None, "tlskey", Text),
    flag("insecure-tcp", None, "insecure-tcp", Bool),
    flag("data-root", Some('g'), "data-root", Text),
    flag("exec-root", None, "exec-root", Text),
    flag("pidfile", Some('p'), "pidfile", Text),
    flag("config-file", None, "", Text),
    flag("validate", None, "", Bool),
    flag("debug", Some('D'), "debug", Bool),
    flag("log-level", Some('l'), "log-level", Text),
    flag("log-format", None, "log-format", Text),
    flag("bip", None, "bip", Text),
    flag("mtu", None, "mtu", Text),
    flag("icc", None, "icc", Bool),
    flag("default-address-pool", None, "default-address-pools", List),
    flag("default-ulimit", None, "default-ulimits", List),
    flag("insecure-registry", None, "insecure-registries", List),
    flag("registry-mirror", None, "registry-mirrors", List),
    flag("http-proxy", None, "", Text),
    flag("https-proxy", None, "", Text),
    flag("no-proxy", None, "", Text),
    flag("max-concurrent-downloads", None, "max-concurrent-downloads", Text),
    flag("max-concurrent-uploads", None, "max-concurrent-uploads", Text),
    flag("max-download-attempts", None, "max-download-attempts", Text),
    flag("default-runtime", None, "default-runtime", Text),
    flag("add-runtime", None, "runtimes", List),
    flag("log-driver", None, "log-driver", Text),
    flag("log-opt", None, "log-opts", List),
    flag("dns", None, "dns", List),
    flag("dns-opt", None, "dns-opts", List),
    flag("dns-search", None, "dns-search", List),
    flag("label", None, "labels", List),
    flag("init", None, "init", Bool),
    flag("seccomp-profile", None, "seccomp-profile", Text),
    flag("no-new-privileges", None, "no-new-privileges", Bool),
    flag("cgroup-parent", None, "cgroup-parent", Text),
    flag("parent-image", None, "parent-images", List),
    flag("default-socket-grant", None, "default-socket-grant", Text),
    flag("audit-log", None, "audit-log", Text),
    flag("live-restore", None, "live-restore", Ignored(ALWAYS)),
    flag("storage-driver", Some('s'), "storage-driver", Ignored("is always overlay2")),
    flag("userland-proxy", None, "userland-proxy", Ignored(OWN)),
    flag("userland-proxy-path", None, "userland-proxy-path", Ignored(OWN)),
    flag("shutdown-timeout", None, "shutdown-timeout", Ignored("means nothing: containers run on")),
    flag("containerd", None, "containerd", Ignored(OWN)),
    flag("containerd-namespace", None, "containerd-namespace", Ignored(OWN)),
    flag("init-path", None, "init-path", Ignored(OWN)),
    flag("iptables", None, "iptables", Ignored(OWN)),
    flag("ip6tables", None, "ip6tables", Ignored(OWN)),
    flag("ip-forward", None, "ip-forward", Ignored(ALWAYS)),
    flag("ip-masq", None, "ip-masq", Ignored(ALWAYS)),
    flag("experimental", None, "experimental", Ignored(OWN)),
    flag("raw-logs", None, "raw-logs", Ignored(OWN)),
    flag("features", None, "features", Ignored(OWN)),
    flag("feature", None, "feature", Ignored(OWN)),
    flag("builder", None, "builder", Ignored(OWN)),
    flag("exec-opt", None, "exec-opts", Ignored("means nothing: cgroups are Droste's own")),
    flag("oom-score-adjust", None, "oom-score-adjust", Ignored(OWN)),
    flag("storage-opt", None, "storage-opts", Ignored(OWN)),
    flag("cdi-spec-dir", None, "cdi-spec-dirs", Ignored(OWN)),
    flag("containerd-plugins-namespace", None, "containerd-plugin-namespace", Ignored(OWN)),
    flag("cri-containerd", None, "cri-containerd", Ignored(OWN)),
    flag("add-host", None, "add-host", Ignored("means nothing: there are no builds")),
    flag("network-control-plane-mtu", None, "network-control-plane-mtu", Ignored(OWN)),
    flag("node-generic-resource", None, "node-generic-resources", Ignored(OWN)),
    flag("rootless", None, "rootless", Refused("the daemon must be root")),
    flag("bip6", None, "bip6", Refused("default bridges have IPv4 addresses")),
    flag("fixed-cidr-v6", None, "fixed-cidr-v6", Refused("default bridges have IPv4 addresses")),
    flag("default-gateway", None, "default-gateway", Refused("--bip chooses the default bridge's gateway")),
    flag("default-gateway-v6", None, "default-gateway-v6", Refused("default bridges have IPv4 addresses")),
    flag("default-network-opt", None, "default-network-opts", Refused("give options to 'droste network create'")),
    flag("allow-direct-routing", None, "allow-direct-routing", Refused("publish the ports that others may reach")),
    flag(
        "ip-forward-no-drop",
        None,
        "ip-forward-no-drop",
        Refused("switch the kernel's forwarding on before the daemon does"),
    ),
    flag("ip", None, "ip", Refused("name the address where ports are published, -p ADDRESS:PORT:PORT")),
    flag("host-gateway-ip", None, "host-gateway-ips", Refused("name the address, --add-host NAME:ADDRESS")),
    flag("default-shm-size", None, "default-shm-size", Refused("give containers --shm-size")),
    flag("default-ipc-mode", None, "default-ipc-mode", Refused("give containers --ipc")),
    flag("default-cgroupns-mode", None, "default-cgroupns-mode", Refused("give containers --cgroupns")),
    flag("cpu-rt-period", None, "cpu-rt-period", Refused("Droste gives no realtime budgets")),
    flag("cpu-rt-runtime", None, "cpu-rt-runtime", Refused("Droste gives no realtime budgets")),
    flag("bridge", Some('b'), "bridge", Refused("use --bip to choose the default bridge's addresses")),
    flag("fixed-cidr", None, "fixed-cidr", Refused("use --bip with a smaller subnet")),
    flag("ipv6", None, "ipv6", Refused("default bridges have IPv4 addresses")),
    flag("userns-remap", None, "userns-remap", Refused("user namespaces come with the runtime 'nest'")),
    flag("selinux-enabled", None, "selinux-enabled", Refused("Droste sets no SELinux labels")),
    flag("authorization-plugin", None, "authorization-plugins", Refused("a host's socket is its boundary")),
    flag("metrics-addr", None, "metrics-addr", Refused("ask 'droste stats'")),
    flag("swarm-default-advertise-addr", None, "swarm-default-advertise-addr", Refused("Droste has no swarm")),
];

/// What the command line says.
pub(super) enum Read {
    Help,
    Version,
    Values(Values),
}

pub(super) fn read(args: &[OsString]) -> Result<Read, OptionError> {
    let mut values = Values::default();
    let mut words = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(Read::Help),
            "--version" | "-v" => return Ok(Read::Version),
            _ => {}
        }
        let (flag, inline) = find(&word)?;
        let value = match (inline, flag.kind) {
            (Some(value), _) => value,
            (None, Bool) => "true".to_owned(),
            (None, Ignored(_) | Refused(_)) if is_bool(flag.name) => "true".to_owned(),
            (None, _) => words.next().ok_or(OptionError::NoArgument(word))?,
        };
        match flag.kind {
            Ignored(reason) => values.note(format!("--{} {reason}", flag.name)),
            Refused(way_out) => return Err(OptionError::Absent { option: format!("--{}", flag.name), way_out }),
            Bool | Text | List => values.add(flag.name, value),
        }
    }
    Ok(Read::Values(values))
}

/// Those of dockerd's flags without effect here that take no argument.
fn is_bool(name: &str) -> bool {
    [
        "live-restore",
        "userland-proxy",
        "iptables",
        "ip6tables",
        "ip-forward",
        "ip-masq",
        "experimental",
        "raw-logs",
        "cri-containerd",
        "rootless",
        "allow-direct-routing",
        "ip-forward-no-drop",
        "ipv6",
        "selinux-enabled",
    ]
    .contains(&name)
}

fn find(word: &str) -> Result<(&'static Flag, Option<String>), OptionError> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let name = if name == "graph" { "data-root" } else { name };
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        return flag.map(|flag| (flag, value)).ok_or_else(|| OptionError::Unknown(format!("--{name}")));
    }
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
        return Err(OptionError::Argument(word.to_owned()));
    };
    let mut chars = letters.chars();
    let letter = chars.next();
    let flag = FLAGS.iter().find(|flag| flag.short.is_some() && flag.short == letter);
    let rest = chars.as_str();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let value = (!rest.is_empty()).then(|| rest.to_owned());
    flag.map(|flag| (flag, value)).ok_or_else(|| OptionError::Unknown(word.to_owned()))
}

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Usage:  droste daemon [OPTIONS]

Serve Docker's API on this machine.

  -H, --host ADDRESS                  Listen at unix://PATH, tcp://HOST:PORT or fd:// (several;
                                      default unix:///run/droste/droste.sock)
  -G, --group GROUP                   Group of the Unix sockets (default droste, if there is one)
      --tls, --tlsverify              TLS for TCP; --tlsverify asks clients for a certificate, too
      --tlscacert, --tlscert, --tlskey FILE
      --insecure-tcp                  Allow TCP beyond loopback without TLS
      --data-root DIR                 Images, containers, records (default /var/lib/droste)
      --exec-root DIR                 State of running containers (default /run/droste)
  -p, --pidfile FILE                  (default /run/droste/droste.pid)
      --config-file FILE              JSON with the same options (default /etc/droste/daemon.json)
      --validate                      Check the configuration and stop
  -D, --debug
  -l, --log-level LEVEL               debug, info, warn, error (default info)
      --log-format FORMAT             text or json
      --bip ADDRESS/PREFIX            Address of the default bridge
      --mtu N, --icc                  MTU of default bridges; whether their containers reach each other
      --default-address-pool base=CIDR,size=N
      --default-ulimit NAME=SOFT[:HARD]
      --insecure-registry, --registry-mirror
      --http-proxy, --https-proxy URL, --no-proxy LIST
                                      Proxies for pulls and pushes (default HTTP_PROXY and so on)
      --max-concurrent-downloads, --max-concurrent-uploads, --max-download-attempts N
      --add-runtime NAME=PATH         An OCI runtime; --default-runtime NAME
      --log-driver, --log-opt         Log of containers that say nothing about it
      --dns, --dns-opt, --dns-search
      --label KEY=VALUE, --init, --cgroup-parent PATH
      --seccomp-profile builtin|unconfined|FILE, --no-new-privileges
      --parent-image NAME             Images whose socket acts on their creator's host unasked
      --default-socket-grant GRANT    What other sockets act on unasked: own, parent or parent-ro (default own)
      --audit-log FILE                One JSON line for each call that changes something
";
