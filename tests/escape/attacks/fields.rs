//! Every field of a container's and an exec's creation. Each is decided here: what is asked with it, or why it can widen
//! nothing; a field that is new fails until it is. What starts is measured in the kernel.

use std::collections::BTreeMap;

use droste_api::wire;
use droste_test_support::{Container, Engine, Value, json};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor, value};

use crate::measure::{REACH, Rights, groups_beside, machines_namespaces};
use crate::{host, inside};

/// A deserializer that only tells which fields a struct has.
struct Names<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(value::Error::custom("only structs have fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], _: V) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(value::Error::custom("that is all"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields_of<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
    let mut names = Vec::new();
    let _ = T::deserialize(Names(&mut names));
    names.sort_unstable();
    names
}

/// What is asked with a field; `None` with the reason why it widens nothing.
enum Decided {
    Asked(Vec<Value>),
    Narrow(&'static str),
}

use Decided::{Asked, Narrow};

/// All fields of a `HostConfig`.
fn host_config_fields(c: &Container) -> BTreeMap<&'static str, Decided> {
    let socket = json!(["/var/run/docker.sock:/x.sock", "/run/docker.sock:/y.sock"]);
    let devices = |path: &str| json!([{"PathOnHost": path, "PathInContainer": "/dev/asked", "CgroupPermissions": "rwm"}]);
    let throttled = || Asked(vec![json!([{"Path": "/tmp/kmsg", "Rate": 1}]), json!([{"Path": "/proc/1/root/dev/kmsg", "Rate": 1}])]);
    let shared = |own: &str| Asked(vec![json!("host"), json!(format!("container:{}", c.id)), json!(own), json!("ns:/proc/1/ns/net"), json!("container:../x")]);
    let numbers = "a number that the host's cgroup bounds";
    BTreeMap::from([
        (
            "Binds",
            Asked(vec![json!(["/:/m"]), json!(["/proc:/proc"]), json!(["/sys:/sys:rw"]), json!(["/dev:/dev"]), json!(["/tmp:/proc/sys:rw"]), json!(["/:/m:rshared"]), socket]),
        ),
        ("ContainerIDFile", Asked(vec![json!("/var/tmp/written")])),
        (
            "LogConfig",
            Asked(vec![
                json!({"Type": "syslog", "Config": {"syslog-address": "udp://127.0.0.1:514"}}),
                json!({"Type": "gelf"}),
                json!({"Type": "json-file", "Config": {"path": "/etc/x", "max-size": "1k"}}),
                json!({"Type": "../local"}),
            ]),
        ),
        ("NetworkMode", shared("none")),
        ("PortBindings", Asked(vec![json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}]})])),
        ("RestartPolicy", Asked(vec![json!({"Name": "always"})])),
        ("AutoRemove", Narrow("ends the container's own record")),
        ("VolumeDriver", Asked(vec![json!("../local"), json!("absent")])),
        ("VolumesFrom", Asked(vec![json!([c.id]), json!([format!("{}:rw", c.name)])])),
        ("ConsoleSize", Narrow("the size of a terminal")),
        ("Annotations", Asked(vec![json!({"run.oci.keep_original_groups": "1", "droste.level": "0"})])),
        ("CapAdd", Asked(vec![json!(["ALL"]), json!(["CAP_SYS_ADMIN", "sys_module"]), json!(["cap_sys_ptrace"])])),
        ("CapDrop", Asked(vec![json!(["ALL"])])),
        ("CgroupnsMode", Asked(vec![json!("host")])),
        ("Dns", Asked(vec![json!(["127.0.0.1"])])),
        ("DnsOptions", Asked(vec![json!(["x\nnameserver 127.0.0.1"])])),
        ("DnsSearch", Asked(vec![json!(["x\nnameserver 127.0.0.1"])])),
        ("ExtraHosts", Asked(vec![json!(["x:host-gateway"]), json!(["x\n1.2.3.4 y:1.2.3.4"])])),
        ("GroupAdd", Asked(vec![json!(["0", "1", "6"])])),
        ("IpcMode", shared("shareable")),
        ("Cgroup", Asked(vec![json!("container:x"), json!("/")])),
        ("Links", Narrow("names of other containers: `routes`")),
        ("OomScoreAdj", Asked(vec![json!(-1000), json!(-1)])),
        ("PidMode", shared("private")),
        ("Privileged", Asked(vec![json!(true)])),
        ("PublishAllPorts", Narrow("ports of the host's own network namespace")),
        ("ReadonlyRootfs", Narrow("takes away")),
        (
            "SecurityOpt",
            Asked(vec![
                json!(["seccomp=unconfined"]),
                json!(["apparmor=unconfined"]),
                json!(["systempaths=unconfined"]),
                json!(["no-new-privileges=false"]),
                json!(["label=type:spc_t"]),
                json!(["writable-cgroups=true"]),
                json!([r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/tmp/x"}"#]),
            ]),
        ),
        ("StorageOpt", Asked(vec![json!({"size": "1G"})])),
        ("Tmpfs", Asked(vec![json!({"/proc": ""}), json!({"/sys": "rw"}), json!({"/dev": "dev,exec,suid"}), json!({"/t": "mpol=bind:0"})])),
        ("UTSMode", Asked(vec![json!("host"), json!("container:x")])),
        ("UsernsMode", Asked(vec![json!("host"), json!("private"), json!("container:x")])),
        ("ShmSize", Narrow("memory that the host's cgroup counts")),
        ("Sysctls", Narrow("`kernel::parameters_of_the_hosts_namespaces_stay`")),
        ("Runtime", Asked(vec![json!("runc"), json!("io.containerd.runc.v2"), json!("/bin/sh"), json!("../x")])),
        ("Isolation", Asked(vec![json!("hyperv"), json!("process")])),
        ("CpuShares", Narrow(numbers)),
        ("Memory", Narrow(numbers)),
        ("NanoCpus", Narrow(numbers)),
        ("CgroupParent", Asked(["/", "/..", "../../..", "/droste", "system.slice", "/sys/fs/cgroup", "a/../../b"].map(|parent| json!(parent)).into())),
        ("BlkioWeight", Narrow(numbers)),
        ("BlkioWeightDevice", Asked(vec![json!([{"Path": "/proc/1/root/dev/kmsg", "Weight": 10}])])),
        ("BlkioDeviceReadBps", throttled()),
        ("BlkioDeviceWriteBps", throttled()),
        ("BlkioDeviceReadIOps", throttled()),
        ("BlkioDeviceWriteIOps", throttled()),
        ("CpuPeriod", Narrow(numbers)),
        ("CpuQuota", Narrow(numbers)),
        ("CpuRealtimePeriod", Narrow(numbers)),
        ("CpuRealtimeRuntime", Narrow(numbers)),
        ("CpusetCpus", Narrow(numbers)),
        ("CpusetMems", Narrow(numbers)),
        ("Devices", Asked(["/tmp/kmsg", "/dev/kmsg", "/dev", "/", "/proc/1/root/dev/kmsg", "/proc", "/dev/mem", "/sys"].map(devices).into())),
        ("DeviceCgroupRules", Asked(vec![json!(["a *:* rwm"]), json!(["c *:* rwm", "b *:* rwm"]), json!(["c 1:11 r"])])),
        ("DeviceRequests", Asked(vec![json!([{"Count": -1, "Capabilities": [["gpu"]]}])])),
        ("KernelMemory", Narrow(numbers)),
        ("KernelMemoryTCP", Narrow(numbers)),
        ("MemoryReservation", Narrow(numbers)),
        ("MemorySwap", Narrow(numbers)),
        ("MemorySwappiness", Narrow(numbers)),
        ("OomKillDisable", Asked(vec![json!(true)])),
        ("PidsLimit", Narrow(numbers)),
        ("Ulimits", Asked(vec![json!([{"Name": "nofile", "Soft": 999_999, "Hard": 999_999}]), json!([{"Name": "rtprio", "Soft": 99, "Hard": 99}])])),
        ("CpuCount", Narrow("of Windows")),
        ("CpuPercent", Narrow("of Windows")),
        ("IOMaximumIOps", Narrow("of Windows")),
        ("IOMaximumBandwidth", Narrow("of Windows")),
        ("Mounts", Asked(mounts())),
        ("MaskedPaths", Asked(vec![json!([]), json!(["/"])])),
        ("ReadonlyPaths", Asked(vec![json!([]), json!(["/"])])),
        ("Init", Asked(vec![json!(true)])),
    ])
}

