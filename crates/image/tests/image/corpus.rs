//! The fuzz targets' seeds and many damaged forms of them, so that the parsers meet nonsense in every test run.
//!
//! `fuzz/` looks for new nonsense with coverage; what it finds becomes a seed in `fuzz/corpus`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use droste_image::{
    ImageConfig, Limits, LoadOptions, UnpackOptions, apply_changes, decompress, digest_of, load, unpack,
};
use droste_model::container::Config;
use droste_model::reference::Reference;
use tempfile::TempDir;

use crate::support::*;

/// Damaged forms of each seed.
const FORMS: u64 = 150;
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 1000 };

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seeds", directory.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Changes, removes, repeats or inserts a few bytes, always the same for the same number.
fn damaged(seed: &[u8], number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 20).unwrap_or(0) % below.max(1)
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=random(4) {
        let at = random(bytes.len());
        match random(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random(8),
            1 if !bytes.is_empty() => bytes[at] = *[0, b'/', b'.', b'7', 0xff, b'"', b'{'].get(random(7)).unwrap(),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random(600)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.splice(at..at, *b"../").for_each(drop),
        }
    }
    bytes
}

fn every_form(target: &str, mut run: impl FnMut(&[u8])) {
    for seed in seeds(target) {
        run(&seed);
        (0..FORMS).for_each(|number| run(&damaged(&seed, number)));
    }
}

#[test]
fn archives_of_trees() {
    let work = TempDir::new().unwrap();
    std::fs::write(work.path().join("canary"), "alive").unwrap();
    every_form("unpack", |bytes| {
        let root = work.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let descriptor = std::fs::File::open(&root).unwrap();
        let options = UnpackOptions { limits: LIMITS, refuse_devices: true, ..UnpackOptions::default() };
        drop(unpack(descriptor.as_fd(), b"/", bytes, &options));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1, "something was made outside of the root");
    });
    assert_eq!(std::fs::read_to_string(work.path().join("canary")).unwrap(), "alive");
}

#[test]
fn archives_of_images() {
    let (directory, store) = store();
    let options = LoadOptions { limits: LIMITS, platform: None };
    every_form("load", |bytes| {
        drop(load(&store, bytes, &options, &silent));
        assert!(leftovers(directory.path()).is_empty());
        store.collect([]).unwrap();
        assert!(store.images().is_empty() && store.layers().len() == 1);
    });
}

#[test]
fn texts() {
    every_form("changes", |bytes| {
        let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        let mut config = Config::default();
        drop(apply_changes(&mut config, &lines));
    });
    every_form("reference", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(reference) = text.parse::<Reference>() {
            assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference), "{text}");
            assert_eq!(reference.familiar().parse::<Reference>().as_ref(), Ok(&reference), "{text}");
        }
    });
    every_form("config", |bytes| {
        if let Ok(config) = ImageConfig::parse(bytes) {
            let again = ImageConfig::parse(&config.to_bytes().unwrap()).unwrap();
            assert_eq!(digest_of(&again.to_bytes().unwrap()), digest_of(&config.to_bytes().unwrap()));
        }
    });
    every_form("decompress", |bytes| {
        if let Ok((_, reader)) = decompress(bytes) {
            drop(std::io::copy(&mut std::io::Read::take(reader, 1 << 20), &mut std::io::sink()));
        }
    });
}
