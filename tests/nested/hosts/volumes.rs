//! Volumes of a host: its own names, devices that are looked up on it, and what a nested host must not reach by them.

use droste_test_support::container::{idle, sh_with};
use droste_test_support::image::{BASE, Image};
use droste_test_support::{Engine, image, json, t};

use crate::{host, sleeper, until};

/// An engine of the test's own, since it is killed.
fn own() -> Engine {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    e
}

/// How many mounts the daemon's own namespace has on folders of volumes.
fn mounted_volumes(e: &Engine) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", e.pid())).unwrap();
    table.lines().filter(|line| line.contains("/volumes/") && line.contains("/_data ")).count()
}

#[test]
fn names_are_its_own() {
    let e = Engine::shared();
    let (_c1, one) = host(e, json!({}));
    let (_c2, two) = host(e, json!({}));
    let name = e.name("same");
    for (h, text) in [(e, "machine"), (&one, "one"), (&two, "two")] {
        t!(h, POST "/volumes/create" {"Name": (name), "Labels": {"of": text}}, 201, ".Labels.of" == text);
        h.output(&format!("echo {text} > /d/f"), json!({"Binds": [format!("{name}:/d")]}));
    }
    for (h, text) in [(e, "machine\n"), (&one, "one\n"), (&two, "two\n")] {
        assert_eq!(h.output("cat /d/f", json!({"Binds": [format!("{name}:/d:ro")]})), text);
    }
    let foreign = one.volume(json!({}));
    for h in [e, &two] {
        t!(h, GET "/volumes/{foreign}", 404, ".message" == (format!("get {foreign}: no such volume")));
        t!(h, DELETE "/volumes/{foreign}", 404, ".message" == (format!("get {foreign}: no such volume")));
        let listed = h.get("/volumes")["Volumes"].to_string();
        assert!(!listed.contains(&foreign.name), "{listed}");
    }
    t!(two, POST "/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D", 200, ".VolumesDeleted" == [(name)]);
    t!(one, GET "/volumes/{name}", 200);
    t!(e, DELETE "/volumes/{name}", 204);
}

#[test]
fn its_mountpoint_can_be_bound() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let volume = h.volume(json!({}));
    let place = h.get(&format!("/volumes/{volume}"))["Mountpoint"].as_str().unwrap().to_owned();
    assert_eq!(place, format!("/var/lib/docker/volumes/{volume}/_data"), "no path of the machine is shown");
    h.output("mkdir /d/sub; echo by name > /d/sub/f; ln -s / /d/out", json!({"Binds": [format!("{volume}:/d")]}));
    assert_eq!(h.output("cat /d/sub/f; echo by path > /d/g", json!({"Binds": [format!("{place}:/d")]})), "by name\n");
    assert_eq!(h.output("cat /d/f", json!({"Mounts": [{"Type": "bind", "Source": format!("{place}/sub"), "Target": "/d"}]})), "by name\n");
    assert_eq!(h.output("cat /d/g", json!({"Binds": [format!("{volume}:/d")]})), "by path\n");
    h.refuses(sh_with("true", json!({"Binds": [format!("{place}/out:/d")]})), "escapes the base directory");
    h.refuses(sh_with("true", json!({"Mounts": [{"Type": "bind", "Source": format!("{place}/nope"), "Target": "/d"}]})), "no such file or directory");
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/var/lib/docker/volumes/nope/_data", "Target": "/d"}]}}, 400,
        ".message" has "bind source path does not exist");
    assert_eq!(c.exec(&["ls", "/var/lib/docker"]).code, 1, "nothing was made in the host itself");
    let inner = h.create(sh_with("true", json!({"Binds": [format!("{volume}:/d")]})));
    t!(h, GET "/containers/{inner}/json", 200, ".Mounts.0.Source" == place);
}

#[test]
fn it_sees_its_own_volumes_where_it_has_them() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let (c, h) = host(e, json!({"Binds": [format!("{volume}:/work")]}));
    assert_eq!(c.exec(&["sh", "-c", "echo shared > /work/f"]).code, 0);
    let id = c.id.clone();
    let mounts = h.get(&format!("/containers/{id}/json"))["Mounts"].clone();
    let work = mounts.as_array().unwrap().iter().find(|m| m["Destination"] == "/work").unwrap();
    assert_eq!(work["Source"], "/work", "what it shows can be bound: {work}");
    assert_eq!(h.output("cat /work/f", json!({"VolumesFrom": [id]})), "shared\n");
    t!(h, GET "/volumes/{volume}", 404);
}

