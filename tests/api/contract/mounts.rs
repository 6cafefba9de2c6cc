//! Mounts of every type, by `Binds` and by `Mounts`: what is shown, what is there inside, and what is refused.

use droste_test_support::container::{idle, sh_with};
use droste_test_support::image::{BASE, Image, rootfs};
use droste_test_support::{Container, Engine, Value, json, t};

fn mounted<'e>(e: &'e Engine, mount: &Value) -> Container<'e> {
    let mut body = idle();
    body["HostConfig"] = json!({"Mounts": [mount]});
    e.run(body)
}

fn refused(e: &Engine, host_config: Value, words: &str) {
    let reply = e.request("POST", "/containers/create").json(&json!({"Image": BASE, "Cmd": ["true"], "HostConfig": host_config})).send();
    reply.check(".message", "has", &json!(words));
    // Docker answers 500 to some mistakes in `Binds`.
    reply.expect_one_of(&[400, 404, 500]);
}

#[test]
fn volumes_by_name() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let place = e.get(&format!("/volumes/{volume}"))["Mountpoint"].clone();
    for (bind, mode, writable) in [("", "z", true), (":ro", "ro", false), (":rw,z", "rw,z", true), (":nocopy", "nocopy", true), (":Z", "Z", true)] {
        let c = e.create(sh_with("true", json!({"Binds": [format!("{volume}:/d{bind}")]})));
        t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Binds" == [(format!("{volume}:/d{bind}"))], ".HostConfig.Mounts" is absent,
            ".Mounts" == [{"Type": "volume", "Name": (volume.name), "Source": (place), "Destination": "/d", "Driver": "local", "Mode": mode, "RW": writable, "Propagation": ""}]);
    }
    let mount = json!({"Type": "volume", "Source": volume.name, "Target": "/d", "ReadOnly": true, "VolumeOptions": {"NoCopy": true}});
    let c = mounted(e, &mount);
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Mounts" == [mount], ".HostConfig.Binds" == null,
        ".Mounts" == [{"Type": "volume", "Name": (volume.name), "Source": (place), "Destination": "/d", "Driver": "local", "Mode": "z", "RW": false, "Propagation": ""}]);
    assert!(c.exec(&["touch", "/d/x"]).err.contains("Read-only file system"));
}

