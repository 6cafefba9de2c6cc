//! Paths: what a host may not read, a container on it may not be given either.

use droste_test_support::container::sh_with;
use droste_test_support::{Engine, Value, json, t};

use crate::{attempt, host, inside, refused, sleeper};

/// A bind without what is mounted below it.
fn bare(source: &str) -> Value {
    json!({"Mounts": [{"Type": "bind", "Source": source, "Target": "/m", "BindOptions": {"NonRecursive": true}}]})
}

#[test]
fn what_hides_below_a_bind_can_not_be_left_out() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    for source in ["/proc", "/sys", "/"] {
        assert!(refused(&attempt(&h, sleeper(bare(source)))).contains("can't be left out on this host"), "{source}");
        let name = h.name("v");
        let options = json!({"type": "none", "o": "bind", "device": source});
        t!(h, POST "/volumes/create" {"Name": name, "DriverOpts": options}, 201);
        let probe = "cd /m; [ -e self ] || cd /m/proc 2>/dev/null; (echo x > sys/kernel/domainname) 2>/dev/null && echo written; \
                     grep . keys timer_list 2>/dev/null; ls firmware 2>/dev/null; echo end";
        assert_eq!(h.output(probe, json!({"Binds": [format!("{name}:/m")]})), "end\n", "{source}");
        t!(h, DELETE "/volumes/{name}", 204);
    }
    inside(&c, "mkdir -p '/tmp/a b' && echo x > '/tmp/a b/f'");
    assert_eq!(h.output("cat '/m/a b/f'", bare("/tmp")), "x\n", "where nothing is hidden, nothing is refused");
    // A host that could unmount it all itself may.
    let (_c, rich) = host(e, json!({"Privileged": true}));
    assert_eq!(rich.output("ls /m/self 2>/dev/null | wc -l", bare("/")), "0\n");
}

#[test]
fn masks_below_a_path_with_blanks_count() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::create_dir(dir.path().join("hidden")).unwrap();
    std::fs::write(dir.path().join("hidden/secret"), "for nobody's eyes").unwrap();
    let path = dir.path().display();
    let mounts = json!([
        {"Type": "bind", "Source": path.to_string(), "Target": "/w i\\th\tblanks"},
        {"Type": "tmpfs", "Target": "/w i\\th\tblanks/hidden"},
    ]);
    let (_c, h) = host(e, json!({"Mounts": mounts}));
    for source in ["/w i\\th\tblanks", "/w i\\th\tblanks/hidden/.."] {
        assert!(refused(&attempt(&h, sleeper(bare(source)))).contains("can't be left out"), "{source}");
    }
}

#[test]
fn proc_and_sys_are_bound_with_their_masks() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    for source in ["/proc", "/proc/", "/proc/.", "/proc/../proc", "/proc/sys/..", "/", "/dev/../proc"] {
        let below = if source == "/" { "/m/proc" } else { "/m" };
        let script = format!(
            "for f in sys/kernel/domainname sys/kernel/core_pattern sysrq-trigger irq/default_smp_affinity; do \
               (echo x >> {below}/$f) 2>/dev/null && echo written $f; done; \
             for f in kcore keys timer_list sched_debug; do head -c 1 {below}/$f 2>/dev/null | grep -q . && echo read $f; done; echo end"
        );
        for mode in ["", ":rw", ":ro", ":private"] {
            let outcome = h.outcome(sh_with(&script, json!({"Binds": [format!("{source}:/m{mode}")], "SecurityOpt": ["systempaths=unconfined"]})));
            assert_eq!((outcome.code, outcome.out.as_str()), (0, "end\n"), "{source}{mode}: {outcome:?}");
        }
    }
    for source in ["/sys", "/sys/kernel", "/sys/fs/cgroup", "/sys/firmware", "/sys/devices/virtual/powercap"] {
        let script = "touch /m/x 2>/dev/null && echo made; find /m -maxdepth 2 -type f -perm -200 2>/dev/null | head -20 | while read f; do (echo 0 >> $f) 2>/dev/null && echo written $f; done; echo end";
        let reply = attempt(&h, sh_with(script, json!({"Binds": [format!("{source}:/m")]})));
        if reply.status == 204 {
            assert_eq!(h.output(script, json!({"Binds": [format!("{source}:/m")]})), "end\n", "{source}");
        }
    }
}