#[test]
fn devices_are_looked_up_on_it() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("machine"), "machine").unwrap();
    let (c, h) = host(e, json!({"Binds": [format!("{}:/ro:ro", dir.path().display())]}));
    let bind = |device: &str| h.volume(json!({"DriverOpts": {"type": "none", "o": "bind", "device": device}}));
    assert_eq!(c.exec(&["sh", "-c", "mkdir /own; echo own > /own/f; ln -s / /own/up; ln -s ../../../.. /own/far"]).code, 0);
    let run = |device: &str, script: &str| {
        let volume = bind(device);
        h.output(script, json!({"Binds": [format!("{volume}:/d")]}))
    };
    assert_eq!(run("/etc", "cat /d/marker"), "base\n", "its own /etc");
    assert_eq!(run("/own", "cat /d/f; echo back > /d/g"), "own\n");
    assert_eq!(c.exec(&["cat", "/own/g"]).out, "back\n");
    for device in ["/own/up", "/own/far", "/own/../../.."] {
        let volume = bind(device);
        let outcome = h.outcome(sh_with("cat /d/own/f; ls /d | grep -c '^data$' ", json!({"Binds": [format!("{volume}:/d")]})));
        assert!(outcome.out.starts_with("own\n") || outcome.code != 0, "{device} ends at its own root: {outcome:?}");
        assert!(!outcome.out.contains("machine"), "{outcome:?}");
    }
    let magic = bind("/proc/1/root");
    h.refuses(sh_with("true", json!({"Binds": [format!("{magic}:/d")]})), "too many levels of symbolic links");
    let read_only = bind("/ro");
    let outcome = h.outcome(sh_with("cat /d/machine; touch /d/x", json!({"Binds": [format!("{read_only}:/d")]})));
    assert_eq!(outcome.out, "machine");
    assert!(outcome.err.contains("Read-only file system"), "{outcome:?}");
    let missing = bind(&dir.path().display().to_string());
    h.refuses(sh_with("true", json!({"Binds": [format!("{missing}:/d")]})), "no such file or directory");
}

