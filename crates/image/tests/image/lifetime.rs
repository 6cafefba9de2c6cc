//! What an interrupted process leaves, and what a collection may take.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use droste_image::{Error, Store};

use crate::support::*;

#[test]
fn half_made_things_are_gone_when_the_store_is_opened() {
    let (directory, store) = store();
    let kept = image_of(&store, &tar(&[Item::file("kept", "x")])).unwrap();
    let torn = image_of(&store, &tar(&[Item::file("torn", "x")])).unwrap();
    let (kept_id, torn_id) = (kept.id(), torn.id());
    let torn_layer = top_layer(&store, &torn);
    drop((kept, torn, store));
    let root = directory.path().join("images");
    // As if killed: in the middle of an unpack, of a rename, of a removal.
    std::fs::create_dir_all(root.join("unfinished/7/fs/deep/tree")).unwrap();
    std::fs::write(root.join("unfinished/8"), "half a blob").unwrap();
    std::fs::create_dir_all(root.join("layers/99/fs")).unwrap();
    std::fs::remove_dir_all(torn_layer.parent().unwrap()).unwrap();
    std::fs::write(root.join("images").join(format!("{}.json", "0".repeat(64))), "{\"lay").unwrap();
    std::fs::write(root.join("blobs/sha256").join("1".repeat(64)), "no image has it").unwrap();

    let store = Store::open(&root).unwrap();
    assert_eq!(store.images(), [kept_id]);
    assert!(matches!(store.image(torn_id), Err(Error::NoSuchImage(_))));
    assert!(leftovers(directory.path()).is_empty());
    assert!(!root.join("layers/99").exists());
    assert_eq!(std::fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(root.join("images")).unwrap().count(), 1);
    let image = store.image(kept_id).unwrap();
    assert!(top_layer(&store, &image).join("kept").exists());
}

#[test]
fn a_killed_process_leaves_a_store_that_opens() {
    // A child that imports without end is killed at many moments; each time the store must be whole.
    if let Some(root) = std::env::var_os("DROSTE_TEST_IMPORT_LOOP") {
        let store = Store::open(root).unwrap();
        for round in 0.. {
            drop(image_of(&store, &tar(&[Item::file("a", &round.to_string()), Item::directory("d")])).unwrap());
            store.collect([]).unwrap();
        }
    }
    let (directory, store) = store();
    drop(store);
    let root = directory.path().join("images");
    for delay in 1..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifetime::a_killed_process_leaves_a_store_that_opens"])
            .env("DROSTE_TEST_IMPORT_LOOP", &root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(7 * delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        for id in store.images() {
            let image = store.image(id).unwrap();
            droste_image::save(&[(image, Vec::new())], std::io::sink()).unwrap();
        }
        assert!(leftovers(directory.path()).is_empty());
    }
}

#[test]
fn collection_takes_what_is_neither_rooted_nor_held() {
    let (_directory, store) = store();
    let rooted = image_of(&store, &tar(&[Item::file("a", "rooted")])).unwrap().id();
    let held = image_of(&store, &tar(&[Item::file("a", "held")])).unwrap();
    let clone = held.clone();
    let loose = image_of(&store, &tar(&[Item::file("a", "loose and longer")])).unwrap();
    let (loose_id, loose_layer) = (loose.id(), loose.layers()[0]);
    drop((loose, held));

    let collected = store.collect([rooted]).unwrap();
    assert_eq!(
        (collected.images.as_slice(), collected.layers.as_slice()),
        ([loose_id].as_slice(), [loose_layer].as_slice())
    );
    assert_eq!(collected.bytes, 16);
    assert_eq!(store.images().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([rooted, clone.id()]));
    assert!(top_layer(&store, &clone).join("a").exists());
    let gone = clone.id();
    drop(clone);
    store.collect([rooted]).unwrap();
    assert!(matches!(store.image(gone), Err(Error::NoSuchImage(_))));
}

#[test]
fn collection_does_not_race_with_making_images() {
    let (_directory, store) = store();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..3)
            .map(|maker| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..25 {
                        // The makers share one layer, so that they also adopt each other's.
                        let text = if maker == 0 { round.to_string() } else { "shared".to_owned() };
                        let image = image_of(store, &tar(&[Item::file("a", &text)])).unwrap();
                        assert_eq!(std::fs::read_to_string(top_layer(store, &image).join("a")).unwrap(), text);
                        assert!(store.image(image.id()).is_ok());
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.collect([]).unwrap();
            }
        });
        let results: Vec<_> = makers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    store.collect([]).unwrap();
    assert!(store.images().is_empty() && store.layers().len() == 1);
}
