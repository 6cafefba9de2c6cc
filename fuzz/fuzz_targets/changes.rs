//! Instructions of `--change`.
#![no_main]

use droste_image::apply_changes;
use droste_model::container::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    drop(apply_changes(&mut Config::default(), &lines));
});
