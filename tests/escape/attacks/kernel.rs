//! The kernel and the daemon's own process: what a container is started with must not change what is its host's, and
//! nothing that a host keeps in its files may run in the daemon.

use droste_test_support::{Engine, json};
use rustix::fs::inotify;

use crate::{attempt, host, inside, refused, sleeper};

#[test]
fn parameters_of_the_hosts_namespaces_stay() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let read = || inside(&c, "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni /proc/sys/kernel/domainname");
    let before = read();
    let sharer = h.run(sleeper(json!({"NetworkMode": "host", "IpcMode": "host"})));
    let again = h.run(sleeper(json!({"NetworkMode": format!("container:{sharer}"), "IpcMode": "host"})));
    let net = json!({"net.ipv4.ip_default_ttl": "77"});
    let mut modes = vec![json!("host"), json!(format!("container:{}", c.id)), json!(format!("container:{}", &c.id[..12]))];
    modes.extend([&sharer, &again].map(|container| json!(format!("container:{container}"))));
    for mode in &modes {
        refused(&attempt(&h, sleeper(json!({"NetworkMode": mode, "Sysctls": net}))));
    }
    for mode in ["host".to_owned(), format!("container:{}", c.id)] {
        refused(&attempt(&h, sleeper(json!({"IpcMode": mode, "Sysctls": {"kernel.shmmni": "77"}}))));
    }
    refused(&attempt(&h, sleeper(json!({"UTSMode": "host", "Sysctls": {"kernel.domainname": "x"}}))));
    for name in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.x/../../kernel/core_pattern",
        "net.ipv4//../../kernel.core_pattern",
        "NET.ipv4.ip_default_ttl",
        "vm.swappiness",
    ] {
        refused(&attempt(&h, sleeper(json!({"Sysctls": {name: "77"}}))));
    }
    assert_eq!(read(), before);
    // A namespace that another container has of its own is nobody else's business.
    let other = h.run(sleeper(json!({})));
    let shared = json!({"NetworkMode": format!("container:{other}"), "Sysctls": net});
    assert_eq!(h.output("cat /proc/sys/net/ipv4/ip_default_ttl", shared), "77\n");
}

/// The C library would load a module that a host's `nsswitch.conf` names, with all of the daemon's rights.
#[test]
fn no_module_of_a_hosts_is_loaded() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    inside(
        &c,
        "echo nameserver 127.0.0.1 > /etc/resolv.conf && mkdir -p /etc/docker/plugins && echo 'hosts: evil' > /etc/nsswitch.conf && echo 127.0.0.1 registry.test >> /etc/hosts \
         && echo tcp://registry.test:5001 > /etc/docker/plugins/far.spec && echo tcp://nowhere.test:5001 > /etc/docker/plugins/lost.spec",
    );
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, h.root_path("/etc/nsswitch.conf"), inotify::WatchFlags::OPEN).unwrap();
    let pulled = |name: &str| h.request("POST", &format!("/images/create?fromImage={name}/x&tag=1")).send().text();
    assert!(pulled("registry.test:5000").contains("refused"), "the host's own file was asked");
    assert!(pulled("nowhere.test:5000").contains("nowhere.test"));
    for driver in ["far", "lost"] {
        let made = h.request("POST", "/volumes/create").json(&json!({"Name": h.name("v"), "Driver": driver})).send();
        assert!(made.status >= 400, "{made:?}");
    }
    let opened = rustix::io::read(&watch, &mut [0; 256][..]);
    assert_eq!(opened, Err(rustix::io::Errno::AGAIN), "somebody asked which modules to load");
}
