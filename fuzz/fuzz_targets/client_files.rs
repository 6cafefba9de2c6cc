//! What the client reads: its configuration, a context's description, and templates of `--format`, which are run.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::fs;

use libfuzzer_sys::fuzz_target;

/// The folder of a context is named by the SHA-256 of its name, `c`.
const CONTEXT: &str = "contexts/meta/2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6";

fuzz_target!(|parts: (&str, &str, &str)| {
    let (config, context, format) = parts;
    let folder = tempfile::tempdir().expect("a directory");
    let meta = folder.path().join(CONTEXT);
    fs::create_dir_all(&meta).expect("made");
    fs::write(folder.path().join("config.json"), config).expect("written");
    fs::write(meta.join("meta.json"), context).expect("written");
    let run = |words: &[&str]| {
        let before = [OsString::from("--config"), folder.path().into()];
        droste_cli::run(OsStr::new("droste"), before.into_iter().chain(words.iter().map(OsString::from)))
    };
    for words in [&["context", "ls", "--format", format][..], &["context", "inspect", "c", "-f", format]] {
        assert_ne!(run(words), 101);
    }
});
