//! What clients do in the meantime: every kind of call, as processes of our own client that are killed at a random
//! moment or end by themselves. They know a few names only, so that they get in each other's way.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use droste_test_support::engine::droste_program;
use droste_test_support::image::{self, Archive, BASE};
use droste_test_support::server::Server;
use droste_test_support::{Engine, Value};
use fastrand::Rng;

use crate::registries::{layer, parts};

/// Words of calls. `{c}` is one of a few containers, `{n}` a network, `{v}` a volume, `{t}` a tag.
const CALLS: &[&str] = &[
    "create --name {c} -v {v}:/d {image} sleep 1000",
    "run -d --name {c} -p 80 -v /anonymous {image} sleep 1000",
    "run -d --name {c} --network {n} --network-alias alias {image} sleep 1000",
    "run -d --name {c} --restart always -v {v}:/d {image} sleep 1000",
    "run -d --name {c} --restart on-failure:2 {image} false",
    "run -d --name {c} --health-cmd true --health-interval 1s {image} sleep 1000",
    "run -d --name {c} -v {socket} {image} sleep 1000",
    "run -d --name {c} -v {socket} --restart always {image} sleep 1000",
    "run --rm {image} true",
    "run --rm -v {socket} {image} true",
    "run --rm --network {n} -v {v}:/d {image} ls /d",
    "run --rm -t {image} ls",
    "start {c}",
    "stop -t 0 {c}",
    "restart -t 0 {c}",
    "kill {c}",
    "rm -f -v {c}",
    "rm -f -v {c} {c} {c}",
    "rename {c} {c}",
    "pause {c}",
    "unpause {c}",
    "exec {c} sleep 0.1",
    "exec -d {c} sleep 1000",
    "exec -t {c} ls",
    "attach --no-stdin {c}",
    "logs -f {c}",
    "wait {c}",
    "stats --no-stream {c}",
    "commit {c} {t}",
    "tag {image} {t}",
    "rmi {t}",
    "load -i {archive}",
    "import {tree} {t}",
    "save -o {scrap} {image}",
    "pull {registry}",
    "export -o {scrap} {c}",
    "network create {n}",
    "network connect {n} {c}",
    "network disconnect {n} {c}",
    "network rm {n}",
    "volume create {v}",
    "volume rm {v}",
    "cp {tree} {c}:/tmp/",
    "cp {c}:/etc/marker {scrap}",
];

/// Containers that are not the calls'.
const KEPT: &[&str] = &["/keeper", "/web", "/asks", "/below"];

/// The image that is loaded.
const LOADED: &str = "loaded:1";

/// How long a call that goes on is let go on, in milliseconds.
const PATIENCE: u64 = 250;

/// What the clients need.
pub(super) struct Kit {
    folder: tempfile::TempDir,
    registry: Server,
}

/// Where a client's calls go.
pub(super) struct Place {
    address: String,
    /// The names of images that are made there begin with it: a host sees those of the host above.
    tag: &'static str,
}

impl Place {
    pub(super) fn new(e: &Engine, tag: &'static str) -> Self {
        Self::at(e.host(), tag)
    }

    pub(super) fn at(address: String, tag: &'static str) -> Self {
        Self { address, tag }
    }
}

