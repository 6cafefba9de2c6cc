//! Where images come from besides archives in requests: URLs, and all tags of a repository.

use droste_test_support::image::Archive;
use droste_test_support::server::{MANIFEST, Server, digest};
use droste_test_support::{Engine, Value, json, t};

fn lines(reply: &droste_test_support::Reply) -> Vec<Value> {
    let mut lines = reply.json_lines();
    // How often it is told how far things are depends on the network's mood.
    lines.retain(|line| line["id"].is_null() && line["progressDetail"]["current"].is_null() || is_pulling(line));
    lines
}

fn is_pulling(line: &Value) -> bool {
    line["status"].as_str().is_some_and(|status| status.starts_with("Pulling from"))
}

#[test]
fn a_root_is_imported_from_a_url() {
    let e = Engine::shared();
    let server = Server::start(e, 0);
    let (port, repo) = (server.port, e.name("url"));
    server.on("/root.tar", "200 OK", "", &Archive::new().file("which", 0o644, b"url\n").finish());
    server.on("/moved", "302 Found", "Location: /root.tar\r\n", b"");
    server.on("/broken", "200 OK", "", b"this is no archive at all");
    for (tag, source) in [("v1", format!("http://127.0.0.1:{port}/root.tar")), ("v2", format!("http://127.0.0.1:{port}/moved"))] {
        let target = format!("/images/create?fromSrc={source}&repo={repo}&tag={tag}&changes=CMD%20%5B%22cat%22%5D");
        let lines = lines(&e.request("POST", &target).send());
        assert_eq!(lines[0], json!({"status": format!("Downloading from {source}")}));
        let id = lines[1]["status"].clone();
        t!(e, GET "/images/{repo}:{tag}/json", 200, ".Id" == (id), ".Comment" == (format!("Imported from {source}")), ".Config.Cmd" == ["cat"]);
    }
    // Without a scheme it is http.
    let bare = e.request("POST", &format!("/images/create?fromSrc=127.0.0.1:{port}/root.tar&message=hello&repo={repo}&tag=v3")).send();
    assert_eq!(lines(&bare)[0], json!({"status": format!("Downloading from http://127.0.0.1:{port}/root.tar")}));
    t!(e, GET "/images/{repo}:v3/json", 200, ".Comment" == "hello");
    t!(e, POST "/images/create?fromSrc=http://127.0.0.1:{port}/none&repo={repo}&tag=v4", 404,
        ".message" has (format!("failed to GET http://127.0.0.1:{port}/none with status 404 Not Found")));
    t!(e, POST "/images/create?fromSrc=ftp://127.0.0.1/none&repo={repo}&tag=v4", 500,
        ".message" == "Get \"ftp://127.0.0.1/none\": unsupported protocol scheme \"ftp\"");
    t!(e, POST "/images/create?fromSrc=http://127.0.0.1:1/none&repo={repo}&tag=v4", 500,
        ".message" == "Get \"http://127.0.0.1:1/none\": dial tcp 127.0.0.1:1: connect: connection refused");
    let broken = e.request("POST", &format!("/images/create?fromSrc=http://127.0.0.1:{port}/broken&repo={repo}&tag=v4")).send();
    assert!(broken.json_lines().last().unwrap()["error"].is_string(), "{}", broken.text());
    t!(e, GET "/images/{repo}:v4/json", 404);
    for tag in ["v1", "v2", "v3"] {
        t!(e, DELETE "/images/{repo}:{tag}", 200);
    }
}

#[test]
fn a_name_without_a_tag_pulls_all_tags() {
    let e = Engine::shared();
    let server = Server::start(e, 0);
    let name = format!("127.0.0.1:{}/{}", server.port, e.name("all"));
    let path = name.split_once('/').unwrap().1;
    for tag in ["one", "two"] {
        let layer = Archive::new().file("which", 0o644, tag.as_bytes()).finish();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"tag": tag}},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
        let config = config.to_string().into_bytes();
        let item = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": item("application/vnd.docker.container.image.v1+json", &config),
            "layers": [item("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)]});
        let manifest = manifest.to_string().into_bytes();
        server.parts([
            (format!("/v2/{path}/manifests/{}", digest(&manifest)), manifest.clone()),
            (format!("/v2/{path}/manifests/{tag}"), manifest),
            (format!("/v2/{path}/blobs/{}", digest(&config)), config),
            (format!("/v2/{path}/blobs/{}", digest(&layer)), layer),
        ]);
    }
    server.on("/v2/", "200 OK", "", b"{}");
    let second = format!("Link: </v2/{path}/tags/list?last=one>; rel=\"next\"\r\n");
    server.on(&format!("/v2/{path}/tags/list"), "200 OK", &second, json!({"name": path, "tags": ["one"]}).to_string().as_bytes());
    server.on(&format!("/v2/{path}/tags/list?last=one"), "200 OK", "", json!({"name": path, "tags": ["two"]}).to_string().as_bytes());

    let said = |reply: droste_test_support::Reply| -> Vec<String> {
        lines(&reply).iter().map(|line| line["status"].as_str().unwrap_or_default().split("sha256").next().unwrap().to_owned()).collect()
    };
    let from = format!("Pulling from {path}");
    let first = said(e.request("POST", &format!("/images/create?fromImage={name}")).send());
    assert_eq!(first, [&from, "Digest: ", &from, "Digest: ", &format!("Status: Downloaded newer image for {name}")]);
    for tag in ["one", "two"] {
        t!(e, GET "/images/{name}:{tag}/json", 200, ".Config.Labels.tag" == (tag));
    }
    let again = said(e.request("POST", &format!("/images/create?fromImage={name}")).send());
    assert_eq!(again.last().unwrap(), &format!("Status: Image is up to date for {name}"));
    let unknown = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
    server.on(&format!("/v2/{path}-none/tags/list"), "404 Not Found", "Content-Type: application/json\r\n", unknown);
    t!(e, POST "/images/create?fromImage={name}-none", 404,
        ".message" has "name unknown");
    for tag in ["one", "two"] {
        t!(e, DELETE "/images/{name}:{tag}", 200);
    }
}