/// Sources of every kind, and targets that are in the way of the system's own mounts.
fn mounts() -> Vec<Value> {
    let one = |kind: &str, source: &str, target: &str, more: Value| {
        let mut mount = json!({"Type": kind, "Source": source, "Target": target});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([mount])
    };
    vec![
        one("bind", "/", "/m", json!({"BindOptions": {"Propagation": "rshared"}})),
        one("bind", "/proc", "/m", json!({"BindOptions": {"NonRecursive": true}})),
        one("bind", "/sys/fs/cgroup", "/m", json!({"ReadOnly": false})),
        one("bind", "/proc/sys", "/proc/sys", json!({"ReadOnly": true, "BindOptions": {"ReadOnlyNonRecursive": true}})),
        one("bind", "/tmp", "/m/../proc", json!({})),
        one("volume", "fields-a", "/proc", json!({})),
        one("volume", "fields-b", "/m", json!({"VolumeOptions": {"Subpath": "../../.."}})),
        one("volume", "fields-c", "/m", json!({"VolumeOptions": {"DriverConfig": {"Options": {"type": "proc", "device": "proc"}}}})),
        one("volume", "fields-d", "/m", json!({"VolumeOptions": {"DriverConfig": {"Options": {"type": "sysfs", "device": "x"}}}})),
        one("volume", "fields-e", "/m", json!({"VolumeOptions": {"DriverConfig": {"Options": {"type": "overlay", "device": "x", "o": "lowerdir=/:/etc"}}}})),
        one("volume", "fields-f", "/m", json!({"VolumeOptions": {"DriverConfig": {"Options": {"type": "none", "device": "/proc", "o": "bind,rw"}}}})),
        one("image", "droste-test-base", "/m", json!({"ImageOptions": {"Subpath": "../../../etc"}})),
        one("tmpfs", "", "/proc", json!({"TmpfsOptions": {"Options": [["dev"], ["exec"]]}})),
        one("npipe", "x", "/m", json!({})),
        one("cluster", "x", "/m", json!({})),
    ]
}

