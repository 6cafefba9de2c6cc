//! What a process in a container is and sees: user, environment, directories, mounts, privileges,
//! limits, signals.

use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::image::Image;
use droste_test_support::{Engine, Value, json, t};

/// What a script prints under a create body of which `more` is a part.
fn output(e: &Engine, script: &str, more: Value) -> String {
    let mut body = sh(script);
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    let outcome = e.outcome(body);
    assert_eq!(outcome.code, 0, "{script}: {outcome:?}");
    outcome.out
}

#[test]
fn users() {
    let e = Engine::shared();
    let id = |user: &str| output(e, "id", json!({"User": user}));
    assert_eq!(id(""), "uid=0(root) gid=0(root) groups=0(root)\n");
    assert_eq!(id("app"), "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n");
    assert_eq!(id("1000"), "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n");
    assert_eq!(id("app:extra"), "uid=1000(app) gid=2000(extra) groups=2000(extra)\n");
    assert_eq!(id("7:8"), "uid=7 gid=8 groups=8\n");
    assert_eq!(id("7"), "uid=7 gid=0(root) groups=0(root)\n");
    assert_eq!(id("app:7"), "uid=1000(app) gid=7 groups=7\n");
    assert_eq!(output(e, "id -G", json!({"User": "7:8", "HostConfig": {"GroupAdd": ["extra", "99"]}})), "8 99 2000\n");
    let c = e.create({
        let mut body = sh("true");
        body["User"] = json!("nobody-here");
        body
    });
    t!(e, POST "/containers/{c}/start", 400 | 500, ".message" has "unable to find user nobody-here: no matching entries in passwd file");
    let c = e.create({
        let mut body = sh("true");
        body["User"] = json!("app:no-group");
        body
    });
    t!(e, POST "/containers/{c}/start", 400 | 500, ".message" has "unable to find group no-group: no matching entries in group file");
}

