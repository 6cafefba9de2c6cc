//! Volume plugins: found and believed on the host that asks. The plugin is a server in this file; it keeps its volumes
//! in folders of the host that it belongs to, and writes down what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use droste_test_support::container::sh_with;
use droste_test_support::image::{self, BASE};
use droste_test_support::{Engine, Value, json, t};

use crate::{host, sleeper};

/// What a plugin keeps: its volumes' names, and every question with its body.
#[derive(Default)]
struct Kept {
    volumes: BTreeMap<String, Value>,
    asked: Vec<(String, Value)>,
}

/// A plugin that runs until the test's process ends.
#[derive(Clone)]
struct Plugin {
    kept: Arc<Mutex<Kept>>,
    /// Where it keeps volumes, as its host calls it.
    place: String,
    /// The same as this process can open it.
    here: PathBuf,
}

impl Plugin {
    /// Listens at `NAME.sock` in the plugins' folder below `root`, which is the root of a host.
    fn start(root: &Path, name: &str, place: &str) -> Self {
        let folder = root.join("run/docker/plugins");
        std::fs::create_dir_all(&folder).unwrap();
        // By way of the folder's descriptor: a socket's address has at most 107 bytes.
        let folder = std::fs::File::open(&folder).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}.sock", folder.as_raw_fd())).unwrap();
        let here = root.join(place.trim_start_matches('/'));
        std::fs::create_dir_all(&here).unwrap();
        let plugin = Self { kept: Arc::default(), place: place.to_owned(), here };
        let server = plugin.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| server.serve(client)));
        plugin
    }

    fn serve(&self, client: UnixStream) {
        let mut reader = BufReader::new(&client);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let question = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase().strip_prefix("content-length: ") {
                Some(text) => length = text.parse().unwrap(),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = std::str::from_utf8(&body).unwrap().parse().unwrap();
        let answer = self.answer(&question, &body).to_string();
        self.kept.lock().unwrap().asked.push((question, body));
        // In pieces, as Go's servers may do.
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.plugins.v1.2+json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = (&client).write_all(format!("{head}{:x}\r\n{answer}\r\n0\r\n\r\n", answer.len()).as_bytes());
    }

    fn answer(&self, question: &str, body: &Value) -> Value {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let place = format!("{}/{name}", self.place);
        let mut kept = self.kept.lock().unwrap();
        match question {
            "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
            "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
            "VolumeDriver.List" => json!({"Volumes": kept.volumes.keys().map(|name| json!({"Name": name})).collect::<Vec<_>>()}),
            "VolumeDriver.Create" if body["Opts"]["fail"].is_string() => json!({"Err": body["Opts"]["fail"]}),
            "VolumeDriver.Create" => {
                std::fs::create_dir_all(self.here.join(&name)).unwrap();
                kept.volumes.insert(name, body["Opts"].clone());
                json!({"Err": ""})
            }
            _ if !kept.volumes.contains_key(&name) => json!({"Err": format!("{name} is not mine")}),
            "VolumeDriver.Get" => json!({"Volume": {"Name": name, "Mountpoint": place, "Status": {"mood": "good"}}}),
            "VolumeDriver.Mount" if kept.volumes[&name]["out"].is_string() => json!({"Mountpoint": kept.volumes[&name]["out"]}),
            "VolumeDriver.Mount" | "VolumeDriver.Path" => json!({"Mountpoint": place}),
            "VolumeDriver.Unmount" => json!({}),
            "VolumeDriver.Remove" => {
                kept.volumes.remove(&name);
                std::fs::remove_dir_all(self.here.join(&name)).unwrap();
                json!({})
            }
            other => json!({"Err": format!("no such question: {other}")}),
        }
    }

    /// Who mounted and unmounted, in order.
    fn mounts(&self, volume: &str) -> Vec<(String, String)> {
        let kept = self.kept.lock().unwrap();
        let of = kept.asked.iter().filter(|(question, body)| body["Name"] == volume && question.ends_with("ount"));
        of.map(|(question, body)| (question["VolumeDriver.".len()..].to_owned(), body["ID"].as_str().unwrap().to_owned())).collect()
    }
}

