//! Packets of containers and of name servers. The module is private to its crate, so the file itself is taken.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/network/src/dns/message.rs"]
mod message;

fn run(bytes: &[u8], response: &[u8]) {
    let _ = message::is_refusal(response);
    let Ok(query) = message::Query::parse(bytes) else { return };
    let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let _ = (query.is_internet(), query.address(), query.respond(message::REFUSED), query.truncated());
    for answer in [query.answer_addresses(&addresses), query.answer_name("a.b"), response.to_vec()] {
        let _ = query.fit(answer);
    }
    let _ = message::is_response_to(response, &query, 1);
}

fuzz_target!(|packets: (&[u8], &[u8])| run(packets.0, packets.1));
