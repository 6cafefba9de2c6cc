//! Image configurations: what is read can be written and read again.
#![no_main]

use droste_image::ImageConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = ImageConfig::parse(bytes) {
        ImageConfig::parse(&config.to_bytes().expect("JSON")).expect("our own JSON");
    }
});
