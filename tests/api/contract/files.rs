//! Archive, changes and export: files of containers that run and that don't.

use base64::Engine as _;
use droste_test_support::container::{idle, sh, sh_with};
use droste_test_support::image::{Archive, encode};
use droste_test_support::{Container, Engine, Reply, Value, expect, json, t};

fn stat(reply: &Reply) -> Value {
    let header = reply.header("X-Docker-Container-Path-Stat").unwrap_or_else(|| panic!("{reply:?}"));
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(header).unwrap()).unwrap()
}

fn head(e: &Engine, c: &Container, path: &str) -> Value {
    stat(&t!(e, HEAD "/containers/{c}/archive?path={path}", 200))
}

/// Paths and sizes in an archive.
fn entries(archive: &[u8]) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().unwrap().map(|entry| entry.unwrap()).map(|entry| (entry.path().unwrap().display().to_string(), entry.size())).collect()
}

fn put(e: &Engine, c: &Container, query: &str, archive: Vec<u8>) -> Reply {
    e.request("PUT", &format!("/containers/{c}/archive?{query}")).bytes("application/x-tar", archive).send()
}

#[test]
fn an_archive_that_fails_at_once_is_answered() {
    let e = Engine::shared();
    if e.not_on_docker("its archives do not have a running container's /proc") {
        return;
    }
    let c = e.run(idle());
    t!(e, HEAD "/containers/{c}/archive?path=/proc/1/mem", 200);
    t!(e, GET "/containers/{c}/archive?path=/proc/1/mem", 400, ".message" has "pack mem: ");
}

#[test]
fn archive_stat() {
    let e = Engine::shared();
    for c in [e.create(sh("true")), e.run(idle())] {
        let file = head(e, &c, "/etc/marker");
        assert_eq!((&file["name"], &file["size"], &file["mode"], &file["linkTarget"]), (&json!("marker"), &json!(5), &json!(0o644), &json!("")));
        assert!(file["mtime"].as_str().unwrap().starts_with("2023-11-14T22:13:20"), "{file}");
        assert_eq!(head(e, &c, "/tmp")["mode"], json!((1_u32 << 31) | (1 << 20) | 0o777), "a directory with the sticky bit, as Go has it");
        let link = head(e, &c, "/bin/sh");
        assert_eq!((&link["name"], &link["linkTarget"]), (&json!("sh"), &json!("/bin/busybox")));
        assert_eq!(link["mode"], json!((1_u32 << 27) | 0o777), "a symbolic link, as Go has it");
        assert_eq!(head(e, &c, "etc/marker")["name"], "marker", "a relative path begins at the root");
        assert_eq!(head(e, &c, "/")["name"], "/");
        t!(e, HEAD "/containers/{c}/archive?path=/nope", 404);
        t!(e, HEAD "/containers/{c}/archive", 400);
    }
}

#[test]
fn archive_get() {
    let e = Engine::shared();
    for c in [e.create(sh("true")), e.run(idle())] {
        let reply = t!(e, GET "/containers/{c}/archive?path=/etc/marker", 200, "@Content-Type" == "application/x-tar");
        assert_eq!(entries(&reply.body), [("marker".to_owned(), 5)]);
        assert_eq!(stat(&reply)["name"], "marker");
        let reply = t!(e, GET "/containers/{c}/archive?path=/home", 200);
        let names: Vec<_> = entries(&reply.body).into_iter().map(|entry| entry.0).collect();
        assert_eq!(names, ["home/", "home/app/", "home/app/notes"]);
        let reply = t!(e, GET "/containers/{c}/archive?path=/home/.", 200);
        assert!(entries(&reply.body).iter().any(|entry| entry.0 == "./app/notes" || entry.0 == "app/notes"), "{:?}", entries(&reply.body));
        t!(e, GET "/containers/{c}/archive?path=/nope", 404, ".message" == (format!("Could not find the file /nope in container {c}")));
        t!(e, GET "/containers/{c}/archive", 400, ".message" matches "^bad parameter: path ?cannot be empty$");
    }
}

#[test]
fn archive_put() {
    let e = Engine::shared();
    for c in [e.create(sh("cat /tmp/in; cat /tmp/d/in; stat -c '%u:%a' /tmp/in")), e.run(idle())] {
        let archive = || Archive::new().owned_file("in", 0o640, 7, b"hello\n").dir("d", 0o755, 0).file("d/in", 0o644, b"deep\n").finish();
        expect!(put(e, &c, "path=/tmp", archive()), 200, "text" == "");
        let reply = t!(e, GET "/containers/{c}/archive?path=/tmp/d/in", 200);
        assert_eq!(entries(&reply.body), [("in".to_owned(), 5)]);
        expect!(put(e, &c, "path=/nope", archive()), 404, ".message" == (format!("Could not find the file /nope in container {c}")));
        expect!(put(e, &c, "path=/etc/marker", archive()), 400, ".message" has "not a directory");
        expect!(put(e, &c, "", archive()), 400, ".message" matches "^bad parameter: path ?cannot be empty$");
        expect!(put(e, &c, "path=/tmp", b"this is no archive at all".to_vec()), 400 | 500, ".message" is string);
        let clash = || Archive::new().file("d", 0o644, b"a file now\n").finish();
        expect!(put(e, &c, "path=/tmp&noOverwriteDirNonDir=1", clash()), 400 | 500, ".message" has "cannot overwrite directory");
    }
    let c = e.create(sh("cat /tmp/in; stat -c '%u:%a' /tmp/in"));
    expect!(put(e, &c, "path=/tmp", Archive::new().owned_file("in", 0o640, 7, b"hello\n").finish()), 200);
    c.start();
    c.wait();
    assert_eq!(c.logs().0, "hello\n7:640\n");
}