#[test]
fn environment() {
    let e = Engine::shared();
    let env = output(e, "env | sort", json!({"Env": ["A=1", "B=two words", "EMPTY=", "A=2"], "Hostname": "named"}));
    for line in ["A=2", "B=two words", "EMPTY=", "HOSTNAME=named", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    assert!(!env.contains("TERM="), "{env}");
    assert_eq!(output(e, "echo $HOME", json!({"User": "app"})), "/home/app\n");
    assert_eq!(output(e, "echo $HOME", json!({"User": "77"})), "/\n");
    assert_eq!(output(e, "echo $HOME", json!({"Env": ["HOME=/own"]})), "/own\n");
    let image = Image::new(e, &["ENV KEEP=1 DROP=2"]);
    assert_eq!(output(e, "echo $KEEP-${DROP-gone}", json!({"Image": image.name, "Env": ["DROP"]})), "1-gone\n", "a bare name removes the image's");
}

#[test]
fn working_directory() {
    let e = Engine::shared();
    assert_eq!(output(e, "pwd", json!({})), "/\n");
    assert_eq!(output(e, "pwd; stat -c %u:%a .", json!({"WorkingDir": "/made/here"})), "/made/here\n0:755\n");
    e.refuses(json!({"Cmd": ["true"], "WorkingDir": "/etc/passwd"}), "/etc/passwd");
}

#[test]
fn entrypoints() {
    let e = Engine::shared();
    assert_eq!(e.outcome(json!({"Entrypoint": ["echo", "a"], "Cmd": ["b"]})).out, "a b\n");
    assert_eq!(e.outcome(json!({"Entrypoint": ["echo"]})).out, "\n");
    assert_eq!(e.outcome(json!({"Entrypoint": [], "Cmd": ["echo", "c"]})).out, "c\n");
    assert_eq!(e.outcome(json!({"Entrypoint": "echo", "Cmd": "a b"})).out, "a b\n", "a string is one word");
}

#[test]
fn it_is_the_first_process() {
    let e = Engine::shared();
    assert_eq!(output(e, "echo $$; ls -d /proc/[0-9]* | wc -l", json!({})).lines().next(), Some("1"));
    assert_eq!(output(e, "readlink /proc/1/exe >/dev/null; tr '\\0' ' ' </proc/1/cmdline | cut -c1-2", json!({})), "sh\n");
    assert_ne!(output(e, "echo $$", json!({"HostConfig": {"Init": true}})), "1\n");
}

#[test]
fn init_reaps_and_forwards() {
    let e = Engine::shared();
    let c = e.run(sh_with("trap 'exit 5' TERM; (sh -c 'sleep 0.05' & ); echo up; while :; do sleep 1000 & wait; done", json!({"Init": true})));
    c.await_log("up");
    let zombies = || c.exec(&["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"]).out;
    while zombies() != "0\n" {}
    c.post("/stop?t=30", 204);
    assert_eq!(c.wait(), 5);
}

#[test]
fn default_capabilities() {
    let e = Engine::shared();
    let caps = |host: Value| output(e, "grep Cap /proc/self/status", json!({"HostConfig": host}));
    let has = |host: Value, line: &str| {
        let text = caps(host);
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    };
    has(json!({}), "CapEff:\t00000000a80425fb");
    has(json!({}), "CapBnd:\t00000000a80425fb");
    has(json!({}), "CapAmb:\t0000000000000000");
    has(json!({}), "CapInh:\t0000000000000000");
    has(json!({"CapDrop": ["ALL"]}), "CapEff:\t0000000000000000");
    has(json!({"CapDrop": ["ALL"], "CapAdd": ["NET_BIND_SERVICE"]}), "CapEff:\t0000000000000400");
    has(json!({"CapDrop": ["all"], "CapAdd": ["cap_net_bind_service"]}), "CapBnd:\t0000000000000400");
    has(json!({"CapAdd": ["SYS_ADMIN"]}), "CapEff:\t00000000a82425fb");
    has(json!({"CapDrop": ["MKNOD", "chown"]}), "CapEff:\t00000000a00425fa");
    let all = caps(json!({"CapAdd": ["ALL"]}));
    assert_eq!(all, caps(json!({"Privileged": true})));
    let user = output(e, "grep -E 'CapEff|CapBnd' /proc/self/status", json!({"User": "app"}));
    assert_eq!(user, "CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n");
}

#[test]
fn seccomp_and_new_privileges() {
    let e = Engine::shared();
    let status = |host: Value| output(e, "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | sort", json!({"HostConfig": host}));
    assert_eq!(status(json!({})), "NoNewPrivs:\t0\nSeccomp:\t2\n");
    assert_eq!(status(json!({"SecurityOpt": ["no-new-privileges"]})), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    assert_eq!(status(json!({"SecurityOpt": ["no-new-privileges:true"]})), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    assert_eq!(status(json!({"SecurityOpt": ["seccomp=unconfined"]})), "NoNewPrivs:\t0\nSeccomp:\t0\n");
    assert_eq!(status(json!({"Privileged": true})), "NoNewPrivs:\t0\nSeccomp:\t0\n");
    let unshare = |host: Value| e.outcome(sh_with("unshare -U true", host)).code;
    assert_ne!(unshare(json!({})), 0);
    assert_eq!(unshare(json!({"SecurityOpt": ["seccomp=unconfined"], "CapAdd": ["SYS_ADMIN"]})), 0);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}).to_string();
    let custom = e.outcome(sh_with("mkdir /tmp/x", json!({"SecurityOpt": [format!("seccomp={profile}")]})));
    assert_eq!((custom.code, custom.err.as_str()), (1, "mkdir: can't create directory '/tmp/x': Operation not permitted\n"));
}

#[test]
fn masked_and_read_only_paths() {
    let e = Engine::shared();
    let script = "for f in kcore keys timer_list latency_stats sched_debug; do test -e /proc/$f && cat /proc/$f; done | wc -c; ls /proc/scsi 2>/dev/null | wc -l; ls /sys/firmware | wc -l; (echo 1 > /proc/sys/kernel/hostname) 2>&1; touch /sys/x 2>&1; true";
    let out = output(e, script, json!({}));
    assert!(out.starts_with("0\n0\n0\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    assert_eq!(output(e, "echo ok > /proc/sys/kernel/hostname; hostname", json!({"HostConfig": {"Privileged": true}})), "ok\n");
    assert_eq!(output(e, "echo own > /proc/sys/kernel/domainname && echo written", json!({"HostConfig": {"ReadonlyPaths": [], "MaskedPaths": []}})), "written\n");
}

#[test]
fn devices() {
    let e = Engine::shared();
    let out = output(e, "ls /dev | grep -v core | sort | tr '\\n' ' '; stat -c %F:%t:%T /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c", json!({}));
    assert_eq!(out, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero character special file:1:3\n4\n4\n");
    let mapped = output(
        e,
        "ls -l /dev/own | cut -c1; echo x > /dev/own && echo written",
        json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/own", "CgroupPermissions": "rwm"}]}}),
    );
    assert_eq!(mapped, "c\nwritten\n");
    let denied = e.outcome(sh("mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg"));
    assert_ne!(denied.code, 0);
    let missing = json!({"Devices": [{"PathOnHost": "/dev/nope", "PathInContainer": "/dev/nope", "CgroupPermissions": "rwm"}]});
    e.refuses(sh_with("true", missing), "error gathering device information while adding custom device \"/dev/nope\"");
    let privileged = output(e, "ls /dev | wc -l", json!({"HostConfig": {"Privileged": true}}));
    assert!(privileged.trim().parse::<u32>().unwrap() > 15, "{privileged}");
    let streams = output(e, "for link in stdin stdout stderr; do readlink /dev/$link; done", json!({"HostConfig": {"Privileged": true}}));
    assert_eq!(streams, "/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n", "links of the host's are no devices");
}

#[test]
fn namespaces() {
    let e = Engine::shared();
    let ns = |kind: &str, host: Value| output(e, &format!("readlink /proc/self/ns/{kind}"), json!({"HostConfig": host}));
    let own = |kind: &str| std::fs::read_link(e.root_path(&format!("/proc/{}/ns/{kind}", daemon_pid(e)))).unwrap().display().to_string() + "\n";
    for (kind, key) in [("pid", "PidMode"), ("ipc", "IpcMode"), ("uts", "UTSMode"), ("net", "NetworkMode"), ("cgroup", "CgroupnsMode")] {
        assert_eq!(ns(kind, json!({key: "host"})), own(kind), "{kind}");
    }
    for kind in ["pid", "ipc", "uts", "net", "mnt"] {
        assert_ne!(ns(kind, json!({})), own(kind), "{kind}");
    }
    assert_ne!(ns("cgroup", json!({"CgroupnsMode": "private"})), own("cgroup"));
    let c = e.run(sh_with("sleep 1000", json!({"IpcMode": "shareable"})));
    let of_c = |kind: &str| c.exec(&["readlink", &format!("/proc/1/ns/{kind}")]).out;
    assert_eq!(ns("pid", json!({"PidMode": format!("container:{}", c.name)})), of_c("pid"));
    assert_eq!(ns("ipc", json!({"IpcMode": format!("container:{}", c.id)})), of_c("ipc"));
    assert_eq!(ns("net", json!({"NetworkMode": format!("container:{}", c.name)})), of_c("net"));
    let closed = e.run(idle());
    let joined = e.create(sh_with("true", json!({"IpcMode": format!("container:{}", closed.id)})));
    t!(e, POST "/containers/{joined}/start", 400 | 409 | 500, ".message" has "non-shareable IPC");
    let stopped = e.create(idle());
    let joined = e.create(sh_with("true", json!({"PidMode": format!("container:{}", stopped.id)})));
    t!(e, POST "/containers/{joined}/start", 400 | 409 | 500, ".message" has "is not running");
}

/// The daemon's pid as its own `/proc` has it.
fn daemon_pid(e: &Engine) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", e.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn read_only_root() {
    let e = Engine::shared();
    let outcome =
        e.outcome(sh_with("touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo shm; touch /t/x && echo tmpfs", json!({"ReadonlyRootfs": true, "Tmpfs": {"/t": ""}})));
    assert_eq!(outcome.out, "ro\nshm\ntmpfs\n");
}

#[test]
fn tmpfs_and_shm() {
    let e = Engine::shared();
    let mount = |at: &str, host: Value| output(e, &format!("grep ' {at} ' /proc/mounts"), json!({"HostConfig": host}));
    let plain = mount("/t", json!({"Tmpfs": {"/t": ""}}));
    assert!(plain.contains(" /t tmpfs rw,nosuid,nodev,noexec,relatime"), "{plain}");
    let sized = mount("/t", json!({"Tmpfs": {"/t": "size=1m,mode=700,exec"}}));
    assert!(sized.contains("size=1024k,mode=700") && !sized.contains("noexec"), "{sized}");
    let mounted = mount("/t", json!({"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 2_097_152, "Mode": 0o711}}]}));
    assert!(mounted.contains("size=2048k,mode=711"), "{mounted}");
    assert!(mount("/dev/shm", json!({})).contains("size=65536k"));
    assert!(mount("/dev/shm", json!({"ShmSize": 1_048_576})).contains("size=1024k"));
}

#[test]
fn binds() {
    let e = Engine::shared();
    let dir = e.scratch();
    let at = dir.path().display().to_string();
    std::fs::write(dir.path().join("f"), "seen\n").unwrap();
    assert_eq!(e.output("cat /b/f; echo back > /b/g", json!({"Binds": [format!("{at}:/b")]})), "seen\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("g")).unwrap(), "back\n");
    assert_eq!(e.output("touch /b/no 2>&1 || true", json!({"Binds": [format!("{at}:/b:ro")]})), "touch: /b/no: Read-only file system\n");
    assert_eq!(e.output("cat /b", json!({"Binds": [format!("{at}/f:/b")]})), "seen\n");
    assert_eq!(e.output("ls -d /b/made", json!({"Binds": [format!("{at}/made/deep:/b/made")]})), "/b/made\n", "a missing source of -v is made");
    assert!(dir.path().join("made/deep").is_dir());
    assert_eq!(
        e.output("cat /m/f; touch /m/x 2>/dev/null || echo ro", json!({"Mounts": [{"Type": "bind", "Source": at, "Target": "/m", "ReadOnly": true, "Consistency": "cached"}]})),
        "seen\nro\n"
    );
    let c = e.create(sh_with("true", json!({"Binds": [format!("{at}:/etc/marker")]})));
    t!(e, POST "/containers/{c}/start", 400 | 500, ".message" has "not a directory");
    let c = e.create(sh_with("true", json!({"Binds": [format!("{at}:/b:ro,z")]})));
    t!(e, GET "/containers/{c}/json", 200, ".Mounts.0.Type" == "bind", ".Mounts.0.Source" == at, ".Mounts.0.Destination" == "/b", ".Mounts.0.Mode" == "ro,z", ".Mounts.0.RW" == false,
        ".Mounts.0.Propagation" == "rprivate", ".HostConfig.Binds" == [(format!("{at}:/b:ro,z"))]);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("f", &link).unwrap();
    assert_eq!(e.output("cat /b", json!({"Binds": [format!("{at}/link:/b")]})), "seen\n");
}

#[test]
fn volumes_from_takes_binds() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("f"), "seen\n").unwrap();
    let source = e.create(sh_with("true", json!({"Binds": [format!("{}:/b", dir.path().display())]})));
    assert_eq!(e.output("cat /b/f; touch /b/new && echo rw", json!({"VolumesFrom": [source.name]})), "seen\nrw\n");
    assert_eq!(e.output("touch /b/no 2>/dev/null || echo ro", json!({"VolumesFrom": [format!("{}:ro", source.id)]})), "ro\n");
}

#[test]
fn ulimits() {
    let e = Engine::shared();
    let limits = json!({"Ulimits": [{"Name": "nofile", "Soft": 123, "Hard": 456}, {"Name": "core", "Soft": 0, "Hard": 0}]});
    assert_eq!(e.output("ulimit -Sn; ulimit -Hn; ulimit -c", limits), "123\n456\n0\n");
    let refused = e
        .request("POST", "/containers/create")
        .json(&json!({"Image": droste_test_support::image::BASE, "Cmd": ["true"], "HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 1}]}}))
        .send();
    refused.expect_one_of(&[400, 201]);
    if refused.status == 201 {
        drop(droste_test_support::Container::adopt(e, refused.json()["Id"].as_str().unwrap()));
    }
}

#[test]
fn sysctls() {
    let e = Engine::shared();
    assert_eq!(e.output("cat /proc/sys/net/ipv4/ip_local_port_range", json!({"Sysctls": {"net.ipv4.ip_local_port_range": "5000 6000"}})), "5000\t6000\n");
    assert_eq!(e.output("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/ping_group_range", json!({})), "0\n0\t2147483647\n");
    assert_eq!(e.output("cat /proc/sys/kernel/msgmax", json!({"Sysctls": {"kernel.msgmax": "4096"}})), "4096\n");
    e.refuses(sh_with("true", json!({"Sysctls": {"vm.swappiness": "1"}})), "vm.swappiness");
}

#[test]
fn hostnames() {
    let e = Engine::shared();
    let c = e.run(sh("hostname; cat /etc/hostname"));
    c.wait();
    let short = &c.id[..12];
    assert_eq!(c.logs().0, format!("{short}\n{short}\n"));
    assert_eq!(output(e, "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname", json!({"Hostname": "h", "Domainname": "d.example"})), "h\nh\nd.example\n");
}

#[test]
fn memory_limit_and_oom() {
    let e = Engine::shared();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(e.output(script, json!({"Memory": 33_554_432})), "33554432\n");
    let c = e.create(sh_with("head -c 200000000 /dev/zero | tail", json!({"Memory": 20_971_520, "MemorySwap": 20_971_520})));
    c.start();
    assert_eq!(c.wait(), 137);
    t!(e, GET "/containers/{c}/json", 200, ".State.OOMKilled" == true, ".State.ExitCode" == 137, ".HostConfig.Memory" == 20971520, ".HostConfig.MemorySwap" == 20971520);
}

#[test]
fn limits_of_cpu_and_pids() {
    let e = Engine::shared();
    let pids = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    assert_eq!(e.output(pids, json!({"PidsLimit": 17})), "17\n");
    assert_eq!(e.output(pids, json!({})), "max\n");
    let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
    assert_eq!(e.output(quota, json!({"NanoCpus": 500_000_000})), "50000\n");
    assert_eq!(e.output(quota, json!({"CpuQuota": 20000, "CpuPeriod": 50000})), "20000\n");
    let cpuset = "cat /sys/fs/cgroup/cpuset/cpuset.cpus 2>/dev/null || cat /sys/fs/cgroup/cpuset.cpus";
    assert_eq!(e.output(cpuset, json!({"CpusetCpus": "0"})), "0\n");
    let shares = "cat /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || echo 2048";
    assert_eq!(e.output(shares, json!({"CpuShares": 2048})), "2048\n");
    let forked = e.outcome(sh_with("i=0; while [ $i -lt 30 ]; do sleep 1 & i=$((i+1)); done; wait", json!({"PidsLimit": 5})));
    assert!(forked.err.contains("can't fork"), "{forked:?}");
}

#[test]
fn oom_score() {
    let e = Engine::shared();
    assert_eq!(e.output("cat /proc/self/oom_score_adj", json!({"OomScoreAdj": 321})), "321\n");
}

#[test]
fn file_capabilities_and_setuid_of_images_work() {
    let e = Engine::shared();
    let image = {
        let repo = e.name("suid");
        let rootfs = droste_test_support::image::rootfs().file("bin/suid", 0o4755, &droste_test_support::image::busybox()).finish();
        droste_test_support::image::import(e, &format!("{repo}:latest"), &[], rootfs);
        repo
    };
    let out = e.outcome(json!({"Image": image, "User": "app", "Cmd": ["stat", "-c", "%a:%u", "/bin/suid"]})).out;
    assert_eq!(out, "4755:0\n");
    t!(e, DELETE "/images/{image}?force=1", 200);
}
