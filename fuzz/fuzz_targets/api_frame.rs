//! Multiplexed streams: what was framed comes back, and nonsense ends.
#![no_main]

use droste_api::frame::{Stream, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((_, _, after))) = decode(rest) {
        assert!(after.len() < rest.len());
        rest = after;
    }
    let mut framed = Vec::new();
    encode(Stream::Stdout, bytes, &mut framed);
    if !bytes.is_empty() {
        assert_eq!(decode(&framed), Ok(Some((Stream::Stdout, bytes, &b""[..]))));
    }
});