impl Kit {
    pub(super) fn new(e: &Engine) -> Self {
        // Containers on the machine's network pull from here; the others find that nobody listens.
        let registry = Server::start(e, 0);
        registry.parts(parts(&layer("pulled"), &layer("pulled")).contents);
        let kit = Self { folder: e.scratch(), registry };
        let tree = Archive::new().file("file", 0o644, &[7; 300_000]).file("other", 0o644, b"other\n").finish();
        std::fs::write(kit.path("tree"), tree).unwrap();
        image::import(e, LOADED, &[], Archive::new().file("loaded", 0o644, &[8; 100_000]).finish());
        let archive = e.request("GET", &format!("/images/{LOADED}/get")).send();
        std::fs::write(kit.path("archive"), archive.body).unwrap();
        e.request("DELETE", &format!("/images/{LOADED}")).send().expect_status(200);
        kit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A call's words.
    fn words(&self, place: &Place, rng: &mut Rng) -> Vec<String> {
        let call = rng.choice(CALLS).unwrap();
        let path = |name: &str| self.path(name).display().to_string();
        let scrap = format!("scrap{}", rng.u64(..));
        let word = |word: &str| {
            let word = word.replace("{c}", &format!("x{}", rng.u8(..4)));
            let word = word.replace("{n}", &format!("n{}", rng.u8(..2))).replace("{v}", &format!("v{}", rng.u8(..2)));
            let word = word.replace("{t}", &format!("{}{}", place.tag, rng.u8(..2))).replace("{image}", BASE);
            let word = word.replace("{socket}", crate::SOCKET).replace("{registry}", &format!("127.0.0.1:{}/app:1", self.registry.port));
            word.replace("{archive}", &path("archive")).replace("{tree}", &path("tree")).replace("{scrap}", &path(&scrap))
        };
        call.split(' ').map(word).collect()
    }
}

/// One call, to its end or until it is killed.
pub(super) fn one(kit: &Kit, place: &Place, rng: &mut Rng) {
    let words = kit.words(place, rng);
    let mut client = Command::new(droste_program());
    client.args(["-H", &place.address]).args(&words).env("DOCKER_CONFIG", kit.folder.path());
    let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_millis(rng.u64(..PATIENCE));
    while client.try_wait().unwrap().is_none() {
        if Instant::now() >= end {
            client.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes what calls have made on a host that lives: nothing of it is stuck.
pub(super) fn clean(e: &Engine, tag: &str) {
    let gone = |what: String| {
        let reply = e.request("DELETE", &what).send();
        assert!(matches!(reply.status, 200 | 204 | 404 | 409), "{what}: {} {}", reply.status, reply.text());
    };
    super::at_last(|| {
        let containers: Vec<Value> = ours(&e.get("/containers/json?all=1"), |row| !name(row, "/Names/0", KEPT));
        containers.iter().for_each(|row| gone(format!("/containers/{}?force=1&v=1", text(row, "/Id"))));
        let networks = ours(&e.get("/networks"), |row| name(row, "/Name", &["n0", "n1"]));
        networks.iter().for_each(|row| gone(format!("/networks/{}", text(row, "/Id"))));
        let volumes = ours(&e.get("/volumes")["Volumes"], |row| !name(row, "/Name", &["kept"]));
        volumes.iter().for_each(|row| gone(format!("/volumes/{}", text(row, "/Name"))));
        let images = images(&e.get("/images/json"), tag);
        images.iter().for_each(|name| gone(format!("/images/{name}?force=1")));
        let left = [containers, networks, volumes].concat();
        if left.is_empty() && images.is_empty() { Ok(()) } else { Err(format!("the end of {left:?} {images:?}")) }
    });
}

/// The rows of a list that calls have made.
fn ours(list: &Value, is_ours: impl Fn(&Value) -> bool) -> Vec<Value> {
    list.as_array().into_iter().flatten().filter(|row| is_ours(row)).cloned().collect()
}

fn text<'v>(row: &'v Value, pointer: &str) -> &'v str {
    row.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(row: &Value, pointer: &str, begins: &[&str]) -> bool {
    begins.iter().any(|begin| text(row, pointer).starts_with(begin))
}

/// Names that calls give to images, and the ids of images without a name.
fn images(list: &Value, tag: &str) -> Vec<String> {
    let begins = [format!("{tag}0:"), format!("{tag}1:"), LOADED.to_owned(), "127.0.0.1:".to_owned()];
    let made = |name: &&str| begins.iter().any(|begin| name.starts_with(begin));
    let of_row = |row: &Value| -> Vec<String> {
        let names: Vec<&str> = row["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match names.as_slice() {
            [] => vec![text(row, "/Id").to_owned()],
            names => names.iter().filter(|name| made(name)).map(|name| (*name).to_owned()).collect(),
        }
    };
    list.as_array().into_iter().flatten().flat_map(of_row).collect()
}
