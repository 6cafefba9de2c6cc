//! The crates' own tests on pure cgroup v2, and the engine's cases in `unified`: built static, run in the machine one
//! by one. That none is left out is checked against what each program lists.

use droste_test_host::Machine;
use droste_test_host::programs::{self, Program, build};
use droste_test_support::image;

/// OCI runtimes that the runtime's tests use, by the Debian packages' names.
const RUNTIMES: [&str; 2] = ["crun", "runc"];

fn add(machine: &mut Machine, programs: &[Program]) {
    let mut list = String::new();
    for program in programs {
        let bytes = std::fs::read(&program.path).expect("what cargo has just built");
        machine.guest().file(&format!("root/tests/{}", program.name), 0o755, &bytes);
        list.extend(program.tests.iter().map(|test| format!("{} {test}\n", program.name)));
    }
    machine.guest().file("root/tests/list", 0o644, list.as_bytes());
}

#[test]
fn the_crates_tests_on_pure_cgroup_v2() {
    let mut programs = build(&["droste-cgroup", "droste-runtime", "droste-engine"], "*");
    programs.extend(build(&["droste-test-host"], "unified"));
    let mut machine = Machine::new(&image::busybox(), include_str!("guest.sh"));
    add(&mut machine, &programs);
    programs::add_apparmor(machine.guest());
    RUNTIMES.iter().for_each(|runtime| programs::add(machine.guest(), runtime, runtime));
    let report = machine.boot();
    let names: Vec<String> = programs.iter().flat_map(|program| program.tests.iter().map(|test| format!("{} {test}", program.name))).collect();
    report.assert_all_ok(names.iter().map(String::as_str));
}
