//! An archive of images, loaded into a store: nothing unfinished may stay.
#![no_main]

use droste_image::{Limits, LoadOptions, Store, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let work = tempfile::tempdir().expect("a directory");
    let store = Store::open(work.path()).expect("a store");
    let options = LoadOptions { limits: Limits { bytes: 1 << 20, entries: 1000 }, platform: None };
    drop(load(&store, bytes, &options, &|_| {}));
    assert_eq!(std::fs::read_dir(work.path().join("unfinished")).expect("the directory").count(), 0);
});
