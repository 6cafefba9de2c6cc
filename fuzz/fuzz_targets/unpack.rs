//! A client's archive, unpacked into a directory: nothing may appear beside it.
#![no_main]

use std::os::fd::AsFd;

use droste_image::{Limits, UnpackOptions, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let work = tempfile::tempdir().expect("a directory");
    let root = work.path().join("root");
    std::fs::create_dir(&root).expect("a root");
    let descriptor = std::fs::File::open(&root).expect("the root");
    let limits = Limits { bytes: 1 << 20, entries: 1000 };
    let options = UnpackOptions { limits, refuse_devices: true, ..UnpackOptions::default() };
    drop(unpack(descriptor.as_fd(), b"/", bytes, &options));
    assert_eq!(std::fs::read_dir(work.path()).expect("the directory").count(), 1);
});
