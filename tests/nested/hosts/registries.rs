//! Registries and archives as a host sees them: pulls go through its own network, and content that other hosts have is
//! there for whoever shows its bytes, not for whoever knows its digest.

use std::collections::BTreeMap;

use droste_test_support::container::sh;
use droste_test_support::image::{Archive, BASE, Image};
use droste_test_support::server::{MANIFEST, Server, digest};
use droste_test_support::{Engine, Value, json, t};

use crate::host;

/// Contents by path.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

fn registry(h: &Engine, port: u16, contents: Contents) -> Server {
    let server = Server::start(h, port);
    server.parts(contents);
    server
}

/// The parts of an image with one layer as a registry serves them, with the layer's bytes or others in its place.
pub(crate) struct Parts {
    config: Vec<u8>,
    pub(crate) contents: Contents,
}

pub(crate) fn parts(layer: &[u8], shown: &[u8]) -> Parts {
    let config = json!({"architecture": arch(), "os": "linux", "config": {"Cmd": ["cat", "/which"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}});
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", shown)]});
    let contents = Contents::from([
        ("/v2/app/manifests/1".to_owned(), manifest.to_string().into_bytes()),
        (format!("/v2/app/blobs/{}", digest(&config)), config.clone()),
        (format!("/v2/app/blobs/{}", digest(shown)), shown.to_vec()),
    ]);
    Parts { config, contents }
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

pub(crate) fn layer(text: &str) -> Vec<u8> {
    Archive::new().file("which", 0o644, text.as_bytes()).finish()
}

/// The error of a progress stream or of a refusal.
fn failure(reply: &droste_test_support::Reply) -> String {
    let lines = if reply.status == 200 { reply.json_lines() } else { vec![reply.json()] };
    let said = |line: &Value| line["error"].as_str().or(line["message"].as_str()).map(str::to_owned);
    lines.iter().find_map(said).unwrap_or_else(|| panic!("no failure: {}", reply.text()))
}

fn pull(h: &Engine, port: u16) -> droste_test_support::Reply {
    h.request("POST", &format!("/images/create?fromImage=127.0.0.1:{port}/app&tag=1")).send()
}

#[test]
fn localhost_is_its_own_and_not_the_machines() {
    let e = Engine::shared();
    let (_c, h) = host(e, json!({}));
    let (above, below) = (layer("the machine's\n"), layer("its own\n"));
    let machine = registry(e, 0, parts(&above, &above).contents);
    assert!(failure(&pull(&h, machine.port)).contains("connection refused"), "the machine's loopback is out of reach");
    let own = parts(&below, &below);
    let id = digest(&own.config);
    // The same address and port on both.
    let below_it = registry(&h, machine.port, own.contents);
    assert!(pull(&h, below_it.port).text().contains("Status: Downloaded newer image"));
    let name = format!("127.0.0.1:{}/app:1", below_it.port);
    t!(h, GET "/images/{name}/json", 200, ".Id" == (id));
    t!(e, GET "/images/{name}/json", 404);
    t!(e, GET "/images/{id}/json", 404);
    assert!(pull(e, machine.port).text().contains("Status: Downloaded newer image"));
    t!(e, GET "/images/{name}/json", 200, ".Id" == (digest(&parts(&above, &above).config)));
    t!(h, GET "/images/{name}/json", 200, ".Id" == (id));
}

#[test]
fn a_registry_of_ones_own_gives_nothing_that_it_does_not_have() {
    let e = Engine::shared();
    let secret = layer("a secret of the machine\n");
    let private = registry(e, 0, parts(&secret, &secret).contents);
    assert!(pull(e, private.port).text().contains("Status: Downloaded newer image"));
    let mut body = crate::host_body(json!({}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    let known = parts(&secret, &secret);
    let id = digest(&known.config);
    t!(h, POST "/containers/create" {"Image": id}, 404);

    // It says that it has the layer, and does not.
    let mut lies = known.contents.clone();
    lies.remove(&format!("/v2/app/blobs/{}", digest(&secret)));
    let liar = registry(&h, 0, lies);
    failure(&pull(&h, liar.port));
    // It has the manifest alone.
    let bare = known.contents.iter().filter(|(path, _)| path.starts_with("/v2/app/manifests")).map(|(path, raw)| (path.clone(), raw.clone()));
    let bare = registry(&h, 0, bare.collect());
    failure(&pull(&h, bare.port));
    // It gives other bytes for the layer.
    let other = registry(&h, 0, parts(&secret, &layer("not the secret\n")).contents);
    assert!(failure(&pull(&h, other.port)).contains("verification failed"));
    t!(h, GET "/images/json", 200, "." == []);
    // Whoever has the bytes may as well use what lies there.
    let honest = registry(&h, 0, known.contents);
    assert!(pull(&h, honest.port).text().contains("Status: Downloaded newer image"));
    t!(h, GET "/images/{id}/json", 200);
}

#[test]
fn an_archive_gives_nothing_that_is_not_in_it() {
    let e = Engine::shared();
    let secret = layer("another secret of the machine\n");
    let private = registry(e, 0, parts(&secret, &secret).contents);
    assert!(pull(e, private.port).text().contains("Status: Downloaded newer image"));
    let mut body = crate::host_body(json!({}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    let config = parts(&secret, &secret).config;
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
    let (config_name, layer_name) = (blob(&config), blob(&secret));
    let manifest = json!([{"Config": config_name, "RepoTags": ["mine:1"], "Layers": [layer_name]}]).to_string();
    let load = |shown: Option<&[u8]>| {
        let mut archive = Archive::new().dir("blobs", 0o755, 0).dir("blobs/sha256", 0o755, 0).file("manifest.json", 0o644, manifest.as_bytes()).file(&config_name, 0o644, &config);
        if let Some(shown) = shown {
            archive = archive.file(&layer_name, 0o644, shown);
        }
        h.request("POST", "/images/load?quiet=1").bytes("application/x-tar", archive.finish()).send()
    };
    assert!(failure(&load(None)).contains("is missing"));
    assert!(failure(&load(Some(b""))).contains("digest mismatch"));
    assert!(failure(&load(Some(&secret[..512]))).contains("digest mismatch"));
    t!(h, GET "/images/json", 200, "." == []);
    assert_eq!(load(Some(&secret)).json_lines(), [json!({"stream": "Loaded image: mine:1\n"})]);
    t!(h, GET "/images/mine:1/json", 200);
}

#[test]
fn what_a_host_sees_it_need_not_fetch() {
    let e = Engine::shared();
    let image = Image::new(e, &["LABEL seen=yes"]);
    let (_c, h) = host(e, json!({}));
    let made = h.run(sh("echo made > /made"));
    made.wait();
    // On top of layers that it inherits and has never shown.
    let repo = h.name("above");
    t!(h, POST "/commit?container={made}&repo={repo}" {}, 201);
    assert_eq!(h.outcome(json!({"Image": repo, "Cmd": ["cat", "/made"]})).out, "made\n");
    t!(h, GET "/images/{image}/json", 200, ".Id" == (image.id));
    // Where layers lie is the machine's affair.
    t!(e, GET "/images/{image}/json", 200, ".GraphDriver.Data.UpperDir" is string);
    t!(h, GET "/images/{BASE}/json", 200, ".GraphDriver.Data" == null);
}