#[test]
fn it_mounts_no_file_system_that_it_could_not_mount_itself() {
    let e = Engine::shared();
    let (_c, bounded) = host(e, json!({"CapAdd": ["SYS_ADMIN"]}));
    let wishes = [
        ("proc", "proc", ""),
        ("sysfs", "sysfs", ""),
        ("overlay", "overlay", "lowerdir=/etc:/bin"),
        ("ext4", "/dev/vda", ""),
        ("nfs", ":/", "addr=127.0.0.1"),
        ("cgroup2", "none", ""),
        ("tmpfs", "tmpfs", "mpol=bind:0"),
    ];
    for (fstype, device, o) in wishes {
        let volume = bounded.volume(json!({"DriverOpts": {"type": fstype, "device": device, "o": o}}));
        bounded.refuses(sh_with("true", json!({"Binds": [format!("{volume}:/d")]})), "operation not permitted");
    }
    let memory = bounded.volume(json!({"DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}}));
    assert!(bounded.output("grep ' /d ' /proc/mounts", json!({"Binds": [format!("{memory}:/d")]})).contains("size=1024k"));
    // One that has everything mounts what it could mount, in its own namespaces.
    let (_privileged, h) = host(e, json!({"Privileged": true}));
    // The launcher's processes are the machine's: what shows processes can't be made for another host.
    let processes = h.volume(json!({"DriverOpts": {"type": "proc", "device": "proc"}}));
    h.refuses(sh_with("true", json!({"Binds": [format!("{processes}:/d")]})), "operation not permitted");
    let joined = h.volume(json!({"DriverOpts": {"type": "overlay", "device": "overlay", "o": "lowerdir=/etc:/bin"}}));
    assert_eq!(h.output("cat /d/marker", json!({"Binds": [format!("{joined}:/d")]})), "base\n", "its own folders");
}

#[test]
fn links_in_subpaths_stay_inside() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let volume = h.volume(json!({}));
    h.output(
        "mkdir -p /d/a/b; echo in > /d/a/b/f; ln -s /etc /d/abs; ln -s ../../.. /d/a/up; ln -s b /d/a/rel; ln -s /proc/self/root /d/magic",
        json!({"Binds": [format!("{volume}:/d")]}),
    );
    let at = |path: &str| json!({"Mounts": [{"Type": "volume", "Source": volume.name, "Target": "/d", "VolumeOptions": {"Subpath": path, "NoCopy": true}}]});
    assert_eq!(h.output("cat /d/f", at("a/rel")), "in\n");
    for path in ["abs", "a/up", "a/up/volumes", "magic", "magic/etc"] {
        h.refuses(sh_with("true", at(path)), "escapes the base directory");
    }
    // A link that changes all the time is either inside or refused.
    let swapper = h.run(sh_with("while :; do ln -sfn a /d/race; ln -sfn /etc /d/race; done", json!({"Binds": [format!("{volume}:/d")]})));
    for _ in 0..30 {
        let c = h.create(sh_with("ls /d", at("race")));
        let start = h.request("POST", &format!("/containers/{c}/start")).send();
        if start.status == 204 {
            c.wait();
            assert!(!c.logs().0.contains("marker"), "the host's /etc");
        }
    }
    drop(swapper);
    let image = Image::new(&h, &[]);
    let image_at = |path: &str| json!({"Mounts": [{"Type": "image", "Source": image.name, "Target": "/d", "ImageOptions": {"Subpath": path}}]});
    assert_eq!(h.output("cat /d/marker", image_at("etc")), "base\n");
    h.refuses(sh_with("true", image_at("nope")), "no such file or directory");
}

#[test]
fn volumes_go_with_their_host() {
    let e = Engine::shared();
    let before = mounted_volumes(e);
    let (c, h) = host(e, json!({}));
    let id = c.id.clone();
    let kept = h.request("POST", "/volumes/create").json(&json!({"Name": "kept"})).send();
    kept.expect_status(201);
    let memory = json!({"Name": "memory", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}});
    h.request("POST", "/volumes/create").json(&memory).send().expect_status(201);
    let bound = json!({"Name": "bound", "DriverOpts": {"type": "none", "o": "bind", "device": "/etc"}});
    h.request("POST", "/volumes/create").json(&bound).send().expect_status(201);
    h.output("echo stays > /d/f", json!({"Binds": ["kept:/d"]}));
    std::mem::forget(h.run(sleeper(json!({"Binds": ["memory:/d", "bound:/b"]}))));
    assert_eq!(mounted_volumes(e), before + 2);
    c.post("/restart?t=0", 204);
    let h = e.host_of(&c);
    until(|| mounted_volumes(e) == before);
    assert_eq!(h.output("cat /d/f", json!({"Binds": ["kept:/d"]})), "stays\n", "power off keeps them");
    std::mem::forget(h.run(sleeper(json!({"Binds": ["memory:/d", "bound:/b"]}))));
    let folder = e.dir().join("data/volumes/.hosts").join(&id);
    assert!(folder.join("kept/_data/f").exists());
    drop(c);
    assert!(!folder.exists(), "removal takes them");
    assert_eq!(mounted_volumes(e), before);
}

#[test]
fn a_daemons_death_keeps_what_is_mounted() {
    let e = own();
    let (_c, h) = host(&e, json!({}));
    let memory = json!({"DriverOpts": {"type": "tmpfs", "device": "tmpfs"}});
    let (outer, inner) = (e.volume(memory.clone()), h.volume(memory));
    let one = e.run({
        let mut body = idle();
        body["HostConfig"] = json!({"Binds": [format!("{outer}:/d")]});
        body
    });
    let nested = h.run(sleeper(json!({"Binds": [format!("{inner}:/d")]})));
    assert_eq!(one.exec(&["sh", "-c", "echo here > /d/f"]).code, 0);
    assert_eq!(nested.exec(&["sh", "-c", "echo there > /d/f"]).code, 0);
    e.kill_daemon();
    e.power_on();
    assert_eq!(e.output("cat /d/f", json!({"Binds": [format!("{outer}:/d")]})), "here\n");
    assert_eq!(h.output("cat /d/f", json!({"Binds": [format!("{inner}:/d")]})), "there\n");
    assert_eq!(mounted_volumes(&e), 2);
    t!(e, DELETE "/volumes/{outer}", 409);
    drop((one, nested));
    assert_eq!(mounted_volumes(&e), 0);
}

#[test]
fn killed_while_volumes_are_made_and_removed() {
    let e = own();
    let image = Image::new(&e, &["VOLUME /etc"]);
    let folder = e.dir().join("data/volumes");
    for round in 0..6 {
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (e, image) = (&e, &image);
                scope.spawn(move || {
                    for turn in 0..50 {
                        let name = format!("v{round}-{number}-{turn}");
                        let body = json!({"Image": image.name, "Cmd": ["true"], "HostConfig": {"Binds": [format!("{name}:/bin2")]}});
                        let made =
                            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| e.request("POST", &format!("/containers/create?name={name}")).json(&body).send().status));
                        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| e.request("DELETE", &format!("/containers/{name}?v=1")).send().status));
                        if made.is_err() || gone.is_err() {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(40 + 23 * round));
            e.kill_daemon();
        });
        e.power_on();
        // A daemon that was killed before the first volume has made no folder for them.
        let mut folders: Vec<_> =
            std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != ".hosts").collect();
        folders.sort();
        let listed = e.get("/volumes")["Volumes"].as_array().unwrap().clone();
        let mut names: Vec<_> = listed.iter().map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(folders, names, "round {round}: a folder for each volume and no other");
        let containers = e.get("/containers/json?all=1").as_array().unwrap().len();
        let anonymous = listed.iter().filter(|volume| volume["Labels"]["com.docker.volume.anonymous"] == "").count();
        assert_eq!(anonymous, containers, "round {round}: each container has its anonymous volume, and none is left over");
    }
}
