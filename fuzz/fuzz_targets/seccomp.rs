//! Seccomp profiles of clients: read, and compiled for what a container may be.
#![no_main]

use droste_confine::seccomp::Context;
use droste_confine::{Arch, Capabilities, KernelVersion, Profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(profile) = Profile::from_json(text) else { return };
    let capabilities = Capabilities::default();
    let context = Context { arch: Arch::X86_64, kernel: KernelVersion { major: 6, minor: 1 }, capabilities };
    let _ = profile.to_oci(&context);
    if let Ok(Some(program)) = profile.compile(&context) {
        assert!(program.bytes().len() == program.instructions().len() * 8);
    }
});
