//! Archives into and out of running containers, with every kind of link in them and on the way.

use droste_test_support::image::Archive;
use droste_test_support::{Container, Engine, json};

use crate::{host, inside, raw, sleeper};

/// A raw header of a tar archive: what no well-meaning writer would make.
fn entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
    [header.as_slice(), data, &padding].concat()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

const FILE: u8 = b'0';
const HARD: u8 = b'1';
const SOFT: u8 = b'2';

/// Everything below a folder of the machine's, as it must stay.
fn listing(dir: &std::path::Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

fn put(h: &Engine, at: &str, path: &str, body: Vec<u8>) -> u16 {
    h.request("PUT", &format!("/containers/{at}/archive?path={path}")).bytes("application/x-tar", body).send().status
}

/// Into a member, running and stopped, and into the host itself.
#[test]
fn what_is_put_stays_inside() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let before = listing(dir.path());
    let (c, h) = host(e, json!({}));
    let (running, stopped) = (h.run(sleeper(json!({}))), h.create(sleeper(json!({}))));
    let path = dir.path().display().to_string();
    let (relative, up) = (path.trim_start_matches('/'), "../".repeat(12));
    let attacks = [
        vec![entry(&format!("{up}{relative}/a"), FILE, "", b"x")],
        vec![entry(&format!("{path}/b"), FILE, "", b"x")],
        vec![entry("l", SOFT, &path, b""), entry("l/c", FILE, "", b"x")],
        vec![entry("l", SOFT, &format!("{up}{relative}"), b""), entry("l/d", FILE, "", b"x")],
        vec![entry("l", SOFT, &format!("{path}/secret"), b""), entry("l", FILE, "", b"x")],
        vec![entry("h", HARD, &format!("{path}/secret"), b""), entry("h", FILE, "", b"x")],
        vec![entry("h", HARD, &format!("{up}{relative}/secret"), b""), entry("h", FILE, "", b"x")],
        vec![entry("m", SOFT, "/proc/1/root", b""), entry(&format!("m{path}/e"), FILE, "", b"x")],
        vec![entry("m", SOFT, "/proc/self/cwd", b""), entry("m/f", FILE, "", b"x")],
        vec![entry("a", SOFT, "b", b""), entry("b", SOFT, "a", b""), entry("a/g", FILE, "", b"x")],
        vec![entry("/", SOFT, &path, b""), entry("i", FILE, "", b"x")],
        vec![entry("..", SOFT, &path, b""), entry("../j", FILE, "", b"x")],
        vec![entry("s", SOFT, "/proc/self/fd", b""), entry("s/0", FILE, "", b"x"), entry("s/9", FILE, "", b"x")],
        vec![entry("n", b'9', "", b"x"), entry("n/k", FILE, "", b"x")],
    ];
    for at in [&running.id, &stopped.id, &c.id] {
        for (number, attack) in attacks.iter().enumerate() {
            let status = put(&h, at, "/tmp", archive(attack));
            assert!(matches!(status, 200 | 400..=599), "attack {number} on {at}: {status}");
            assert_eq!(listing(dir.path()), before, "attack {number} on {at}");
        }
        for place in [format!("/tmp/../..{path}"), format!("/proc/1/root{path}"), "/proc/self/fd/3".to_owned(), format!("/tmp/l{path}")] {
            put(&h, at, &place, archive(&[entry("p", FILE, "", b"x")]));
            assert_eq!(listing(dir.path()), before, "{place} on {at}");
        }
    }
    assert_eq!(h.output("echo fine", json!({})), "fine\n");
}

/// Kernel files and read-only mounts can't be written by the daemon's hand.
#[test]
fn what_is_read_only_is_not_put() {
    let e = Engine::shared();
    let dir = e.scratch();
    let (c, h) = host(e, json!({"Binds": [format!("{}:/ro:ro", dir.path().display())]}));
    let read = || inside(&c, "cat /proc/sys/kernel/domainname /proc/sys/kernel/shmmni /proc/self/oom_score_adj");
    let before = read();
    let (running, stopped) = (h.run(sleeper(json!({"Binds": ["/ro:/m", "/ro:/n:ro"]}))), h.create(sleeper(json!({"Binds": ["/ro:/m", "/ro:/n:ro"]}))));
    for (at, places) in [(&c, ["/ro", "/proc/sys/kernel", "/sys", "/proc/1"]), (&running, ["/m", "/n", "/proc/sys/kernel", "/proc/1"]), (&stopped, ["/m", "/n", "/m/.", "/n/../m"])]
    {
        for place in places {
            let body = Archive::new().file("domainname", 0o644, b"x").file("oom_score_adj", 0o644, b"-500").file("mem", 0o644, b"x").finish();
            let status = put(&h, &at.id, place, body);
            assert!(status >= 400, "{place} of {at}: {status}");
        }
    }
    assert_eq!(read(), before);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the machine's folder was written");
}

/// What is got comes from the container's own root, whatever its links say.
#[test]
fn what_is_got_is_the_containers_own() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("secret"), "for nobody's eyes").unwrap();
    let path = dir.path().display().to_string();
    let (c, h) = host(e, json!({}));
    let nested = h.run(sleeper(json!({})));
    let links = format!(
        "mkdir -p /l; ln -s ../../../../../../../..{path} /l/up; ln -s {path}/secret /l/abs; ln -s /proc/1/root{path} /l/magic; ln -s /proc/self/root{path} /l/self; ln -s /l/magic /l/twice"
    );
    inside(&c, &links);
    assert_eq!(nested.exec(&["sh", "-c", &links]).code, 0);
    let stopped = h.create(sleeper(json!({"Binds": ["/l:/l"]})));
    let ask = |at: &Container, method: &str, place: &str| raw(&h, format!("{method} /v1.51/containers/{at}/archive?path={place} HTTP/1.1\r\nHost: d\r\n\r\n").as_bytes());
    for at in [&nested, &stopped, &c] {
        for place in [
            "/l/up/secret",
            "/l/up/.",
            "/l/abs",
            "/l/abs/",
            "/l/magic/secret",
            "/l/self/secret",
            "/l/twice/secret",
            "/l/twice/.",
            "/l",
            &format!("{path}/secret"),
            &format!("/proc/self/root{path}/secret"),
        ] {
            let got = ask(at, "GET", place);
            assert!(!got.contains("nobody's"), "{place} of {at}");
            let head = ask(at, "HEAD", place);
            // The name of a link may be told, and of what is not there nothing.
            assert!(head.contains(" 404 ") || place.starts_with("/l"), "{place} of {at}: {head}");
        }
    }
    for name in ["kcore", "keys", "kmsg", "1/environ", "1/mem", "self/mem"] {
        let got = ask(&c, "GET", &format!("/proc/{name}"));
        assert!(got.len() < 4096, "/proc/{name}: {} bytes", got.len());
    }
}
