//! Requests with damage: nothing panics and nothing takes long, and what is still understood is shown and understood
//! again. The fuzz targets look further; this runs every time.
#![allow(clippy::unwrap_used, reason = "a test")]

use droste_api::filters::Filters;
use droste_api::query::Query;
use droste_api::version::{CURRENT, OLDEST};
use droste_api::{echo, parse};

const BODIES: [&str; 2] =
    [include_str!("samples/ContainerCreateBody.json"), include_str!("samples/ContainerCreateBody_compose.json")];

/// A small generator with a fixed beginning, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

fn damaged(body: &str, numbers: &mut Numbers) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "null",
        "{}",
        "[]",
        "-1",
        "1e9",
        "\"\"",
        "\"\\u0000\"",
        "true",
        "\"Image\":\"x\",",
        ",",
        "\"a:b:c\"",
        "9999999999999999999",
    ];
    let mut bytes = body.as_bytes().to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.splice(at..at, WORDS[numbers.below(WORDS.len())].bytes())),
            _ => {
                let end = (at + numbers.below(20)).min(bytes.len());
                bytes.splice(at..end, WORDS[numbers.below(WORDS.len())].bytes());
            }
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

#[test]
fn damaged_requests_are_refused_or_understood() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut understood = 0;
    for round in 0..20_000 {
        let bytes = damaged(BODIES[round % BODIES.len()], &mut numbers);
        let _ = (parse::exec(&bytes, CURRENT), parse::update(&bytes), parse::commit_config(&bytes));
        let _ = parse::create(&bytes, &Query::default(), OLDEST);
        let _ = Filters::parse(&String::from_utf8_lossy(&bytes));
        let Ok(parsed) = parse::create(&bytes, &Query::default(), CURRENT) else { continue };
        understood += 1;
        let mut again = serde_json::to_value(echo::config(&parsed.request.config)).unwrap();
        again["HostConfig"] = serde_json::to_value(echo::host_config(&parsed.request.host)).unwrap();
        let again = parse::create(again.to_string().as_bytes(), &Query::default(), CURRENT);
        assert!(again.is_ok(), "{}: {again:?}", String::from_utf8_lossy(&bytes));
    }
    assert!(understood > 50, "only {understood} were understood, so the damage proves nothing");
}