#[test]
fn archive_put_compressed() {
    let e = Engine::shared();
    let c = e.run(idle());
    let dir = e.scratch();
    let path = dir.path().join("a.tar");
    std::fs::write(&path, Archive::new().file("packed", 0o644, b"gz\n").finish()).unwrap();
    assert!(std::process::Command::new("gzip").arg(&path).status().unwrap().success());
    let packed = std::fs::read(dir.path().join("a.tar.gz")).unwrap();
    expect!(put(e, &c, "path=/tmp", packed), 200);
    assert_eq!(c.exec(&["cat", "/tmp/packed"]).out, "gz\n");
}

#[test]
fn archive_respects_read_only() {
    let e = Engine::shared();
    let c = e.run(sh_with("sleep 1000", json!({"ReadonlyRootfs": true, "Binds": ["/tmp:/mnt:ro"]})));
    let archive = || Archive::new().file("x", 0o644, b"x").finish();
    expect!(put(e, &c, "path=/home", archive()), 400 | 403, ".message" == "container rootfs is marked read-only");
    expect!(put(e, &c, "path=/mnt", archive()), 400 | 403, ".message" == "mounted volume is marked read-only");
}

#[test]
fn archive_follows_links_inside_the_container() {
    let e = Engine::shared();
    let c = e.run(sh("ln -s / /tmp/root; ln -s ../../../../etc /tmp/up; ln -s /etc/marker /tmp/m; echo done; sleep 1000"));
    c.await_log("done");
    let reply = t!(e, GET "/containers/{c}/archive?path=/tmp/root/etc/marker", 200);
    assert_eq!(entries(&reply.body), [("marker".to_owned(), 5)]);
    let reply = t!(e, GET "/containers/{c}/archive?path=/tmp/up/marker", 200);
    assert_eq!(entries(&reply.body), [("marker".to_owned(), 5)]);
    assert_eq!(head(e, &c, "/tmp/m")["linkTarget"], "/etc/marker");
    expect!(put(e, &c, "path=/tmp/up", Archive::new().file("via-link", 0o644, b"here\n").finish()), 200);
    assert_eq!(c.exec(&["cat", "/etc/via-link"]).out, "here\n");
    assert!(!std::path::Path::new("/etc/via-link").exists());
}

#[test]
fn archive_sees_binds() {
    let e = Engine::shared();
    let dir = e.scratch();
    std::fs::write(dir.path().join("f"), "bound").unwrap();
    let bind = format!("{}:/mnt", dir.path().display());
    for c in [e.create(sh_with("true", json!({"Binds": [bind]}))), e.run(sh_with("sleep 1000", json!({"Binds": [bind]})))] {
        let reply = t!(e, GET "/containers/{c}/archive?path=/mnt/f", 200);
        assert_eq!(entries(&reply.body), [("f".to_owned(), 5)]);
    }
}

#[test]
fn changes() {
    let e = Engine::shared();
    let c = e.create(sh("true"));
    t!(e, GET "/containers/{c}/changes", 200, "." == null);
    let c = e.run(sh("echo x > /home/new; mkdir /var/made; rm /etc/marker; echo more >> /home/app/notes; ln -s a /var/made/l"));
    c.wait();
    let reply = t!(e, GET "/containers/{c}/changes", 200);
    let mut seen: Vec<_> = reply.json().as_array().unwrap().iter().map(|c| (c["Path"].as_str().unwrap().to_owned(), c["Kind"].as_u64().unwrap())).collect();
    seen.sort();
    let wanted = [("/etc", 0), ("/etc/marker", 2), ("/home", 0), ("/home/app", 0), ("/home/app/notes", 0), ("/home/new", 1), ("/var", 0), ("/var/made", 1), ("/var/made/l", 1)];
    assert_eq!(seen, wanted.map(|(path, kind)| (path.to_owned(), kind)));
    crate::typed::<Vec<bollard_stubs::models::FilesystemChange>>(&reply);
}

#[test]
fn export() {
    let e = Engine::shared();
    let c = e.run(sh("echo x > /home/new; rm /etc/marker"));
    c.wait();
    let reply = t!(e, GET "/containers/{c}/export", 200, "@Content-Type" == "application/octet-stream");
    let names: Vec<_> = entries(&reply.body).into_iter().map(|entry| entry.0).collect();
    for there in ["bin/busybox", "home/new", "home/app/notes", "etc/passwd"] {
        assert!(names.iter().any(|name| name == there), "{there}");
    }
    assert!(!names.iter().any(|name| name == "etc/marker"));
    let path = encode("/proc/self");
    let running = e.run(idle());
    t!(e, HEAD "/containers/{running}/archive?path={path}", 200 | 404);
    t!(e, GET "/containers/{running}/export", 200);
}
