//! Credentials, paths and versions.
#![no_main]

use droste_api::registry_auth;
use droste_api::routes::{Method, find};
use droste_api::version::split_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = registry_auth::decode(Some(text));
    let (version, path) = split_path(text);
    for method in [Method::Get, Method::Post, Method::Delete] {
        if let Some(found) = find(method, path, version) {
            assert!(path.contains(found.parameter));
        }
    }
});
