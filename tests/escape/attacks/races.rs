//! A thread in the host swaps what a look-up goes through, while the engine looks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use droste_test_support::image::{Archive, BASE};
use droste_test_support::{Container, Engine, json, t};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{attempt, host, inside, raw, sleeper};

/// How long each race is run.
const RACE: Duration = Duration::from_secs(3);

/// Ends the swapping, also where a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges two names again and again while `work` runs. Gives how often.
fn while_swapped<T>(one: PathBuf, other: PathBuf, work: impl FnOnce() -> T) -> (u64, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                count += 1;
            }
            count
        });
        let stopping = Stop(&stop);
        let done = work();
        drop(stopping);
        (swapping.join().unwrap(), done)
    })
}

/// Repeats work until the race is over. Gives how often.
fn until_over(mut work: impl FnMut()) -> u64 {
    let (end, mut count) = (Instant::now() + RACE, 0);
    while Instant::now() < end {
        work();
        count += 1;
    }
    count
}

/// A secret of the machine's, at a path at which the host has something else.
fn secret(e: &Engine) -> (tempfile::TempDir, String) {
    let dir = e.scratch();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let path = dir.path().display().to_string();
    (dir, path)
}

/// A folder and a link that leads out by every way, which are exchanged while sources are looked up.
#[test]
fn sources_are_looked_up_once() {
    let e = Engine::shared();
    let (_dir, path) = secret(e);
    let (c, h) = host(e, json!({}));
    inside(&c, &format!("mkdir -p /r/dir/x {path}/x; echo own > {path}/secret; echo own > /r/dir/secret; ln -s ../../../../../../..{path} /r/link"));
    let (swaps, tries) = while_swapped(h.root_path("/r/dir"), h.root_path("/r/link"), || {
        until_over(|| {
            for source in ["/r/dir", "/r/link/../dir", "/r/dir/x/..", "/r/link/secret"] {
                let body = json!({"Image": BASE, "Cmd": ["grep", "-r", "nobody", "/m"], "HostConfig": {"Binds": [format!("{source}:/m")]}});
                let created = h.request("POST", "/containers/create").json(&body).send();
                let Some(id) = created.json()["Id"].as_str().map(str::to_owned) else { continue };
                let made = Container::adopt(&h, &id);
                let started = h.request("POST", &format!("/containers/{made}/start")).send();
                assert!(started.status != 204 || made.wait() == 1, "{source} led to the machine's file");
            }
        })
    });
    assert!(swaps > 100 && tries > 0, "{swaps} swaps, {tries} tries");
    // The look-up alone is faster: a creation looks at what `--mount` names.
    let (swaps, looked) = while_swapped(h.root_path("/r/dir"), h.root_path("/r/link"), || {
        until_over(|| {
            let mounts = json!([{"Type": "bind", "Source": "/r/dir/only-there", "Target": "/m"}]);
            let body = json!({"Image": "droste-test-base", "Cmd": ["true"], "HostConfig": {"Mounts": mounts}});
            let reply = h.request("POST", "/containers/create").json(&body).send();
            assert_eq!(reply.status, 400, "{reply:?}");
        })
    });
    assert!(swaps > 100 && looked > 20, "{swaps} swaps, {looked} look-ups");
}

/// The same while files are copied into and out of a container, by links that it swaps itself.
#[test]
fn copies_stay_in_the_container() {
    let e = Engine::shared();
    let (_dir, path) = secret(e);
    let (_c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let script = format!("mkdir -p /r/dir {path}; echo own > {path}/secret; echo own > /r/dir/secret; ln -s ../../../../../../..{path} /r/link");
    assert_eq!(nested.exec(&["sh", "-c", &script]).code, 0);
    let root = |name: &str| h.root_path(&format!("/proc/{}/root/r/{name}", nested.inspect()["State"]["Pid"]));
    let archive = Archive::new().file("written", 0o644, b"x").file("dir/written", 0o644, b"x").finish();
    let (swaps, tries) = while_swapped(root("dir"), root("link"), || {
        until_over(|| {
            for at in ["/r/dir", "/r/dir/secret", "/r/link/.", "/r"] {
                let got = raw(&h, format!("GET /v1.51/containers/{nested}/archive?path={at} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes());
                assert!(!got.contains("nobody"), "{at} led to the machine's file");
            }
            for at in ["/r/dir", "/r/link", "/r"] {
                h.request("PUT", &format!("/containers/{nested}/archive?path={at}")).bytes("application/x-tar", archive.clone()).send();
            }
        })
    });
    assert!(swaps > 100 && tries > 0, "{swaps} swaps, {tries} tries");
    let names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"], "something was written on the machine");
}

/// Mounts that come and go below a source, by a host that may mount.
#[test]
fn mounts_that_come_and_go() {
    let e = Engine::shared();
    let (_dir, path) = secret(e);
    let (c, h) = host(e, json!({"CapAdd": ["SYS_ADMIN"]}));
    inside(&c, &format!("mkdir -p /r/dir/x /r/other {path}; echo own > {path}/secret; ln -s {path} /r/link"));
    let id =
        c.exec_create(&json!({"Cmd": ["sh", "-c", "while [ ! -e /r/stop ]; do mount --bind /r/other /r/dir; mount -t proc proc /r/dir/x 2>/dev/null; umount -l /r/dir; done"]}));
    t!(e, POST "/exec/{id}/start" {"Detach": true}, 200);
    let tries = until_over(|| {
        for (source, recursive) in [("/r/dir", true), ("/r/dir", false), ("/r/dir/x", true)] {
            let mounts = json!([{"Type": "bind", "Source": source, "Target": "/m", "BindOptions": {"NonRecursive": !recursive, "CreateMountpoint": true}}]);
            let reply = attempt(&h, json!({"Cmd": ["sh", "-c", "grep -r nobody /m/secret /m/1/root/etc/marker"], "HostConfig": {"Mounts": mounts}}));
            assert!(reply.status == 204 || reply.json()["message"].is_string(), "{reply:?}");
        }
    });
    inside(&c, "touch /r/stop");
    assert!(tries > 0, "{tries} tries");
    assert_eq!(std::fs::read_to_string(format!("{path}/secret")).unwrap(), "for nobody's eyes");
    assert_eq!(h.output("echo fine", json!({})), "fine\n");
}
