//! Queries and filters.
#![no_main]

use droste_api::filters::Filters;
use droste_api::query::{Query, go_duration, moment_before};
use droste_model::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let query = Query::parse(text);
    let _ = (query.flag("a"), query.number("a"), query.moment("a"));
    let _ = (go_duration(text), moment_before(text, Timestamp::from_secs(0)));
    if let Ok(filters) = Filters::parse(text) {
        let _ =
            (filters.matches("name", "web"), filters.flag("dangling"), filters.labels("label", &Default::default()));
    }
});