#[test]
fn a_name_that_is_not_there_yet_is_made() {
    let e = Engine::shared();
    let (by_bind, by_mount) = (e.name("bind"), e.name("mount"));
    let c = e.create(sh_with(
        "true",
        json!({"Binds": [format!("{by_bind}:/b")], "Mounts": [{"Type": "volume", "Source": by_mount, "Target": "/m",
        "VolumeOptions": {"Labels": {"l": "m"}, "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}}}}]}),
    ));
    t!(e, GET "/volumes/{by_bind}", 200, ".Labels" == null);
    t!(e, GET "/volumes/{by_mount}", 200, ".Labels" == {"l": "m"}, ".Options" == {"type": "tmpfs", "device": "tmpfs"});
    drop(c);
    t!(e, DELETE "/volumes/{by_bind}", 204);
    t!(e, DELETE "/volumes/{by_mount}", 204);
}

#[test]
fn what_the_image_has_is_copied_up() {
    let e = Engine::shared();
    let archive = rootfs().dir("data", 0o750, 1000).owned_file("data/seed", 0o640, 1000, b"seed\n").dir("data/sub", 0o700, 1000);
    let name = e.name("copy") + ":latest";
    droste_test_support::image::import(e, &name, &[], archive.finish());
    let run = |config: Value| {
        let outcome = e.outcome(json!({"Image": name, "Cmd": ["sh", "-c", "stat -c '%n %a %u' /d/data/* /d/data /data/* /data 2>/dev/null; true"], "HostConfig": config}));
        outcome.out
    };
    let volume = e.volume(json!({}));
    let whole = "/data/seed 640 1000\n/data/sub 700 1000\n/data 750 1000\n";
    assert_eq!(run(json!({"Binds": [format!("{volume}:/data")]})), whole);
    e.output("rm -r /data/seed /data/sub; touch /data/own", json!({"Binds": [format!("{volume}:/data")]}));
    assert_eq!(run(json!({"Binds": [format!("{volume}:/data")]})).lines().next(), Some("/data/own 644 0"), "a volume that has files is left alone");
    let empty = e.volume(json!({}));
    assert_eq!(run(json!({"Binds": [format!("{empty}:/data:nocopy")]})).lines().count(), 1);
    let mount = |options: Value| json!({"Mounts": [{"Type": "volume", "Source": empty.name, "Target": "/data", "VolumeOptions": options}]});
    assert_eq!(run(mount(json!({"NoCopy": true}))).lines().count(), 1);
    assert_eq!(run(mount(json!({}))), whole);
    t!(e, DELETE "/images/{name}?force=1", 200);
}

#[test]
fn subpaths_of_a_volume() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    e.output("mkdir -p /d/a/b; echo deep > /d/a/b/file; ln -s /etc /d/out; ln -s a/b /d/in", json!({"Binds": [format!("{volume}:/d")]}));
    let at = |path: &str| json!({"Mounts": [{"Type": "volume", "Source": volume.name, "Target": "/d", "VolumeOptions": {"Subpath": path}}]});
    assert_eq!(e.output("cat /d/file", at("a/b")), "deep\n");
    assert_eq!(e.output("cat /d", at("a/b/file")), "deep\n");
    assert_eq!(e.output("cat /d/file", at("in")), "deep\n");
    let c = e.create(sh_with("true", at("nope")));
    t!(e, POST "/containers/{c}/start", 404, ".message" matches "cannot access path .*nope: .*no such file or directory");
    // A link out of the volume leads nowhere.
    let c = e.create(sh_with("true", at("out")));
    let reply = e.request("POST", &format!("/containers/{c}/start")).send();
    assert!(reply.status >= 400, "{}", reply.text());
    for bad in ["../x", "/x", "a/../../x"] {
        refused(e, at(bad), "invalid mount config for type \"volume\": subpath must be a relative path within the volume");
    }
}

#[test]
fn mounts_of_volumes_are_checked() {
    let e = Engine::shared();
    let volume = e.volume(json!({}));
    let bind = |text: String| json!({"Binds": [text]});
    refused(e, bind(format!("{volume}:/d:nope")), "invalid mode: nope");
    refused(e, bind(format!("{volume}:d")), "mount path must be absolute");
    refused(e, bind(format!("{volume}:/")), "invalid specification: destination can't be '/'");
    refused(e, bind("a/b:/d".to_owned()), "includes invalid characters for a local volume name");
    refused(e, bind("x:/d".to_owned()), "create x: volume name is too short");
    refused(e, json!({"Binds": [format!("{volume}:/d"), "/tmp:/d"]}), "Duplicate mount point: /d");
    refused(e, json!({"Binds": [format!("{volume}:/d")], "Mounts": [{"Type": "tmpfs", "Target": "/d"}]}), "Duplicate mount point: /d");
    refused(e, json!({"VolumeDriver": "nope", "Binds": [format!("{}:/d", e.name("driven"))]}), "error looking up volume plugin nope: plugin \"nope\" not found");
    let mount = |more: Value| {
        let mut mount = json!({"Type": "volume", "Source": volume.name, "Target": "/d"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Mounts": [mount]})
    };
    refused(e, mount(json!({"BindOptions": {"Propagation": "rprivate"}})), "BindOptions must not be specified on mount type \"volume\"");
    refused(e, mount(json!({"TmpfsOptions": {"SizeBytes": 1}})), "TmpfsOptions must not be specified on mount type \"volume\"");
    refused(e, mount(json!({"Source": "a/b"})), "includes invalid characters for a local volume name");
    refused(e, mount(json!({"Target": "d"})), "invalid mount config for type \"volume\": invalid mount path: 'd' mount path must be absolute");
    refused(e, mount(json!({"Target": ""})), "invalid mount config for type \"volume\": field Target must not be empty");
    for kind in ["npipe", "cluster", "nope", ""] {
        refused(e, mount(json!({"Type": kind})), &format!("invalid mount config for type \"{kind}\": mount type unknown"));
    }
}

#[test]
fn binds_by_mounts() {
    let e = Engine::shared();
    let here = e.scratch();
    std::fs::write(here.path().join("file"), "here\n").unwrap();
    let mount = json!({"Type": "bind", "Source": here.path(), "Target": "/d", "BindOptions": {"Propagation": "private"}});
    let c = mounted(e, &mount);
    assert_eq!(c.exec(&["cat", "/d/file"]).out, "here\n");
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Mounts" == [mount], ".Mounts" == [{"Type": "bind", "Source": (here.path()), "Destination": "/d", "Mode": "", "RW": true, "Propagation": "private"}]);
    let new = here.path().join("new/folder");
    let c = mounted(e, &json!({"Type": "bind", "Source": new, "Target": "/d", "BindOptions": {"CreateMountpoint": true}}));
    assert_eq!(c.exec(&["touch", "/d/x"]).code, 0);
    assert!(new.join("x").exists());
    let bind = |more: Value| {
        let mut mount = json!({"Type": "bind", "Source": here.path(), "Target": "/d"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Mounts": [mount]})
    };
    let head = "invalid mount config for type \"bind\": ";
    refused(e, bind(json!({"Source": "/no/such/source"})), &format!("{head}bind source path does not exist: /no/such/source"));
    refused(e, bind(json!({"Source": "relative"})), &format!("{head}invalid mount path: 'relative' mount path must be absolute"));
    refused(e, bind(json!({"Source": ""})), &format!("{head}field Source must not be empty"));
    refused(e, bind(json!({"VolumeOptions": {}})), "VolumeOptions must not be specified on mount type \"bind\"");
    refused(e, bind(json!({"BindOptions": {"Propagation": "nope"}})), &format!("{head}invalid propagation mode: nope"));
}

#[test]
fn read_only_binds_hold_below() {
    let e = Engine::shared();
    let here = e.scratch();
    let below = here.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let bind = |options: Value| json!({"Mounts": [{"Type": "bind", "Source": here.path(), "Target": "/d", "ReadOnly": true, "BindOptions": options}]});
    // A mount below the source, in the mount namespace where sources are looked up.
    let pid = e.pid().to_string();
    let mount = |words: &[&str]| {
        let done = std::process::Command::new("nsenter").args(["--mount", "--root", "--target", &pid]).args(words).status().unwrap();
        assert!(done.success(), "{words:?}");
    };
    mount(&["mount", "-t", "tmpfs", "none", below.to_str().unwrap()]);
    let try_it = "touch /d/x 2>/dev/null && echo top; touch /d/below/x 2>/dev/null && echo below; true";
    assert_eq!(e.output(try_it, bind(json!({}))), "", "what is below is read-only too");
    assert_eq!(e.output(try_it, bind(json!({"ReadOnlyNonRecursive": true}))), "below\n");
    assert_eq!(e.output(try_it, bind(json!({"ReadOnlyForceRecursive": true, "Propagation": "rprivate"}))), "");
    assert_eq!(e.output("grep -c ' /d/below ' /proc/mounts || true", bind(json!({"NonRecursive": true}))), "0\n");
    mount(&["umount", below.to_str().unwrap()]);
    for (options, words) in [
        (json!({"ReadOnlyForceRecursive": true, "Propagation": "rprivate"}), "!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (json!({"ReadOnlyNonRecursive": true}), "!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
    ] {
        e.refuses(
            sh_with("true", json!({"Mounts": [{"Type": "bind", "Source": here.path(), "Target": "/d", "BindOptions": options}]})),
            &format!("mount options conflict: {words}"),
        );
    }
}

#[test]
fn propagation_goes_the_way_that_was_asked_for() {
    let e = Engine::shared();
    let here = e.scratch();
    let path = here.path().to_str().unwrap();
    let pid = e.pid().to_string();
    let at_host = |words: &[&str]| {
        let done = std::process::Command::new("nsenter").args(["--mount", "--root", "--target", &pid]).args(words).status().unwrap();
        assert!(done.success(), "{words:?}");
    };
    e.refuses(sh_with("true", json!({"Binds": [format!("{path}:/d:rshared")]})), "but it is not a shared mount");
    at_host(&["mount", "-t", "tmpfs", "none", path]);
    at_host(&["mount", "--make-shared", path]);
    at_host(&["mkdir", &format!("{path}/late"), &format!("{path}/inner")]);
    let run = |mode: &str| {
        let mut body = idle();
        body["HostConfig"] = json!({"Binds": [format!("{path}:/d:{mode}")], "CapAdd": ["SYS_ADMIN"], "SecurityOpt": ["apparmor=unconfined"]});
        e.run(body)
    };
    let (private, slave, shared) = (run("rprivate"), run("rslave"), run("rshared"));
    at_host(&["mount", "-t", "tmpfs", "none", &format!("{path}/late")]);
    let sees = |c: &Container, place: &str| c.exec(&["grep", "-q", &format!(" /d/{place} "), "/proc/mounts"]).code == 0;
    assert_eq!([sees(&private, "late"), sees(&slave, "late"), sees(&shared, "late")], [false, true, true]);
    assert_eq!(shared.exec(&["mount", "-t", "tmpfs", "none", "/d/inner"]).code, 0);
    assert_eq!([sees(&private, "inner"), sees(&slave, "inner")], [false, true], "a shared mount goes out and to others");
    drop((private, slave, shared));
    for place in ["late", "inner", ""] {
        at_host(&["umount", &format!("{path}/{place}")]);
    }
}

#[test]
fn tmpfs_by_mounts() {
    let e = Engine::shared();
    let mount = json!({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o700}});
    let c = mounted(e, &mount);
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Mounts" == [mount], ".Mounts" == [{"Type": "tmpfs", "Source": "", "Destination": "/d", "Mode": "", "RW": true, "Propagation": ""}]);
    let line = c.exec(&["grep", " /d ", "/proc/mounts"]).out;
    for option in ["tmpfs", "nosuid", "nodev", "noexec", "size=1024k", "mode=700"] {
        assert!(line.contains(option), "{option} in {line}");
    }
    let c = mounted(e, &json!({"Type": "tmpfs", "Target": "/d", "ReadOnly": true}));
    assert!(c.exec(&["touch", "/d/x"]).err.contains("Read-only file system"));
    let c = mounted(e, &json!({"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"Options": [["exec"]]}}));
    let line = c.exec(&["grep", " /d ", "/proc/mounts"]).out;
    assert!(!line.contains("noexec"), "{line}");
    let tmpfs = |more: Value| {
        let mut mount = json!({"Type": "tmpfs", "Target": "/d"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"Mounts": [mount]})
    };
    let head = "invalid mount config for type \"tmpfs\": ";
    refused(e, tmpfs(json!({"TmpfsOptions": {"Options": [["uid", "1000"]]}})), &format!("{head}invalid option: uid"));
    refused(e, tmpfs(json!({"Source": "x"})), &format!("{head}field Source must not be specified"));
    refused(e, tmpfs(json!({"Target": "/"})), &format!("{head}invalid specification: destination can't be '/'"));
    refused(e, tmpfs(json!({"BindOptions": {}})), "BindOptions must not be specified on mount type \"tmpfs\"");
    refused(e, json!({"Mounts": [{"Type": "tmpfs", "Target": "/d"}, {"Type": "tmpfs", "Target": "/d"}]}), "Duplicate mount point: /d");
}

#[test]
fn images_as_mounts() {
    let e = Engine::shared();
    let image = Image::new(e, &[]);
    let mount = json!({"Type": "image", "Source": image.name, "Target": "/d"});
    let c = mounted(e, &mount);
    t!(e, GET "/containers/{c}/json", 200, ".HostConfig.Mounts" == [mount], ".Mounts.0.Type" == "image", ".Mounts.0.Name" == (image.name), ".Mounts.0.Destination" == "/d", ".Mounts.0.RW" == false, ".Mounts.0.Mode" == "");
    assert_eq!(c.exec(&["cat", "/d/own"]).out, image.repo);
    assert!(c.exec(&["touch", "/d/x"]).err.contains("Read-only file system"));
    drop(c);
    let c = mounted(e, &json!({"Type": "image", "Source": image.name, "Target": "/d", "ImageOptions": {"Subpath": "etc"}}));
    assert_eq!(c.exec(&["cat", "/d/marker"]).out, "base\n");
    refused(e, json!({"Mounts": [{"Type": "image", "Source": "no-such-image", "Target": "/d"}]}), "No such image: no-such-image:latest");
    refused(e, json!({"Mounts": [{"Type": "image", "Target": "/d"}]}), "invalid mount config for type \"image\": field Source must not be empty");
    e.refuses(sh_with("true", json!({"Mounts": [{"Type": "image", "Source": image.name, "Target": "/d", "ImageOptions": {"Subpath": "nope"}}]})), "no such file or directory");
}

#[test]
fn volumes_from_other_containers() {
    let e = Engine::shared();
    let (volume, here) = (e.volume(json!({})), e.scratch());
    let first = e.create(sh_with(
        "true",
        json!({"Binds": [format!("{volume}:/named"), format!("{}:/bound:ro", here.path().display())], "Mounts": [{"Type": "volume", "Target": "/anonymous"}]}),
    ));
    let from = |text: String| json!({"VolumesFrom": [text]});
    let modes = |c: &Container| {
        let mut modes: Vec<_> = c.inspect()["Mounts"].as_array().unwrap().iter().map(|m| (m["Destination"].as_str().unwrap().to_owned(), m["RW"].as_bool().unwrap())).collect();
        modes.sort();
        modes
    };
    let is = |list: &[(&str, bool)]| list.iter().map(|(place, rw)| ((*place).to_owned(), *rw)).collect::<Vec<_>>();
    let c = e.create(sh_with("true", from(first.name.clone())));
    assert_eq!(modes(&c), is(&[("/anonymous", true), ("/bound", false), ("/named", true)]));
    assert_eq!(c.inspect()["HostConfig"]["VolumesFrom"], json!([first.name]));
    let c = e.create(sh_with("true", from(format!("{}:ro", first.id))));
    assert_eq!(modes(&c), is(&[("/anonymous", false), ("/bound", false), ("/named", false)]));
    let mut own = from(format!("{}:rw,z", first.name));
    own["Binds"] = json!(["/tmp:/named"]);
    let c = e.create(sh_with("true", own));
    assert_eq!(c.inspect()["Mounts"].as_array().unwrap().iter().find(|m| m["Destination"] == "/named").unwrap()["Type"], "bind", "its own come first");
    refused(e, from("no-such-container".to_owned()), "No such container: no-such-container");
    refused(e, from("a:b:c".to_owned()), "invalid mode: b:c");
    refused(e, from(String::new()), "volumes-from specification cannot be an empty string");
    t!(e, DELETE "/containers/{first}", 204);
    assert_eq!(e.output("touch /anonymous/x; ls /anonymous", from(c.name.clone())), "x\n");
}