/// Asks a host for a container with one field, and measures what starts. Gives the findings.
fn try_field(e: &Engine, h: &Engine, c: &Container, floor: &(Rights, String), host_config: Value) -> Vec<String> {
    let name = h.name("f");
    let body = json!({"Image": "droste-test-base", "Cmd": ["sleep", "100000"], "HostConfig": host_config, "User": "0"});
    let created = h.request("POST", &format!("/containers/create?name={name}")).json(&body).send();
    if created.status != 201 {
        assert!(created.status < 500 || created.json()["message"].is_string(), "{host_config}: {created:?}");
        return Vec::new();
    }
    let nested = Container::adopt(h, created.json()["Id"].as_str().unwrap());
    let started = h.request("POST", &format!("/containers/{nested}/start")).send();
    if started.status != 204 {
        return Vec::new();
    }
    let mut findings = Rights::of(h, &nested).beyond(&floor.0);
    findings.extend(machines_namespaces(e, h, &nested));
    findings.extend(groups_beside(h, &nested, &c.id));
    // Where a container has covered its own programs there is nobody to try more.
    let tried = nested.exec_with(json!({"Cmd": ["/bin/sh", "-c", REACH], "Privileged": true}));
    let ways = tried.out.lines().filter(|line| tried.code == 0 && !floor.1.contains(*line));
    findings.extend(ways.map(str::to_owned));
    findings.into_iter().map(|finding| format!("{host_config}: {finding}")).collect()
}

