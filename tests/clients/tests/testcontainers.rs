//! The unmodified Testcontainers for Python, Node and Rust, in a container that is a host and on the machine: a test
//! suite's day, and what is left of it when it is killed: nothing, once the stand-in of Ryuk (`sdks/ryuk.py`) has seen
//! it go.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod rust_suite;

use droste_test_clients::place::{Inside, Installed, Machine, PYTHONS_RYUK, Place, asked_for, installed, itself, ryuk};
use droste_test_support::image::encode;
use droste_test_support::{Engine, Value, json};

const PYTHON: &str = "python3 $SDKS/suite.py";
const NODE: &str = "node $SDKS/suite.js";
const RUST: &str = "suite() { exec env RYUK=stand-in HOSTNAME=$(hostname) $ITSELF --ignored --exact --nocapture rust_suite::${1:-day}; }; suite";

/// An engine with a client's image and, under the name that the client asks for, Ryuk's.
struct Suite<'e> {
    program: &'static str,
    image: Installed<'e>,
    _ryuk: Option<Installed<'e>>,
}

impl<'e> Suite<'e> {
    fn python(e: &'e Engine) -> Self {
        let image = installed(e, "python", "testcontainers");
        ryuk(e, &image, &asked_for(PYTHONS_RYUK));
        Self { program: PYTHON, image, _ryuk: None }
    }

    fn node(e: &'e Engine) -> Self {
        let with_python = installed(e, "python", "docker");
        ryuk(e, &with_python, &asked_for("js/testcontainers/node_modules/testcontainers/build/reaper/reaper.js"));
        Self { program: NODE, image: installed(e, "node", "testcontainers"), _ryuk: Some(with_python) }
    }

    /// Its client asks for no Ryuk; the suite does.
    fn rust(e: &'e Engine) -> Self {
        let image = installed(e, "python", "docker");
        ryuk(e, &image, "stand-in");
        Self { program: RUST, image, _ryuk: None }
    }

    fn inside<'h>(&self, host: &'h Engine) -> Inside<'h> {
        Inside::new(host, &self.image.name, &[itself()])
    }

    /// The day, then the killed suite.
    fn proves(&self, place: &impl Place) {
        let day = place.shell(self.program).well();
        assert!(day.contains("the day is done"), "{day}");
        // The next suite shall not meet a Ryuk that is about to end.
        until(|| reapers(place.host()).is_empty());
        self.leaves_nothing_when_killed(place);
    }

    fn leaves_nothing_when_killed(&self, place: &impl Place) {
        let begin = format!(
            "export RYUK_RECONNECTION_TIMEOUT=1s; {} orphans >$SCRATCH/said 2>&1 </dev/null & echo pid=$!
             until grep session= $SCRATCH/said; do kill -0 $! || {{ cat $SCRATCH/said; exit 1; }}; sleep 0.2; done",
            self.program
        );
        let said = place.shell(&begin).well();
        let told = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        let label = format!("org.testcontainers.session-id={}", told("session="));
        let made = left(place.host(), &label);
        assert!(made.iter().all(|kind| *kind > 0), "containers, networks, volumes, images: {made:?}");
        place.shell(&format!("kill -9 {}", told("pid="))).well();
        until(|| left(place.host(), &label) == [0; 4] && reapers(place.host()).is_empty());
    }
}

/// Waits until `done`; a test that waits too long is ended by the runner.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// How many containers, networks, volumes and images have a label.
fn left(host: &Engine, label: &str) -> [usize; 4] {
    let filters = encode(&json!({"label": [label]}).to_string());
    let count = |path: &str, list: fn(&Value) -> &Value| list(&host.get(&format!("{path}filters={filters}"))).as_array().map_or(0, Vec::len);
    [count("/containers/json?all=1&", |reply| reply), count("/networks?", |reply| reply), count("/volumes?", |reply| &reply["Volumes"]), count("/images/json?", |reply| reply)]
}

fn reapers(host: &Engine) -> Vec<Value> {
    let list = host.get("/containers/json?all=1");
    list.as_array().unwrap().iter().filter(|c| c["Image"].as_str().unwrap().starts_with("testcontainers/ryuk")).cloned().collect()
}

#[test]
fn python_on_the_machine() {
    let e = Engine::shared();
    if e.not_on_docker_elsewhere() {
        return;
    }
    Suite::python(e).proves(&Machine::new(e));
}

#[test]
fn python_in_a_container() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let suite = Suite::python(e);
    suite.proves(&suite.inside(e));
}

#[test]
fn python_three_levels_down() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let suite = Suite::python(e);
    let first = suite.inside(e);
    let second = suite.inside(first.host());
    suite.proves(&suite.inside(second.host()));
}

#[test]
fn node_on_the_machine() {
    let e = Engine::shared();
    if e.not_on_docker_elsewhere() {
        return;
    }
    Suite::node(e).proves(&Machine::new(e));
}

#[test]
fn node_in_a_container() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let suite = Suite::node(e);
    suite.proves(&suite.inside(e));
}

#[test]
fn rust_on_the_machine() {
    let e = Engine::shared();
    if e.not_on_docker_elsewhere() {
        return;
    }
    Suite::rust(e).proves(&Machine::new(e));
}

#[test]
fn rust_in_a_container() {
    let e = Engine::shared();
    if e.not_on_docker("a container's socket is the machine's there") {
        return;
    }
    let suite = Suite::rust(e);
    suite.proves(&suite.inside(e));
}
