//! Images: import, list, inspect, tag, remove, commit, history, save and load, prune.

use droste_test_support::container::{idle, sh};
use droste_test_support::image::{Archive, BASE, Image, encode, rootfs};
use droste_test_support::{Container, Engine, Value, expect, json, t};

fn save(e: &Engine, names: &str) -> Vec<u8> {
    t!(e, GET "/images/get?names={names}", 200, "@Content-Type" == "application/x-tar").body
}

/// The files of an archive by path.
fn files(archive: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), data);
    }
    files
}

#[test]
fn import() {
    let e = Engine::shared();
    let repo = e.name("imported");
    let archive = rootfs().file("own", 0o644, repo.as_bytes()).finish();
    let changes = encode("ENV A=b")
        + "&changes="
        + &encode("CMD [\"cat\", \"/own\"]")
        + "&changes="
        + &encode("LABEL colour=red")
        + "&changes="
        + &encode("USER app")
        + "&changes="
        + &encode("WORKDIR /home")
        + "&changes="
        + &encode("EXPOSE 80")
        + "&changes="
        + &encode("VOLUME /data")
        + "&changes="
        + &encode("STOPSIGNAL SIGINT");
    let reply = e.request("POST", &format!("/images/create?fromSrc=-&repo={repo}&tag=v1&message=hello&changes={changes}")).bytes("application/x-tar", archive).send();
    expect!(reply, 200, "@Content-Type" == "application/json", ".status" matches "^sha256:[0-9a-f]{64}$");
    assert!(reply.text().ends_with("\r\n"), "{:?}", reply.text());
    let id = reply.json()["status"].clone();
    t!(e, GET "/images/{repo}:v1/json", 200, ".Id" == id, ".Comment" == "hello", ".Config.Env" == ["A=b"], ".Config.Cmd" == ["cat", "/own"], ".Config.Labels" == {"colour": "red"},
        ".Config.User" == "app", ".Config.WorkingDir" == "/home", ".Config.ExposedPorts" == {"80/tcp": {}}, ".Config.Volumes" == {"/data": {}}, ".Config.StopSignal" == "SIGINT");
    let reply = e.request("POST", "/images/create?fromSrc=-").bytes("application/x-tar", b"not an archive, not at all".to_vec()).send();
    assert!(reply.status >= 400 || reply.text().contains("error"), "{reply:?}");
    t!(e, DELETE "/images/{repo}:v1", 200);
}

#[test]
fn a_run_takes_the_images_config() {
    let e = Engine::shared();
    let image = Image::new(e, &["ENV A=b", "ENTRYPOINT [\"sh\", \"-c\", \"echo $A $0 $1; pwd; id -u\"]", "CMD [\"x\", \"y\"]", "USER app", "WORKDIR /home", "LABEL colour=red"]);
    assert_eq!(e.outcome(json!({"Image": image.name})).out, "b x y\n/home\n1000\n");
    assert_eq!(e.outcome(json!({"Image": image.name, "Cmd": ["z"]})).out, "b z\n/home\n1000\n");
    assert_eq!(e.outcome(json!({"Image": image.name, "Entrypoint": ["echo"]})).out, "\n", "an entrypoint drops the image's command");
    assert_eq!(e.outcome(json!({"Image": image.name, "Entrypoint": ["echo", "own"], "Cmd": ["c"]})).out, "own c\n");
    assert_eq!(e.outcome(json!({"Image": image.name, "Entrypoint": [""], "Cmd": ["echo", "none"]})).out, "none\n", "an empty word removes the image's entrypoint");
    assert_eq!(e.outcome(json!({"Image": image.name, "Env": ["A=c"], "User": "0", "WorkingDir": "/"})).out, "c x y\n/\n0\n");
    let c = e.create(json!({"Image": image.name, "Labels": {"shape": "round"}}));
    t!(e, GET "/containers/{c}/json", 200, ".Config.Labels" == {"colour": "red", "shape": "round"}, ".Config.Env" has "A=b", ".Image" == (image.id),
        ".Config.Image" == (image.name), ".Path" == "sh", ".Args" == ["-c", "echo $A $0 $1; pwd; id -u", "x", "y"]);
}