/// The root of the host that a container is, as this process can open it.
fn root_of(e: &Engine, c: &droste_test_support::Container<'_>) -> PathBuf {
    let pid = c.inspect()["State"]["Pid"].clone();
    e.root_path(&format!("/proc/{pid}/root"))
}

fn use_it(h: &Engine, plugin: &Plugin) {
    let name = h.name("plugged");
    t!(h, POST "/volumes/create" {"Name": (name), "Driver": "keeper", "DriverOpts": {"colour": "red"}, "Labels": {"a": "b"}}, 201,
        ".Driver" == "keeper", ".Scope" == "global", ".Options" == {"colour": "red"}, ".Labels" == {"a": "b"}, ".Mountpoint" == (format!("{}/{name}", plugin.place)), ".Status" == {"mood": "good"});
    assert_eq!(plugin.kept.lock().unwrap().volumes[&name], json!({"colour": "red"}));
    t!(h, POST "/volumes/create" {"Name": (name), "Driver": "local"}, 409, ".message" == (format!("create {name}: driver 'keeper' already has volume '{name}': volume name must be unique")));
    let c = h.create(sh_with("cat /d/f; echo back > /d/g", json!({"Binds": [format!("{name}:/d")]})));
    t!(h, GET "/containers/{c}/json", 200, ".Mounts.0.Driver" == "keeper", ".Mounts.0.Name" == name);
    let before = plugin.mounts(&name).len();
    std::fs::write(plugin.here.join(&name).join("f"), "kept\n").unwrap();
    c.start();
    assert_eq!(c.wait(), 0);
    assert_eq!(c.logs().0, "kept\n");
    assert_eq!(std::fs::read_to_string(plugin.here.join(&name).join("g")).unwrap(), "back\n");
    t!(h, DELETE "/volumes/{name}", 409);
    let id = c.id.clone();
    crate::until(|| plugin.mounts(&name).len() == before + 2);
    assert_eq!(plugin.mounts(&name)[before..], [("Mount".to_owned(), id.clone()), ("Unmount".to_owned(), id)]);
    drop(c);
    // What the plugin made by itself is found, too.
    let other = h.name("found");
    std::fs::create_dir_all(plugin.here.join(&other)).unwrap();
    plugin.kept.lock().unwrap().volumes.insert(other.clone(), json!({}));
    let listed = h.get("/volumes?filters=%7B%22driver%22%3A%5B%22keeper%22%5D%7D")["Volumes"].clone();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|volume| volume["Name"].as_str().unwrap()).collect();
    assert!(names.contains(&name.as_str()) && names.contains(&other.as_str()), "{listed}");
    t!(h, GET "/volumes/{other}", 200, ".Driver" == "keeper");
    assert_eq!(h.output("echo x > /d/x", json!({"Binds": [format!("{other}:/d")]})), "");
    assert!(plugin.here.join(&other).join("x").exists());
    for name in [&name, &other] {
        t!(h, DELETE "/volumes/{name}", 204);
        t!(h, GET "/volumes/{name}", 404, ".message" == (format!("get {name}: no such volume")));
        assert!(!plugin.here.join(name).exists());
    }
    let refused = h.name("refused");
    t!(h, POST "/volumes/create" {"Name": (refused), "Driver": "keeper", "DriverOpts": {"fail": "no room"}}, 500, ".message" == (format!("create {refused}: no room")));
    t!(h, GET "/volumes/{refused}", 404);
    // A volume that nobody named goes with its container.
    let c = h.create(sh_with("true", json!({"Mounts": [{"Type": "volume", "Target": "/d", "VolumeOptions": {"DriverConfig": {"Name": "keeper"}}}]})));
    assert_eq!(plugin.kept.lock().unwrap().volumes.len(), 1);
    t!(h, DELETE "/containers/{c}?v=1", 204);
    assert_eq!(plugin.kept.lock().unwrap().volumes.len(), 0);
}

