//! Compressed streams of all kinds.
#![no_main]

use std::io::Read;

use droste_image::decompress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((_, reader)) = decompress(bytes) {
        drop(std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink()));
    }
});
