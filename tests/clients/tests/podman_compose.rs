//! The unmodified podman-compose, with `droste` in the place of podman: in a container that is a host, and on the
//! machine.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use droste_test_clients::place::{Inside, Machine, Place, installed};
use droste_test_support::Engine;
use droste_test_support::engine::{droste_binds, droste_program};

fn day(place: &impl Place, droste: &str) {
    let said = place.shell(&format!("export DROSTE={droste}; sh $SDKS/podman-compose.sh 2>&1")).well();
    assert!(said.contains("the day is done"), "{said}");
}

#[test]
fn on_the_machine() {
    let e = Engine::shared();
    day(&Machine::new(e), droste_program().to_str().unwrap());
}

#[test]
fn in_a_container() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let image = installed(e, "python", "podman-compose");
    let place = Inside::new(e, &image.name, &droste_binds());
    day(&place, "/bin/droste");
    assert_eq!(place.host().get("/containers/json?all=1"), droste_test_support::json!([]));
}
