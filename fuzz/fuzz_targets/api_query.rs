//! Query strings, and the times, numbers and durations in them.
#![no_main]

use droste_api::filters::Filters;
use droste_api::query::{Query, atoi, go_duration, moment_before};
use droste_model::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let query = Query::parse(text);
    for name in ["a", "tail", "since", "filters"] {
        let _ = (query.flag(name), query.number(name), query.moment(name), query.all(name).count());
    }
    if let Ok(filters) = Filters::parse(query.get("filters")) {
        let _ = (filters.flag("dangling"), filters.single("until").map(|_| ()), filters.values("label").count());
    }
    let _ = (atoi(text), go_duration(text), moment_before(text, Timestamp::from_secs(1_700_000_000)));
});