#[test]
fn magic_links_lead_nowhere() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    inside(
        &c,
        "for n in 1/root self/root 1/cwd self/fd/0 1/fd/0 thread-self/root 1/task/1/root 1/ns/mnt; do ln -s /proc/$n /tmp/$(echo $n | tr / _); done; ln -s fd/0 /dev/stdin0; ln -s /tmp/1_root /tmp/twice",
    );
    let links = ["1/root", "self/root", "1/cwd", "self/fd/0", "1/fd/0", "thread-self/root", "1/task/1/root", "1/ns/mnt"];
    let direct = links.iter().map(|link| format!("/proc/{link}"));
    let by_link = links.iter().map(|link| format!("/tmp/{}", link.replace('/', "_")));
    let below = ["/proc/1/root/etc", "/tmp/1_root/etc", "/proc/1/root/../etc", "/tmp/twice", "/dev/fd/0", "/dev/stdin"];
    for path in direct.chain(by_link).chain(below.map(str::to_owned)) {
        for host_config in [json!({"Binds": [format!("{path}:/m")]}), bare(&path)] {
            refused(&attempt(&h, sleeper(host_config)));
        }
        let device = json!({"Devices": [{"PathOnHost": path, "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]});
        refused(&attempt(&h, sleeper(device)));
        let throttled = json!({"BlkioDeviceReadBps": [{"Path": path, "Rate": 1_000_000}]});
        refused(&attempt(&h, sleeper(throttled)));
        let name = h.name("v");
        t!(h, POST "/volumes/create" {"Name": name, "DriverOpts": {"type": "none", "o": "rbind", "device": path}}, 201);
        refused(&attempt(&h, sleeper(json!({"Binds": [format!("{name}:/m")]}))));
        t!(h, DELETE "/volumes/{name}", 204);
    }
}

/// Where a process of the launcher's would begin if it followed its own descriptors.
#[test]
fn working_directories_are_no_descriptors() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    for number in 0..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let mut body = sleeper(json!({}));
        body["WorkingDir"] = json!(cwd);
        refused(&attempt(&h, body));
        let exec = nested.exec_create(&json!({"Cmd": ["pwd"], "WorkingDir": cwd}));
        let started = h.request("POST", &format!("/exec/{exec}/start")).json(&json!({"Detach": true})).send();
        assert!(started.status >= 400, "{cwd}: {started:?}");
    }
}

/// A host in the machine's PID namespace sees its processes in `/proc`, and what they have open stays theirs.
#[test]
fn processes_of_the_machine_lend_no_roots() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let (there, absent) = (dir.path().join("secret").display().to_string(), dir.path().join("absent").display().to_string());
    let (c, h) = host(e, json!({"PidMode": "host"}));
    let nested = h.run(sleeper(json!({"PidMode": "host"})));
    for at in [c.id.as_str(), nested.id.as_str()] {
        for process in ["1", "self", "thread-self", "1/task/1"] {
            let ask = |method: &str, path: &str| {
                let reply = h.request(method, &format!("/containers/{at}/archive?path=/proc/{process}/root{path}")).send();
                (reply.status, reply.text().replace(path, "PATH"))
            };
            for method in ["HEAD", "GET", "PUT"] {
                assert_eq!(ask(method, &there), ask(method, &absent), "{method} in {process}");
                assert!(ask(method, &there).0 >= 400, "{method} in {process}");
            }
        }
        for link in ["1/exe", "1/cwd", "1/fd"] {
            let reply = h.request("GET", &format!("/containers/{at}/archive?path=/proc/{link}")).send();
            assert!(!reply.text().contains("ustar") || !reply.text().contains("droste"), "{link}: {reply:?}");
            let head = h.request("HEAD", &format!("/containers/{at}/archive?path=/proc/{link}")).send();
            assert!(head.status == 404 || !format!("{:?}", head.headers).contains("droste-test"), "{link}: {head:?}");
        }
    }
    for path in [&there, &absent] {
        let device = json!({"Devices": [{"PathOnHost": format!("/proc/1/root{path}"), "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]});
        let message = refused(&attempt(&h, sleeper(device)));
        assert!(message.replace(path.as_str(), "").ends_with("permission denied") || message.contains("symbolic links"), "{message}");
    }
}

/// What must be a small file is a pipe, endless, or a link to what is not there for it.
#[test]
fn odd_files_keep_nobody_waiting() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    for odd in ["mkfifo /etc/passwd", "truncate -s 900G /etc/passwd", "ln -s /dev/zero /etc/passwd", "ln -s /proc/1/root/etc/passwd /etc/passwd", "mkdir /etc/passwd"] {
        assert_eq!(nested.exec_with(json!({"Cmd": ["sh", "-c", format!("rm -rf /etc/passwd; {odd}")], "User": "0"})).code, 0);
        let reply = h.request("POST", &format!("/containers/{nested}/exec")).json(&json!({"Cmd": ["true"], "User": "joe"})).send();
        assert!(refused(&reply).contains("unable to find user joe"), "{odd}");
        assert_eq!(nested.exec_with(json!({"Cmd": ["true"], "User": "7:7"})).code, 0, "{odd}");
    }
    // The host's own files, from which its containers' are made.
    inside(&c, "mkfifo /tmp/pipe; umount /etc/hosts 2>/dev/null; mkdir -p /etc/docker/plugins; mkfifo /etc/docker/plugins/slow.spec; mkfifo /etc/os-release");
    t!(h, GET "/info", 200);
    t!(h, POST "/volumes/create" {"Name": "slow-one", "Driver": "slow"}, 404);
}

/// Plugins are looked up in a host's own folders, where a link may lead into the root of any process that its `/proc` shows.
#[test]
fn plugins_are_none_of_the_machines() {
    let e = Engine::shared();
    let dir = e.scratch();
    let path = dir.path().display();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (c, h) = host(e, json!({"PidMode": "host"}));
    inside(
        &c,
        &format!(
            "mkdir -p /run/docker/plugins /etc/docker/plugins; ln -s /proc/1/root{path}/socket /run/docker/plugins/near.sock; \
             ln -s /proc/1/root{path}/secret /etc/docker/plugins/told.spec; echo unix:///proc/1/root{path}/socket > /etc/docker/plugins/far.spec"
        ),
    );
    for driver in ["near", "told", "far"] {
        let reply = h.request("POST", "/volumes/create").json(&json!({"Name": h.name("v"), "Driver": driver})).send();
        assert!(!refused(&reply).contains("eyes"), "{reply:?}");
    }
    assert!(listener.accept().is_err(), "the daemon came to a socket of the machine's");
}
