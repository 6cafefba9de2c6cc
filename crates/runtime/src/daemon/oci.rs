//! Containers of other OCI runtimes: the plan in their words, and the bundle's making. Only for a host at level 0.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use droste_model::capability::NAMES;
use serde_json::{Map, Value, json};

use super::namespaces::{HostNamespaces, MountView, PrivateRoot};
use super::{LaunchError, Runtime, SHIM, Shim};

use crate::lookup::{Identity, identify};
use crate::plan::{
    Device, DeviceKind, Failure, FailureKind, LaunchPlan, Mount, MountFlags, MountSource, Namespace, PidNamespace,
    Propagation, Rlimit, Rootfs,
};
use crate::wire::{INIT_NAME, OciJob, Request};

/// What an OCI runtime needs beyond a plan, whose filters are compiled and whose cgroup is made already.
#[derive(Clone, Debug, Default)]
pub struct OciOptions {
    /// The runtime's program and arguments before its command.
    pub runtime: Vec<String>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<String>,
    /// `linux.seccomp`.
    pub seccomp: Option<Value>,
    /// `linux.resources`. Its `devices` are what the container may use: runc allows none that are not named.
    pub resources: Option<Value>,
}

const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

impl Runtime {
    /// Starts a container with another OCI runtime, as `runc` or `crun`.
    ///
    /// # Errors
    /// The step that failed, with the runtime's own words where it has some.
    pub async fn launch_oci(
        &self,
        plan: LaunchPlan,
        fds: Vec<OwnedFd>,
        options: OciOptions,
    ) -> Result<Shim, LaunchError> {
        let bundle = Path::new(&plan.state_dir).join("oci");
        let state_dir = PathBuf::from(&plan.state_dir);
        let id = plan.id.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(plan, &bundle, options)).await;
        let job = prepared.map_err(|error| refused(&error.to_string()))??;
        self.start(&id, state_dir, &Request::Oci(Box::new(job)), fds).await
    }
}

fn prepare(plan: LaunchPlan, bundle: &Path, options: OciOptions) -> Result<OciJob, LaunchError> {
    if options.runtime.is_empty() {
        return Err(refused("no OCI runtime is named"));
    }
    if matches!(plan.namespaces.pid, PidNamespace::New { parent: Some(_) }) {
        return Err(refused("an OCI runtime can't make a container on a nested host; leave --runtime out"));
    }
    let identity = look_up(&plan)?;
    let failed = |error: io::Error| refused(&format!("can't make the bundle {}: {error}", bundle.display()));
    fs::create_dir_all(bundle).map_err(failed)?;
    if plan.init {
        let path = bundle.join("docker-init");
        fs::write(&path, SHIM).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    let spec = spec(&plan, &identity, bundle, &options);
    fs::write(bundle.join("config.json"), spec.to_string()).map_err(failed)?;
    Ok(OciJob { plan, runtime: options.runtime, bundle: bundle.to_string_lossy().into_owned() })
}

/// Looks the user up in the container's root, and makes the working directory there, as the shim does.
fn look_up(plan: &LaunchPlan) -> Result<Identity, LaunchError> {
    let work = || {
        // The runtime complains in its own words when it can't be entered.
        let _ = fs::create_dir_all(&plan.process.cwd);
        identify(&plan.process.user, &plan.process.groups)
    };
    let entered = match &plan.rootfs {
        Rootfs::Overlay(overlay) => {
            PrivateRoot { overlay, place: Path::new(&plan.state_dir), binds: Vec::new() }.run(work)
        }
        Rootfs::Directory(path) => {
            let root = fs::File::open(path).map_err(|error| refused(&format!("can't open {path}: {error}")))?;
            let own = HostNamespaces::own().map_err(|error| refused(&error.to_string()))?;
            MountView { mnt: own.mnt, root: root.into() }.run(work)
        }
        Rootfs::Mount(_) => return Err(refused("an OCI runtime needs a root that is an overlay or a directory")),
    };
    entered.map_err(|error| refused(&error.to_string()))?
}

fn refused(message: &str) -> LaunchError {
    Failure { step: "prepare OCI bundle".into(), errno: 0, message: message.into(), kind: FailureKind::Other }
}

/// A plan as an OCI runtime's `config.json`. Bind sources and namespaces are where the shim puts them in the bundle.
#[must_use]
pub fn spec(plan: &LaunchPlan, identity: &Identity, bundle: &Path, options: &OciOptions) -> Value {
    let mut mounts: Vec<_> = plan.mounts.iter().flat_map(|mount| mount_entries(mount, bundle)).collect();
    if plan.init {
        let source = bundle.join("docker-init");
        mounts.push(json!({"destination": INIT_NAME, "type": "bind", "source": source, "options": ["bind", "ro"]}));
    }
    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces(plan, bundle));
    linux.insert("devices".into(), plan.devices.iter().map(device).collect());
    linux.insert("maskedPaths".into(), json!(plan.masked_paths));
    linux.insert("readonlyPaths".into(), json!(plan.readonly_paths));
    linux.insert("sysctl".into(), plan.sysctls.iter().map(|(name, value)| (name.clone(), json!(value))).collect());
    linux.insert("rootfsPropagation".into(), json!(propagation(plan.rootfs_propagation)));
    for (name, value) in [
        ("cgroupsPath", options.cgroups_path.as_ref().map(|path| json!(path))),
        ("seccomp", options.seccomp.clone()),
        ("resources", options.resources.clone()),
    ] {
        linux.extend(value.map(|value| (name.to_owned(), value)));
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": plan.hostname,
        "root": {"path": "rootfs", "readonly": plan.readonly_rootfs},
        "process": process(plan, identity),
        "mounts": mounts,
        "linux": linux,
    })
}

