//! What a host's container has is a floor for all that runs on it, at every level and by every way to start a process.

use droste_test_support::container::sh_with;
use droste_test_support::{Container, Engine, Value, json};

use crate::measure::{REACH, Rights, groups_beside, machines_namespaces};
use crate::{host, sleeper};

/// Everything that a client can ask for at once.
fn greedy(more: Value) -> Value {
    let mut all = json!({
        "Privileged": true,
        "CapAdd": ["ALL"],
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined", "no-new-privileges=false", "label=disable", "writable-cgroups=true"],
        "Ulimits": [{"Name": "nofile", "Soft": 900_000, "Hard": 900_000}, {"Name": "core", "Soft": -1, "Hard": -1}],
        "OomScoreAdj": -1000,
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "CgroupnsMode": "host",
        "DeviceCgroupRules": ["a *:* rwm", "c 1:11 rwm"],
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Starts what is greedy on a host and measures it in every way, against the host's own rights.
fn press(e: &Engine, h: &Engine, c: &Container, floor: &Rights, reach: &str) {
    let nested = h.run(sleeper(greedy(json!({}))));
    let check = |when: &str, rights: &Rights| {
        assert_eq!(rights.beyond(floor), Vec::<String>::new(), "{when}: {rights:?} on {floor:?}");
    };
    check("start", &Rights::of(h, &nested));
    check("exec", &Rights::of_exec(&nested, false));
    check("exec --privileged", &Rights::of_exec(&nested, true));
    let update = json!({"Memory": 1_u64 << 40, "MemorySwap": -1, "PidsLimit": -1, "RestartPolicy": {"Name": "always"}});
    h.request("POST", &format!("/containers/{nested}/update")).json(&update).send();
    check("exec after update", &Rights::of_exec(&nested, true));
    nested.post("/restart?t=0", 204);
    check("restart", &Rights::of(h, &nested));
    check("exec after restart", &Rights::of_exec(&nested, true));
    nested.post("/stop?t=0", 204);
    nested.start();
    check("start again", &Rights::of(h, &nested));
    assert_eq!(machines_namespaces(e, h, &nested), Vec::<String>::new());
    assert_eq!(groups_beside(h, &nested, &c.id), Vec::<String>::new());
    for privileged in [false, true] {
        let tried = nested.exec_with(json!({"Cmd": ["sh", "-c", REACH], "Privileged": privileged}));
        assert_eq!(tried.out, reach, "exec privileged={privileged}: {}", tried.err);
    }
}

/// What a host itself reaches: nothing on it may reach more.
fn reach(c: &Container) -> String {
    c.exec(&["sh", "-c", REACH]).out
}

/// Presses a host, and one on it that was itself made greedy.
fn press_both(e: &Engine, host_config: Value) {
    let (c, h) = host(e, host_config);
    let (floor, reached) = (Rights::of(e, &c), reach(&c));
    press(e, &h, &c, &floor, &reached);
    let below = h.run(sh_with("exec sleep 100000", greedy(json!({"Binds": [crate::SOCKET]}))));
    press(e, &h.host_of(&below), &c, &floor, &reached);
}

#[test]
fn a_plain_host() {
    press_both(Engine::shared(), json!({}));
}

#[test]
fn a_host_that_was_made_small() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapoff", "settimeofday", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    press_both(
        Engine::shared(),
        json!({
            "CapDrop": ["MKNOD", "NET_RAW", "SYS_CHROOT", "AUDIT_WRITE"],
            "SecurityOpt": ["no-new-privileges", format!("seccomp={profile}")],
            "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}, {"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "nproc", "Soft": 900, "Hard": 900}],
            "OomScoreAdj": 300,
        }),
    );
}

#[test]
fn a_host_with_some_rights_more() {
    press_both(Engine::shared(), json!({"CapAdd": ["SYS_ADMIN", "NET_ADMIN"], "OomScoreAdj": 200}));
}

#[test]
fn a_host_without_any() {
    press_both(Engine::shared(), json!({"CapDrop": ["ALL"], "OomScoreAdj": 100}));
}

/// Whoever can look into all processes can take over the one that enters a container for an exec.
#[test]
fn a_host_that_can_trace() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({"CapAdd": ["SYS_PTRACE"]}));
    let asked = json!({"Privileged": true, "CapAdd": ["SYS_PTRACE"]});
    let nested = h.run(sleeper(asked));
    let first = nested.exec(&["grep", "CapBnd", "/proc/1/status"]).out;
    let first = u64::from_str_radix(first.trim().split('\t').next_back().unwrap(), 16).unwrap();
    let rights = Rights::of_exec(&nested, true);
    assert_eq!((first & TRACES, rights.capabilities["CapBnd"] & TRACES), (0, 0), "{rights:?}");
    assert_eq!(rights.beyond(&Rights::of(e, &c)), Vec::<String>::new());
    for mode in ["host".to_owned(), format!("container:{}", c.id), format!("container:{}", &c.id[..12])] {
        let refusal = crate::refused(&crate::attempt(&h, sleeper(json!({"PidMode": mode}))));
        assert!(refusal.contains("CAP_SYS_PTRACE"), "{mode}: {refusal}");
    }
    let beside = h.run(sleeper(json!({"PidMode": format!("container:{nested}")})));
    assert_eq!(beside.exec(&["true"]).code, 0, "the namespace of a container that can't trace may be shared");
    // The host sees none of the processes that the launcher enters.
    let seen = c.exec(&["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'slee[p] 100000'"]);
    assert_eq!(seen.out, "0\n");
}

/// `CAP_SYS_PTRACE`.
const TRACES: u64 = 1 << 19;

/// Paths that a host's maker hid or protected beyond the usual ones.
#[test]
fn what_was_hidden_stays_hidden() {
    let e = Engine::shared();
    let paths = json!({"MaskedPaths": ["/proc/uptime", "/proc/kcore", "/sys/kernel/notes", "/proc/tty"], "ReadonlyPaths": ["/proc/sys", "/proc/fs"]});
    let (_c, h) = host(e, paths);
    let script = "cat /proc/uptime; ls /proc/tty; cat /sys/kernel/notes | wc -c; (echo 1 > /proc/sys/kernel/domainname) 2>/dev/null && echo written; awk '$5 == \"/proc/fs\" || $5 == \"/proc\" {print substr($6, 1, 2)}' /proc/self/mountinfo | tail -n 1; echo end";
    let expected = "0\nro\nend\n";
    let below = h.run(sh_with("exec sleep 100000", greedy(json!({"Binds": [crate::SOCKET]}))));
    for at in [&h, &h.host_of(&below)] {
        for asked in [json!({}), greedy(json!({})), json!({"MaskedPaths": ["/proc/../proc/x"], "ReadonlyPaths": ["/"]}), json!({"Privileged": true, "PidMode": "host"})] {
            let nested = at.run(sleeper(asked.clone()));
            for privileged in [false, true] {
                let seen = nested.exec_with(json!({"Cmd": ["sh", "-c", script], "Privileged": privileged}));
                assert_eq!(seen.out, expected, "{asked}: {}", seen.err);
            }
        }
    }
}
