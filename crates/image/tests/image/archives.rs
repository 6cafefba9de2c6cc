//! Image archives: what is saved can be loaded, by us in every format in use, and the bytes never change.

use droste_image::{Image, LoadOptions, Loaded, MakeOptions, Progress, Store, commit, digest_of, load, save};
use droste_model::platform::Platform;
use tempfile::TempDir;

use crate::support::*;

fn two_layers(store: &Store) -> Image {
    let work = TempDir::new().unwrap();
    let base = image_of(store, &tar(&[Item::directory("d"), Item::file("d/a", "one")])).unwrap();
    let overlay = store.prepare_root(Some(&base), work.path()).unwrap();
    std::fs::create_dir(overlay.upper.join("d")).unwrap();
    std::fs::write(overlay.upper.join("d/b"), "two").unwrap();
    commit(store, Some(&base), &overlay.upper, &MakeOptions::default()).unwrap()
}

fn loaded(store: &Store, archive: &[u8]) -> Vec<Loaded> {
    load(store, archive, &LoadOptions::default(), &silent).unwrap()
}

fn familiar(loaded: &Loaded) -> Vec<String> {
    loaded.references.iter().map(|reference| reference.familiar()).collect()
}

#[test]
fn saved_images_are_the_same_in_another_store() {
    let (_first, from) = store();
    let (_second, to) = store();
    let image = two_layers(&from);
    let tags = vec!["app:1".parse().unwrap(), "host.example:5000/app:2".parse().unwrap()];
    let other = image_of(&from, &tar(&[Item::file("x", "y")])).unwrap();
    let mut archive = Vec::new();
    save(&[(image.clone(), tags.clone()), (other.clone(), vec![])], &mut archive).unwrap();
    let mut again = Vec::new();
    save(&[(image.clone(), tags), (other.clone(), vec![])], &mut again).unwrap();
    assert!(archive == again, "saving is deterministic");

    let back = loaded(&to, &archive);
    assert_eq!(back.iter().map(|one| one.image.id()).collect::<Vec<_>>(), [image.id(), other.id()]);
    assert_eq!(familiar(&back[0]), ["app:1", "host.example:5000/app:2"]);
    assert_eq!((back[1].references.len(), back[0].image.raw_config().unwrap()), (0, image.raw_config().unwrap()));
    assert_eq!((back[0].image.size(), back[0].image.layers()), (image.size(), image.layers()));
    let mut third = Vec::new();
    save(&[(back[0].image.clone(), back[0].references.clone()), (back[1].image.clone(), vec![])], &mut third).unwrap();
    assert!(archive == third, "what was loaded is saved as the same bytes");

    // The same archive again, also compressed, adds nothing.
    let layers = to.layers().len();
    assert_eq!(loaded(&to, &gzip(&archive))[0].image.id(), image.id());
    assert_eq!(to.layers().len(), layers);
}

#[test]
fn the_archive_has_both_of_dockers_formats() {
    let (_directory, store) = store();
    let image = two_layers(&store);
    let mut archive = Vec::new();
    save(&[(image.clone(), vec!["app:1".parse().unwrap()])], &mut archive).unwrap();
    let names = names(&archive);
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 4..], ["index.json", "manifest.json", "oci-layout", "repositories"]);
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&content(&archive, name)).unwrap();
    let saved = json("manifest.json");
    assert_eq!(saved[0]["RepoTags"], serde_json::json!(["app:1"]));
    assert_eq!(saved[0]["Config"], format!("blobs/sha256/{}", image.id().hex()));
    let index = json("index.json");
    let notes = &index["manifests"][0]["annotations"];
    assert_eq!(notes["io.containerd.image.name"], "docker.io/library/app:1");
    assert_eq!(notes["org.opencontainers.image.ref.name"], "1");
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let manifest = json(&manifest);
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = content(&archive, &layer["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/"));
        assert_eq!(layer["size"], blob.len());
        assert_eq!(layer["digest"], digest_of(&blob).to_string());
    }
    assert_eq!(json("repositories")["app"]["1"], image.layers()[1].hex());
}