#[test]
fn a_plugin_of_the_machine() {
    let e = Engine::start_droste(&[]);
    image::load_base(&e);
    // A folder of the test's own over the machine's, in the mount namespace of this Droste alone.
    let pid = e.pid().to_string();
    let script = "mkdir -p /run/docker && mount -t tmpfs none /run/docker";
    let done = std::process::Command::new("nsenter").args(["--mount", "--root", "--target", &pid, "sh", "-c", script]).status().unwrap();
    assert!(done.success());
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let plugin = Plugin::start(&root, "keeper", "/run/docker/kept");
    use_it(&e, &plugin);
    let (_c, h) = host(&e, json!({}));
    t!(h, POST "/volumes/create" {"Name": "inner", "Driver": "keeper"}, 404,
        ".message" == "create inner: error looking up volume plugin keeper: plugin \"keeper\" not found");
    // A container that runs on while the daemon is away is unmounted by the next one.
    t!(e, POST "/volumes/create" {"Name": "lasting", "Driver": "keeper"}, 201);
    let c = e.run(sleeper(json!({"Binds": ["lasting:/d"]})));
    let before = plugin.mounts("lasting").len();
    e.kill_daemon();
    e.power_on();
    t!(e, POST "/containers/{c}/kill", 204);
    c.wait();
    crate::until(|| plugin.mounts("lasting").len() > before);
    assert_eq!(plugin.mounts("lasting")[before..], [("Unmount".to_owned(), c.id.clone())]);
}

#[test]
fn a_plugin_of_a_nested_host() {
    let e = Engine::shared();
    let (c, h) = host(e, json!({}));
    let (_other, beside) = host(e, json!({}));
    let plugin = Plugin::start(&root_of(e, &c), "keeper", "/kept");
    use_it(&h, &plugin);
    for other in [e, &beside] {
        t!(other, POST "/volumes/create" {"Name": "other", "Driver": "keeper"}, 404, ".message" has "plugin \"keeper\" not found");
    }
    // What it answers is a path of its own host, and leads nowhere else.
    let dir = e.scratch();
    std::fs::write(dir.path().join("machine"), "machine").unwrap();
    assert_eq!(c.exec(&["ln", "-s", "/", "/kept/up"]).code, 0);
    for (name, out) in [("root", "/"), ("dots", "/../../../.."), ("link", "/kept/up")] {
        t!(h, POST "/volumes/create" {"Name": (name), "Driver": "keeper", "DriverOpts": {"out": (out)}}, 201);
        let seen = h.output("cat /d/etc/marker", json!({"Binds": [format!("{name}:/d:nocopy")]}));
        assert_eq!(seen, "base\n", "{out}");
    }
    for (name, out, words) in
        [("machine", dir.path().to_str().unwrap(), "which does not exist"), ("relative", "etc", "which is not absolute"), ("magic", "/proc/1/root", "could not be opened")]
    {
        t!(h, POST "/volumes/create" {"Name": (name), "Driver": "keeper", "DriverOpts": {"out": (out)}}, 201);
        h.refuses(sh_with("true", json!({"Binds": [format!("{name}:/d:nocopy")]})), words);
    }
    // One that is named in a file, and one that does not listen.
    assert_eq!(c.exec(&["sh", "-c", "mkdir -p /etc/docker/plugins; echo unix:///run/docker/plugins/keeper.sock > /etc/docker/plugins/named.spec; echo '{\"Addr\":\"unix:///nobody.sock\"}' > /etc/docker/plugins/silent.json"]).code, 0);
    t!(h, POST "/volumes/create" {"Name": "by-file", "Driver": "named"}, 201, ".Driver" == "named");
    t!(h, POST "/volumes/create" {"Name": "silent", "Driver": "silent"}, 500, ".message" has "dial unix /nobody.sock");
    t!(h, GET "/volumes", 200, ".Warnings.0" has "list silent: dial unix /nobody.sock");
    for name in ["../keeper", "keeper/x", "."] {
        t!(h, POST "/volumes/create" {"Name": "odd", "Driver": (name)}, 404, ".message" has "not found");
    }
    t!(h, POST "/containers/create" {"Image": BASE, "Cmd": ["true"], "HostConfig": {"VolumeDriver": "nope", "Binds": ["v1:/d"]}}, 400,
        ".message" == "create v1: error looking up volume plugin nope: plugin \"nope\" not found");
    t!(h, GET "/plugins", 200);
}
