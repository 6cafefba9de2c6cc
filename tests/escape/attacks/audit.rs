//! The audit log: whom it is about does not keep lines out of it, and does not write it full.

use droste_test_support::engine::droste_binds;
use droste_test_support::image::load_base;
use droste_test_support::{Engine, Value, json, t};

use crate::{host, inside};

#[test]
fn every_call_has_its_line() {
    let folder = tempfile::Builder::new().prefix("droste-test-audit-").tempdir_in("/tmp").unwrap();
    let log = folder.path().join("audit.log");
    let e = Engine::start_droste(&["--audit-log", log.to_str().unwrap()]);
    load_base(&e);
    let (c, h) = host(&e, json!({"Binds": droste_binds()}));
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    // A program whose name is no text.
    inside(&c, "cp /bin/droste \"/tmp/$(printf 'x\\377y')\" && /tmp/x?y volume create hidden");
    let made = lines().into_iter().find(|line| line["made"] == "hidden").expect("a line of the call");
    assert_eq!(made["peer"]["executable"], "/tmp/x\u{fffd}y");
    // Names that are a document, or a long one.
    let line = "%0A%7B%22host%22:%22/%22%7D%0A";
    t!(h, DELETE "/volumes/{line}", 404);
    let before = log.metadata().unwrap().len();
    let long = "x".repeat(30_000);
    for _ in 0..20 {
        h.request("DELETE", &format!("/volumes/{long}?name={long}")).send();
    }
    let grown = log.metadata().unwrap().len() - before;
    assert!(grown < 20 * 5000, "{grown} bytes for twenty calls");
    assert!(lines().iter().all(|line| line["route"].is_string()));
}
