//! Knowing the digest of what the store has is not having it: not by an archive, not by a registry of one's own.

use std::sync::Arc;

use droste_image::registry::{PullOptions, RegistryError};
use droste_image::{Error, Image, LoadOptions, Possession, Store, digest_of, load, save};
use tempfile::TempDir;

use crate::misbehaving::{Answer, Fake, MANIFEST, config, registry};
use crate::support::*;

/// Somebody's image in the shared store, and the plain tar of its layer.
fn private(store: &Store) -> (Image, Vec<u8>) {
    let layer = tar(&[Item::file("secret", "nobody else's")]);
    (image_of(store, &layer).unwrap(), layer)
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", digest_of(bytes).hex())
}

/// An archive that names a configuration and a layer, with this under the layer's name.
fn archive(image: &Image, layer: &[u8], shown: Option<&[u8]>) -> Vec<u8> {
    let raw = image.raw_config().unwrap();
    let (config, name) = (blob(&raw), blob(layer));
    let manifest = format!(r#"[{{"Config":"{config}","RepoTags":["mine:1"],"Layers":["{name}"]}}]"#);
    let mut items = vec![Item::file("manifest.json", &manifest), Item::bytes(&config, &raw)];
    items.extend(shown.map(|shown| Item::bytes(&name, shown)));
    tar(&items)
}

fn load_it(store: &Store, archive: &[u8]) -> Result<Image, Error> {
    load(store, archive, &LoadOptions::default(), &silent).map(|mut loaded| loaded.remove(0).image)
}

#[test]
fn an_archive_must_carry_the_layers_that_it_names() {
    let (_directory, store) = store();
    let (image, layer) = private(&store);
    let missing = load_it(&store, &archive(&image, &layer, None)).unwrap_err();
    assert!(missing.to_string().contains("is missing"), "{missing}");
    for shown in [&b""[..], b"x", &layer[..layer.len() - 512], &[layer.clone(), vec![0; 512]].concat()] {
        let wrong = load_it(&store, &archive(&image, &layer, Some(shown))).unwrap_err();
        assert!(matches!(wrong, Error::WrongDigest { .. }), "{wrong}");
    }
    let mine = load_it(&store, &archive(&image, &layer, Some(&layer))).unwrap();
    assert_eq!((mine.id(), store.layers().len()), (image.id(), 2));
}

#[test]
fn an_archive_may_name_one_layer_for_several_images() {
    let (_directory, store) = store();
    let (image, _) = private(&store);
    let work = TempDir::new().unwrap();
    let overlay = store.prepare_root(Some(&image), work.path()).unwrap();
    std::fs::write(overlay.upper.join("more"), "x").unwrap();
    let above = droste_image::commit(&store, Some(&image), &overlay.upper, &Default::default()).unwrap();
    let mut both = Vec::new();
    save(&[(image, vec![]), (above, vec![])], &mut both).unwrap();
    for _known_or_new in 0..2 {
        let loaded = load(&store, both.as_slice(), &LoadOptions::default(), &silent).unwrap();
        assert_eq!(loaded.len(), 2);
        drop(loaded);
        store.collect([]).unwrap();
    }
}

async fn pull(store: &Store, fake: &Fake, possession: Possession) -> Result<Image, RegistryError> {
    let options = PullOptions { possession, ..PullOptions::default() };
    let pulled = registry().pull(store, &fake.reference("1"), &options, Arc::new(|_| {})).await;
    pulled.map(|pulled| pulled.image)
}

fn asked_for(fake: &Fake, path: &str) -> bool {
    fake.requests.lock().unwrap().iter().any(|request| request.starts_with(&format!("GET {path} ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_ones_own_must_give_the_layers_that_it_names() {
    let (_directory, store) = store();
    let (_image, layer) = private(&store);
    let fake = Fake::start();
    let parts = fake.image("1", &layer);
    fake.on(&parts.layer, Answer::Status(404, "", String::new()));
    let error = pull(&store, &fake, Possession::default()).await.unwrap_err();
    assert!(asked_for(&fake, &parts.layer), "{error}");
    // Other bytes under the name that the manifest gives to the layer.
    let (manifest, nothing) = fake.parts(&gzip(b""), gzip(b"").len(), &config(digest_of(&layer), "amd64"));
    fake.on("/v2/app/manifests/1", Answer::Content(MANIFEST, manifest));
    assert_eq!(nothing.packed, gzip(b""));
    let error = pull(&store, &fake, Possession::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
    // The bytes themselves.
    fake.image("1", &layer);
    pull(&store, &fake, Possession::default()).await.unwrap();
    assert_eq!(store.layers().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_of_a_configuration_gives_no_image() {
    let (_directory, store) = store();
    let fake = Fake::start();
    let parts = fake.image("1", &tar(&[Item::file("secret", "x")]));
    let image = pull(&store, &fake, Possession::default()).await.unwrap();
    fake.on(&parts.config, Answer::Status(404, "", String::new()));
    let error = pull(&store, &fake, Possession::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Server { status: 404, .. }), "{error}");
    let before = fake.requests.lock().unwrap().len();
    assert_eq!(pull(&store, &fake, Possession::of([image.id()], [])).await.unwrap().id(), image.id());
    assert_eq!(pull(&store, &fake, Possession::everything()).await.unwrap().id(), image.id());
    let after = fake.requests.lock().unwrap()[before..].join("\n");
    assert!(!after.contains("/blobs/"), "what one has is not fetched: {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_was_told_of_a_layer_is_no_proof() {
    let (_directory, store) = store();
    let (image, layer) = private(&store);
    let fake = Fake::start();
    // The owner pulls an image that says of a layer of theirs that it has another form; they have it, so none is fetched.
    let bogus = gzip(&tar(&[Item::file("bogus", "")]));
    let (manifest, parts) = fake.parts(&bogus, bogus.len(), &config(digest_of(&layer), "amd64"));
    fake.on("/v2/app/manifests/1", Answer::Content(MANIFEST, manifest));
    pull(&store, &fake, Possession::of([image.id()], [])).await.unwrap();
    assert!(!asked_for(&fake, &parts.layer));
    // Whoever comes with those bytes has shown nothing.
    let error = pull(&store, &fake, Possession::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
}
