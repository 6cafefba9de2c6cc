//! What the daemon and its shims tell each other.
#![no_main]

use droste_runtime::plan::{ExecPlan, Exit, Failure, LaunchPlan};
use droste_runtime::wire::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = (decode::<LaunchPlan>(bytes), decode::<ExecPlan>(bytes));
    let _ = (decode::<Exit>(bytes), decode::<Failure>(bytes));
});