fn process(plan: &LaunchPlan, identity: &Identity) -> Value {
    let process = &plan.process;
    let mut args: Vec<_> = process.args.clone();
    if plan.init {
        args.splice(0..0, [INIT_NAME, "--"].map(String::from));
    }
    let mut env = process.env.clone();
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    let mut value = json!({
        "terminal": plan.stdio.tty.is_some(),
        "user": {
            "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups, "umask": process.umask,
        },
        "args": args,
        "env": env,
        "cwd": process.cwd,
        "capabilities": capabilities(plan, identity.uid),
        "rlimits": process.rlimits.iter().filter_map(rlimit).collect::<Vec<_>>(),
        "noNewPrivileges": process.no_new_privs,
    });
    if let Some(score) = process.oom_score_adj {
        value["oomScoreAdj"] = json!(score);
    }
    if let Some(profile) = &process.apparmor {
        value["apparmorProfile"] = json!(profile);
    }
    value
}

fn capabilities(plan: &LaunchPlan, uid: u32) -> Value {
    let sets = &plan.process.capabilities;
    let kept = uid == 0 || sets.keep_for_users;
    let names = |bits: u64| -> Vec<String> {
        let had = NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
        had.map(|(_, name)| format!("CAP_{name}")).collect()
    };
    json!({
        "bounding": names(sets.bounding),
        "effective": names(if kept { sets.effective } else { 0 }),
        "permitted": names(if kept { sets.permitted } else { 0 }),
        "inheritable": names(sets.inheritable),
        "ambient": names(if kept { sets.ambient } else { 0 }),
    })
}

fn rlimit(limit: &Rlimit) -> Option<Value> {
    let name = RLIMITS.get(limit.resource as usize)?;
    Some(json!({"type": format!("RLIMIT_{name}"), "soft": limit.soft, "hard": limit.hard}))
}

fn namespaces(plan: &LaunchPlan, bundle: &Path) -> Value {
    let spaces = &plan.namespaces;
    let pid = match spaces.pid {
        PidNamespace::New { .. } => Namespace::New,
        PidNamespace::Join(index) => Namespace::Join(index),
        PidNamespace::Machine => Namespace::Machine,
    };
    let mut values = vec![json!({"type": "mount"})];
    for (name, namespace) in
        [("pid", pid), ("network", spaces.net), ("ipc", spaces.ipc), ("uts", spaces.uts), ("cgroup", spaces.cgroup)]
    {
        match namespace {
            Namespace::New => values.push(json!({"type": name})),
            Namespace::Join(index) => {
                values.push(json!({"type": name, "path": bundle.join("ns").join(index.0.to_string())}));
            }
            Namespace::Machine => {}
        }
    }
    Value::Array(values)
}

fn mount_entries(mount: &Mount, bundle: &Path) -> Vec<Value> {
    let mut options = flag_names(mount.flags);
    match &mount.source {
        MountSource::Bind { mount: index, propagation: wanted, recursive_readonly } => {
            options.extend(["rbind".into(), format!("r{}", propagation(*wanted))]);
            if *recursive_readonly && mount.flags.contains(MountFlags::RDONLY) {
                options.push("rro".into());
            }
            let source = bundle.join("mounts").join(index.0.to_string());
            vec![json!({"destination": mount.target, "type": "bind", "source": source, "options": options})]
        }
        MountSource::Fs { fstype, options: own } => {
            options.extend(own.iter().cloned());
            let fstype = if fstype == "cgroup2" { "cgroup" } else { fstype };
            vec![json!({"destination": mount.target, "type": fstype, "source": fstype, "options": options})]
        }
        // Runtimes lay version 1 hierarchies out themselves.
        MountSource::CgroupV1(_) => {
            vec![json!({"destination": mount.target, "type": "cgroup", "source": "cgroup", "options": options})]
        }
    }
}

fn flag_names(flags: MountFlags) -> Vec<String> {
    let names = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
    ];
    names.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name.to_owned()).collect()
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Slave => "slave",
        Propagation::Shared => "shared",
    }
}

fn device(device: &Device) -> Value {
    let kind = match device.kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
        DeviceKind::Fifo => "p",
    };
    json!({
        "path": device.path, "type": kind, "major": device.major, "minor": device.minor,
        "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
    })
}