#[test]
fn no_field_of_a_host_config_widens() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    inside(&c, "mknod /tmp/kmsg c 1 11");
    let decided = host_config_fields(&c);
    assert_eq!(decided.keys().copied().collect::<Vec<_>>(), fields_of::<wire::HostConfig>(), "each field is decided here");
    let floor = (Rights::of(e, &c), c.exec(&["sh", "-c", REACH]).out);
    let mut attacks = Vec::new();
    for (field, decision) in decided {
        match decision {
            Asked(values) => attacks.extend(values.into_iter().map(|value| json!({field: value}))),
            Narrow(reason) => assert!(reason.len() > 8, "{field}"),
        }
    }
    assert!(attacks.len() > 100);
    let attack_all = |some: &[Value]| some.iter().flat_map(|one| try_field(e, &h, &c, &floor, one.clone())).collect::<Vec<_>>();
    let findings = std::thread::scope(|scope| {
        let parts: Vec<_> = attacks.chunks(attacks.len().div_ceil(4)).map(|part| scope.spawn(|| attack_all(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(findings, Vec::<String>::new());
    assert!(!e.root_path("/var/tmp/written").exists(), "a path of the client's was written on the machine");
}

#[test]
fn no_field_of_an_exec_widens() {
    let wanted = ["AttachStderr", "AttachStdin", "AttachStdout", "Cmd", "ConsoleSize", "DetachKeys", "Env", "Privileged", "Tty", "User", "WorkingDir"];
    assert_eq!(fields_of::<wire::ExecCreate>(), wanted, "each field is decided here");
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let nested = h.run(crate::sleeper(json!({})));
    let (rights, reach) = (Rights::of(e, &c), c.exec(&["sh", "-c", REACH]).out);
    for body in [
        json!({"Privileged": true}),
        json!({"User": "0:0"}),
        json!({"User": "1000"}),
        json!({"Env": ["LD_PRELOAD=/x", "GCONV_PATH=/x", "HOME=/proc/1/root"]}),
        json!({"WorkingDir": "/proc"}),
    ] {
        let mut body = body;
        body["Cmd"] = json!(["/bin/sh", "-c", REACH]);
        let tried = nested.exec_with(body.clone());
        let more: Vec<&str> = tried.out.lines().filter(|line| !reach.contains(*line)).collect();
        assert_eq!(more, Vec::<&str>::new(), "{body}");
    }
    assert_eq!(Rights::of_exec(&nested, true).beyond(&rights), Vec::<String>::new());
    // The second of the two calls can't undo what the first was bounded by.
    let exec = nested.exec_create(&json!({"Cmd": ["grep", "CapEff", "/proc/self/status"], "AttachStdout": true}));
    let open = h.request("POST", &format!("/exec/{exec}/start")).json(&json!({"Privileged": true, "Tty": false, "User": "0"})).upgrade().open();
    let text = String::from_utf8_lossy(&open.hijack().rest()).into_owned();
    assert!(text.contains(&format!("{:016x}", rights.capabilities["CapEff"])), "{text}");
}

/// Endpoints name addresses, links and options of networks of the host's own.
#[test]
fn no_field_of_an_endpoint_widens() {
    assert_eq!(fields_of::<wire::NetworkingConfig>(), ["EndpointsConfig"]);
    let decided = [
        "Aliases",
        "DNSNames",
        "DriverOpts",
        "EndpointID",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "GwPriority",
        "IPAMConfig",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "Gateway",
        "Links",
        "MacAddress",
        "NetworkID",
    ];
    let mut decided = decided.to_vec();
    decided.sort_unstable();
    assert_eq!(fields_of::<wire::EndpointSettings>(), decided, "each field is decided here");
    let e = Engine::shared();
    let network = e.network(json!({}));
    let (c, h) = host(e, json!({}));
    let look = || inside(&c, "cat /proc/sys/net/ipv4/ip_default_ttl; ip addr show dev eth0 | grep inet; ip route | grep default");
    let before = look();
    let own = h.network(json!({}));
    for endpoint in [
        json!({"NetworkID": network.id}),
        json!({"EndpointID": network.id, "Gateway": "127.0.0.1", "IPAddress": "127.0.0.1"}),
        json!({"IPAMConfig": {"IPv4Address": "127.0.0.1"}}),
        json!({"IPAMConfig": {"IPv4Address": "0.0.0.0", "LinkLocalIPs": ["169.254.169.254"]}}),
        json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.../../ip_default_ttl=7,kernel.core_pattern=x"}}),
        json!({"DriverOpts": {"com.docker.network.endpoint.ifname": "../../x"}}),
        json!({"Links": [format!("{}:x", c.id)]}),
        json!({"MacAddress": "00:00:00:00:00:00"}),
        json!({"Aliases": ["localhost", "*"], "DNSNames": ["host"]}),
    ] {
        let body =
            json!({"Image": "droste-test-base", "Cmd": ["true"], "HostConfig": {"NetworkMode": own.name}, "NetworkingConfig": {"EndpointsConfig": {own.name.clone(): endpoint}}});
        let reply = crate::attempt(&h, body);
        assert!(!reply.text().contains(&network.name), "{endpoint}: {reply:?}");
    }
    assert_eq!(look(), before);
    assert!(network.inspect()["Containers"].as_object().is_none_or(|all| all.is_empty()), "nobody joined the machine's network");
}