#[test]
fn old_archives_with_links_are_loaded() {
    let (_directory, store) = store();
    let layer = tar(&[Item::file("a", "x")]);
    let diff_id = digest_of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":null,"history":null,"rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    let archive = tar(&[
        Item::directory("one/"),
        Item::file("one/VERSION", "1.0"),
        Item::file("one/json", "{}"),
        Item::bytes("one/layer.tar", &layer),
        Item::symlink("two/layer.tar", "../one/layer.tar"),
        Item::file("c.json", &config),
        Item::file(
            "manifest.json",
            r#"[{"Config":"c.json","RepoTags":null,"Layers":["one/layer.tar","two/layer.tar"]}]"#,
        ),
        Item::file("repositories", "{}"),
    ]);
    let back = loaded(&store, &archive);
    assert_eq!((back[0].image.layers(), familiar(&back[0]).len()), ([diff_id, diff_id].as_slice(), 0));
    // The same layer twice is mounted once.
    let scratch = TempDir::new().unwrap();
    assert_eq!(store.prepare_root(Some(&back[0].image), scratch.path()).unwrap().lower.len(), 1);
}

/// An OCI layout whose one tag is an index of two platforms and an attestation.
fn multi_platform() -> (Vec<u8>, [String; 2]) {
    let mut items = vec![Item::file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)];
    let mut blob = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        items.push(Item::bytes(&format!("blobs/sha256/{}", digest.hex()), bytes));
        (digest.to_string(), bytes.len())
    };
    let mut ids = Vec::new();
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let layer = tar(&[Item::file("arch", architecture)]);
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest_of(&layer)
        );
        let (layer, layer_size) = blob(&gzip(&layer));
        let (config, config_size) = blob(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{layer_size}}}]}}"#
        );
        let (manifest, size) = blob(manifest.as_bytes());
        entries.push(format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{size},"platform":{{"architecture":"{architecture}","os":"linux"}}}}"#
        ));
        ids.push(config);
    }
    entries.push(format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":5,"platform":{{"architecture":"unknown","os":"unknown"}}}}"#,
        "f".repeat(64)
    ));
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entries.join(",")
    );
    let (index, size) = blob(index.as_bytes());
    let top = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{index}","size":{size},"annotations":{{"io.containerd.image.name":"docker.io/library/multi:1"}}}}]}}"#
    );
    items.push(Item::file("index.json", &top));
    (tar(&items), [ids.remove(0), ids.remove(0)])
}

#[test]
fn an_oci_layout_gives_the_platform_that_is_asked_for() {
    let (archive, ids) = multi_platform();
    for (platform, id) in [("linux/amd64", &ids[0]), ("linux/arm64", &ids[1])] {
        let (_directory, store) = store();
        let options = LoadOptions { platform: Some(platform.parse().unwrap()), ..LoadOptions::default() };
        let back = load(&store, archive.as_slice(), &options, &silent).unwrap();
        assert_eq!((back[0].image.id().to_string(), back.len()), (id.clone(), 1));
        assert_eq!(familiar(&back[0]), ["multi:1"]);
        // The other platform's layer was in the archive and is not kept.
        assert_eq!(store.layers().len(), 2);
    }
    let (directory, store) = store();
    let options = LoadOptions { platform: Some("linux/s390x".parse::<Platform>().unwrap()), ..LoadOptions::default() };
    let error = load(&store, archive.as_slice(), &options, &silent).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    assert!(leftovers(directory.path()).is_empty());
}

#[test]
fn loading_tells_how_far_it_is() {
    let (_first, from) = store();
    let (_second, to) = store();
    let image = image_of(&from, &tar(&[Item::bytes("big", &vec![7; 3 << 20])])).unwrap();
    let mut archive = Vec::new();
    save(&[(image.clone(), vec![])], &mut archive).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let sink = |progress: Progress| seen.lock().unwrap().push(progress);
    load(&to, archive.as_slice(), &LoadOptions::default(), &sink).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|one| one.status == "Loading layer" && one.id == image.layers()[0].short()));
    let bytes: Vec<(u64, u64)> = seen.iter().filter_map(|one| one.bytes).collect();
    assert!(bytes.len() > 3 && bytes.is_sorted(), "{bytes:?}");
    assert_eq!(bytes.last().map(|last| last.0), bytes.last().map(|last| last.1));
}
