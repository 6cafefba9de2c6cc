//! Pure cgroup v2, which most users have, as they meet it: the static `droste` as daemon and client, with an image, on
//! Debian's kernel. `guest.sh` prints one `ok` or `not ok` line for each case.

use droste_test_host::Machine;
use droste_test_support::engine::droste_program;
use droste_test_support::image;

#[test]
fn pure_cgroup_v2() {
    let droste = std::fs::read(droste_program()).expect("the program under test");
    let mut machine = Machine::new(&image::busybox(), include_str!("guest.sh"));
    machine.guest().file("bin/droste", 0o755, &droste);
    let rootfs = image::rootfs().file("bin/docker", 0o755, &droste).finish();
    machine.guest().file("image.tar", 0o644, &rootfs);
    machine.boot().assert_all_ok([]);
}
