//! Ping, version, info, negotiation, errors of the protocol itself.

use droste_test_support::{Engine, t};

#[test]
fn ping() {
    let e = Engine::shared();
    t!(e, GET "~/_ping", 200, "text" == "OK", "@Api-Version" == "1.51");
}
