//! The client's own words: the options of `create` with their mounts, ports, networks and limits, by both of the
//! program's names. No engine listens.
#![no_main]

use std::ffi::{OsStr, OsString};

use libfuzzer_sys::fuzz_target;

/// What reads or writes files that the words name.
const TOUCH_FILES: [&str; 5] = ["--env-file", "--label-file", "--cidfile", "--security-opt", "-H"];

fuzz_target!(|text: &str| {
    if TOUCH_FILES.iter().any(|option| text.contains(option)) {
        return;
    }
    let before = ["--config", "/nonexistent", "--host", "unix:///nonexistent/engine.sock", "create"];
    for name in ["droste", "podman"] {
        let words = before.into_iter().chain(text.lines()).map(OsString::from);
        assert_ne!(droste_cli::run(OsStr::new(name), words), 101);
    }
});
