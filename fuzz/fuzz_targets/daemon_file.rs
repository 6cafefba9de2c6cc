//! The daemon's configuration file: understood or refused, never more.
#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    let args = [OsString::from("--validate"), "--config-file".into(), file.path().into()];
    let _ = droste_daemon::main(args);
});
