//! Registries and archives as a host sees them: pulls go through its own network, and content that other hosts have is
//! there for whoever shows its bytes, not for whoever knows its digest.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use droste_test_support::container::sh;
use droste_test_support::image::{Archive, BASE, Image};
use droste_test_support::{Engine, Value, json, t};

use crate::host;

/// A small registry on a loopback address of one host. It serves what it was given, true or not.
struct Registry {
    port: u16,
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Contents by path below `/v2/app/`.
type Contents = BTreeMap<String, Vec<u8>>;

impl Registry {
    fn start(h: &Engine, port: u16, contents: Contents) -> Self {
        let listener = h.in_netns(|| TcpListener::bind(("127.0.0.1", port))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let contents = Arc::new(contents);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let contents = Arc::clone(&contents);
                std::thread::spawn(move || drop(serve(stream, &contents)));
            }
        });
        Self { port }
    }
}

fn serve(mut stream: TcpStream, contents: &Contents) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // TLS is tried first, and is no HTTP: its records begin with a byte that no method does.
    if reader.fill_buf()?.first() != Some(&b'G') && reader.buffer().first() != Some(&b'H') {
        return Ok(());
    }
    loop {
        let mut head = Vec::new();
        while reader.read_until(b'\n', &mut head)? > 0 && !head.ends_with(b"\r\n\r\n") {}
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some(path) = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/v2/app/")) else { return Ok(()) };
        let (status, body) = contents.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
    }
}

/// The parts of an image with one layer as a registry serves them, with the layer's bytes or others in its place.
struct Parts {
    config: Vec<u8>,
    contents: Contents,
}

fn parts(h: &Engine, layer: &[u8], shown: &[u8]) -> Parts {
    let config = json!({"architecture": arch(), "os": "linux", "config": {"Cmd": ["cat", "/which"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(h, layer)]}});
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(h, bytes)});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", shown)]});
    let contents = Contents::from([
        ("manifests/1".to_owned(), manifest.to_string().into_bytes()),
        (format!("blobs/{}", digest(h, &config)), config.clone()),
        (format!("blobs/{}", digest(h, shown)), shown.to_vec()),
    ]);
    Parts { config, contents }
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The digest of bytes, as `sha256sum` has it.
fn digest(h: &Engine, bytes: &[u8]) -> String {
    let scratch = h.scratch();
    let file = scratch.path().join("bytes");
    std::fs::write(&file, bytes).unwrap();
    let said = std::process::Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    format!("sha256:{}", &String::from_utf8(said).unwrap()[..64])
}

fn layer(text: &str) -> Vec<u8> {
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
    let machine = Registry::start(e, 0, parts(e, &above, &above).contents);
    assert!(failure(&pull(&h, machine.port)).contains("connection refused"), "the machine's loopback is out of reach");
    let own = parts(&h, &below, &below);
    let id = digest(&h, &own.config);
    // The same address and port on both.
    let registry = Registry::start(&h, machine.port, own.contents);
    assert!(pull(&h, registry.port).text().contains("Status: Downloaded newer image"));
    let name = format!("127.0.0.1:{}/app:1", registry.port);
    t!(h, GET "/images/{name}/json", 200, ".Id" == (id));
    t!(e, GET "/images/{name}/json", 404);
    t!(e, GET "/images/{id}/json", 404);
    assert!(pull(e, machine.port).text().contains("Status: Downloaded newer image"));
    t!(e, GET "/images/{name}/json", 200, ".Id" == (digest(e, &parts(e, &above, &above).config)));
    t!(h, GET "/images/{name}/json", 200, ".Id" == (id));
}

#[test]
fn a_registry_of_ones_own_gives_nothing_that_it_does_not_have() {
    let e = Engine::shared();
    let secret = layer("a secret of the machine\n");
    let private = Registry::start(e, 0, parts(e, &secret, &secret).contents);
    assert!(pull(e, private.port).text().contains("Status: Downloaded newer image"));
    let mut body = crate::host_body(json!({}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    let known = parts(&h, &secret, &secret);
    let id = digest(&h, &known.config);
    t!(h, POST "/containers/create" {"Image": id}, 404);

    // It says that it has the layer, and does not.
    let mut lies = known.contents.clone();
    lies.remove(&format!("blobs/{}", digest(&h, &secret)));
    let liar = Registry::start(&h, 0, lies);
    failure(&pull(&h, liar.port));
    // It has the manifest alone.
    let bare = known.contents.iter().filter(|(path, _)| path.starts_with("manifests")).map(|(path, raw)| (path.clone(), raw.clone()));
    let bare = Registry::start(&h, 0, bare.collect());
    failure(&pull(&h, bare.port));
    // It gives other bytes for the layer.
    let other = Registry::start(&h, 0, parts(&h, &secret, &layer("not the secret\n")).contents);
    assert!(failure(&pull(&h, other.port)).contains("verification failed"));
    t!(h, GET "/images/json", 200, "." == []);
    // Whoever has the bytes may as well use what lies there.
    let honest = Registry::start(&h, 0, known.contents);
    assert!(pull(&h, honest.port).text().contains("Status: Downloaded newer image"));
    t!(h, GET "/images/{id}/json", 200);
}

#[test]
fn an_archive_gives_nothing_that_is_not_in_it() {
    let e = Engine::shared();
    let secret = layer("another secret of the machine\n");
    let private = Registry::start(e, 0, parts(e, &secret, &secret).contents);
    assert!(pull(e, private.port).text().contains("Status: Downloaded newer image"));
    let mut body = crate::host_body(json!({}));
    body["Labels"] = json!({"droste.images": "isolated"});
    let c = e.run(body);
    let h = e.host_of(&c);
    let config = parts(&h, &secret, &secret).config;
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(&h, bytes)[7..]);
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
    t!(h, GET "/images/{BASE}/json", 200);
}
