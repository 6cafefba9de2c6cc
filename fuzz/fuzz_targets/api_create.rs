//! Bodies of requests: whatever comes is understood or refused, and what is understood is shown and understood again.
#![no_main]

use droste_api::query::Query;
use droste_api::version::{CURRENT, OLDEST};
use droste_api::{echo, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = parse::exec(body, CURRENT);
    let _ = parse::update(body);
    let _ = parse::commit_config(body);
    let _ = parse::create(body, &Query::default(), OLDEST);
    if let Ok(parsed) = parse::create(body, &Query::parse("name=web-1"), CURRENT) {
        let mut again = serde_json::to_value(echo::config(&parsed.request.config)).unwrap();
        again["HostConfig"] = serde_json::to_value(echo::host_config(&parsed.request.host)).unwrap();
        parse::create(again.to_string().as_bytes(), &Query::default(), CURRENT).unwrap();
    }
});