#[test]
fn names_of_images() {
    let e = Engine::shared();
    let image = Image::new(e, &[]);
    let (repo, id) = (image.repo.clone(), image.id.clone());
    let (bare, short) = (&id[7..], &id[7..19]);
    for name in [&repo, &format!("{repo}:latest"), &format!("docker.io/library/{repo}"), &format!("library/{repo}:latest"), &id, bare, short, &format!("sha256:{short}")] {
        t!(e, GET "/images/{name}/json", 200, ".Id" == id);
    }
    t!(e, GET "/images/nope/json", 404, ".message" == "No such image: nope:latest");
    t!(e, GET "/images/nope:v1/json", 404, ".message" == "No such image: nope:v1");
    t!(e, GET "/images/UPPER/json", 400 | 404, ".message" is string);
    t!(e, GET "/images/sha256:0000000000000000000000000000000000000000000000000000000000000000/json", 404);
}

#[test]
fn tag_and_remove() {
    let e = Engine::shared();
    let image = Image::new(e, &["CMD [\"true\"]"]);
    let (other, id) = (e.name("other"), image.id.clone());
    t!(e, POST "/images/{image}/tag?repo={other}&tag=v1", 201, "text" == "");
    t!(e, POST "/images/{image}/tag?repo={other}", 201);
    t!(e, POST "/images/{image}/tag?repo=docker.io/library/{other}&tag=v2", 201);
    let reply = t!(e, GET "/images/{id}/json", 200);
    let mut tags: Vec<_> = reply.json()["RepoTags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect();
    tags.sort();
    let mut wanted = vec![image.name.clone(), format!("{other}:latest"), format!("{other}:v1"), format!("{other}:v2")];
    wanted.sort();
    assert_eq!(tags, wanted);
    t!(e, POST "/images/nope/tag?repo=x", 404, ".message" == "No such image: nope:latest");
    t!(e, POST "/images/{image}/tag?repo=UPPER", 400, ".message" has "must be lowercase");
    t!(e, POST "/images/{image}/tag?repo={other}&tag=a%20b", 400, ".message" == "invalid tag format");
    t!(e, DELETE "/images/{other}:v1", 200, "." == [{"Untagged": (format!("{other}:v1"))}]);
    t!(e, DELETE "/images/{id}", 409, ".message" matches "must be forced.*multiple repositories|multiple repositories");
    t!(e, DELETE "/images/{other}", 200, "." == [{"Untagged": (format!("{other}:latest"))}]);
    t!(e, DELETE "/images/{other}:v2", 200);
    let c = e.create(json!({"Image": image.name}));
    t!(e, DELETE "/images/{image}", 409, ".message" has "container", ".message" has (c.id[..12]));
    drop(c);
    let c = e.run(json!({"Image": image.name, "Cmd": ["sleep", "1000"]}));
    t!(e, DELETE "/images/{id}?force=1", 409, ".message" has "cannot be forced", ".message" has (c.id[..12]));
    drop(c);
    let reply = t!(e, DELETE "/images/{image}", 200, ".0.Untagged" == (image.name), ".1.Deleted" == id);
    crate::typed::<Vec<bollard_stubs::models::ImageDeleteResponseItem>>(&reply);
    t!(e, DELETE "/images/{image}", 404, ".message" == (format!("No such image: {image}")));
}

#[test]
fn a_forced_removal_untags_what_a_container_uses() {
    let e = Engine::shared();
    let image = Image::new(e, &["CMD [\"true\"]"]);
    let c = e.create(json!({"Image": image.name}));
    t!(e, DELETE "/images/{image}?force=1", 200, ".0.Untagged" == (image.name));
    t!(e, GET "/containers/{c}/json", 200, ".Image" == (image.id));
    t!(e, POST "/containers/{c}/start", 204);
    assert_eq!(c.wait(), 0);
}

#[test]
fn list() {
    let e = Engine::shared();
    let label = e.name("label");
    let image = Image::new(e, &[&format!("LABEL {label}=v")]);
    let get = |filters: Value| {
        let list = e.get(&format!("/images/json?filters={}", encode(&filters.to_string())));
        list.as_array().unwrap().iter().map(|i| i["Id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let one = vec![image.id.clone()];
    assert_eq!(get(json!({"label": [label]})), one);
    assert_eq!(get(json!({"label": [format!("{label}=v")]})), one);
    assert_eq!(get(json!({"label": {format!("{label}=v"): true}})), one);
    assert_eq!(get(json!({"label": [format!("{label}=w")]})), Vec::<String>::new());
    assert_eq!(get(json!({"reference": [image.repo]})), one);
    assert_eq!(get(json!({"reference": [image.name]})), one);
    assert_eq!(get(json!({"reference": [format!("{}*", &image.repo[..image.repo.len() - 1])]})), one);
    assert_eq!(get(json!({"reference": [image.repo], "dangling": ["true"]})), Vec::<String>::new());
    assert_eq!(get(json!({"reference": [image.repo], "dangling": ["false"]})), one);
    assert_eq!(get(json!({"label": [label], "before": [image.name]})), Vec::<String>::new());
    let filters = encode(&json!({"label": [label]}).to_string());
    let reply = t!(e, GET "/images/json?filters={filters}", 200, ".0.RepoTags" == [(image.name)], ".0.RepoDigests" == [], ".0.ParentId" == "", ".0.Created" is positive,
        ".0.Size" is positive, ".0.SharedSize" == (-1), ".0.Containers" is number, ".0.Labels" is object);
    crate::typed::<Vec<bollard_stubs::models::ImageSummary>>(&reply);
    t!(e, GET "/images/json?shared-size=1&filters={filters}", 200, ".0.SharedSize" is number);
    let bad = encode(r#"{"nope":["x"]}"#);
    t!(e, GET "/images/json?filters={bad}", 400, ".message" == "invalid filter 'nope'");
}

#[test]
fn commit() {
    let e = Engine::shared();
    let c = e.run(sh("echo made > /home/made; rm /etc/marker"));
    c.wait();
    let repo = e.name("committed");
    let changes = encode("CMD [\"cat\", \"/home/made\"]");
    let reply = t!(e, POST "/commit?container={c}&repo={repo}&tag=v1&comment=why&author=me&changes={changes}" {}, 201, ".Id" matches "^sha256:[0-9a-f]{64}$");
    t!(e, GET "/images/{repo}:v1/json", 200, ".Id" == (reply.json()["Id"]), ".Comment" == "why", ".Author" == "me", ".Config.Cmd" == ["cat", "/home/made"]);
    assert_eq!(e.outcome(json!({"Image": format!("{repo}:v1")})).out, "made\n");
    assert_eq!(e.outcome(json!({"Image": format!("{repo}:v1"), "Cmd": ["ls", "/etc/marker"]})).code, 1);
    let history = t!(e, GET "/images/{repo}:v1/history", 200, ".0.Id" == (reply.json()["Id"]), ".0.Comment" == "why", ".0.Tags" == [(format!("{repo}:v1"))], ".0.Size" is positive,
        ".0.Created" is positive, ".0.CreatedBy" has "sh -c");
    assert_eq!(history.json().as_array().unwrap().len(), 2);
    crate::typed::<Vec<bollard_stubs::models::ImageHistoryResponseItem>>(&history);
    t!(e, GET "/images/nope/history", 404, ".message" == "No such image: nope:latest");
    t!(e, DELETE "/images/{repo}:v1", 200);
    let running = e.run(idle());
    let reply = t!(e, POST "/commit?container={running}" {"Cmd": ["true"], "Labels": {"a": "b"}}, 201);
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    t!(e, GET "/images/{id}/json", 200, ".RepoTags" == [], ".Config.Cmd" == ["true"], ".Config.Labels" == {"a": "b"});
    t!(e, GET "/containers/{running}/json", 200, ".State.Running" == true, ".State.Paused" == false);
    t!(e, DELETE "/images/{id}", 200, ".0.Deleted" == id);
    t!(e, POST "/commit?repo={repo}" {}, 400, ".message" == "invalid name or ID supplied: \"\"");
    t!(e, POST "/commit?repo={repo}&container=nope" {}, 404, ".message" == "No such container: nope");
}

#[test]
fn save_has_both_layouts() {
    let e = Engine::shared();
    let image = Image::new(e, &["CMD [\"true\"]"]);
    let name = image.name.clone();
    let files = files(&save(e, &name));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!([image.name]));
    let config = manifest[0]["Config"].as_str().unwrap();
    assert!(config.contains(&image.id[7..]), "{config}");
    assert!(files.contains_key(config));
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        assert!(files.contains_key(layer.as_str().unwrap()), "{layer}");
    }
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "latest");
    let layout: Value = serde_json::from_slice(&files["oci-layout"]).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    t!(e, GET "/images/nope/get", 404, ".message" has "No such image: nope");
}

#[test]
fn save_and_load_give_the_same_image() {
    let e = Engine::shared();
    let image = Image::new(e, &["CMD [\"cat\", \"/own\"]"]);
    let (name, id) = (image.name.clone(), image.id.clone());
    let archive = t!(e, GET "/images/{name}/get", 200, "@Content-Type" == "application/x-tar").body;
    t!(e, DELETE "/images/{name}", 200);
    t!(e, GET "/images/{name}/json", 404);
    let reply = e.request("POST", "/images/load").bytes("application/x-tar", archive.clone()).send();
    expect!(reply, 200, "@Content-Type" == "application/json");
    let last = reply.json_lines().pop().unwrap();
    assert_eq!(last, json!({"stream": format!("Loaded image: {name}\n")}));
    t!(e, GET "/images/{name}/json", 200, ".Id" == id, ".RepoTags" == [name]);
    assert_eq!(e.outcome(json!({"Image": name})).out, image.repo);
    let reply = e.request("POST", "/images/load?quiet=1").bytes("application/x-tar", archive).send();
    assert_eq!(reply.json_lines(), [json!({"stream": format!("Loaded image: {name}\n")})]);
}

#[test]
fn save_several() {
    let e = Engine::shared();
    let (one, two) = (Image::new(e, &[]), Image::new(e, &[]));
    let files = files(&save(e, &format!("{}&names={}", one.name, two.name)));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let mut tags: Vec<_> = manifest.as_array().unwrap().iter().map(|m| m["RepoTags"][0].as_str().unwrap().to_owned()).collect();
    tags.sort();
    let mut wanted = vec![one.name.clone(), two.name.clone()];
    wanted.sort();
    assert_eq!(tags, wanted);
}

#[test]
fn load_of_a_broken_archive() {
    let e = Engine::shared();
    let load = |bytes: Vec<u8>| e.request("POST", "/images/load").bytes("application/x-tar", bytes).send();
    let refused = |reply: droste_test_support::Reply| assert!(reply.status >= 400 || reply.text().contains("\"error\""), "{reply:?}");
    refused(load(Archive::new().file("readme", 0o644, b"nothing here").finish()));
    refused(load(Archive::new().file("manifest.json", 0o644, b"[{\"Config\":\"nope.json\",\"RepoTags\":[\"x:y\"],\"Layers\":[]}]").finish()));
    refused(load(Archive::new().file("manifest.json", 0o644, b"{").finish()));
    refused(load(b"garbage ".repeat(200)));
}

#[test]
fn pull_errors() {
    let e = Engine::shared();
    t!(e, POST "/images/create?fromImage=127.0.0.1:1/x&tag=y", 500, ".message" has "127.0.0.1:1");
    t!(e, POST "/images/create?fromImage=UPPER&tag=y", 400, ".message" has "must be lowercase");
    t!(e, POST "/images/create?fromImage=a&tag=b%20c", 400, ".message" == "invalid tag format");
    t!(e, GET "/distribution/127.0.0.1:1%2Fx/json", 500 | 404);
}

#[test]
fn prune_dangling() {
    let e = Engine::shared();
    let label = e.name("prune");
    let image = Image::new(e, &[&format!("LABEL {label}=v")]);
    let filters = encode(&json!({"label": [label]}).to_string());
    t!(e, POST "/images/prune?filters={filters}", 200, ".ImagesDeleted" == null, ".SpaceReclaimed" == 0);
    let filters = encode(&json!({"label": [label], "dangling": ["false"]}).to_string());
    let reply = t!(e, POST "/images/prune?filters={filters}", 200, ".ImagesDeleted.0.Untagged" == (image.name), ".SpaceReclaimed" is positive);
    crate::typed::<bollard_stubs::models::ImagePruneResponse>(&reply);
    t!(e, GET "/images/{image}/json", 404);
}

#[test]
fn the_base_image_stays() {
    let e = Engine::shared();
    let c = Container::adopt(e, &e.create(sh("true")).id.clone());
    t!(e, GET "/images/{BASE}/json", 200, ".Architecture" == "amd64", ".Os" == "linux", ".RootFS.Type" == "layers");
    drop(c);
}
