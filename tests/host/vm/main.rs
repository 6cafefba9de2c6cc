//! Pure cgroup v2, which most users have, as they meet it: the static `droste` as daemon and client, with an image, on
//! Debian's kernel. The scripts print one `ok` or `not ok` line for each case; they all begin with `cases.sh`.

use std::process::Command;

use droste_test_host::{Machine, programs};
use droste_test_support::engine::droste_program;
use droste_test_support::image;

/// A guest's script, with what all of them begin with.
fn script(cases: &str) -> String {
    [include_str!("cases.sh"), cases].concat()
}

#[test]
fn pure_cgroup_v2() {
    let droste = std::fs::read(droste_program()).expect("the program under test");
    let mut machine = Machine::new(&image::busybox(), &script(include_str!("guest.sh")));
    machine.guest().file("bin/droste", 0o755, &droste);
    // As Debian has it: AppArmor confines what runs.
    programs::add_apparmor(machine.guest());
    let rootfs = image::rootfs().file("bin/docker", 0o755, &droste).finish();
    machine.guest().file("image.tar", 0o644, &rootfs);
    machine.boot().assert_all_ok([]);
}

/// How large the file system is that has quotas.
const SPACE: u64 = 96 << 20;

/// What a program that makes file systems makes of a file.
fn file_system(mkfs: &str, package: &str, options: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file in /var/tmp");
    file.as_file().set_len(SPACE).expect("a sparse file");
    let made = Command::new(mkfs).arg("-q").args(options).arg(file.path()).output();
    let made = made.unwrap_or_else(|_| panic!("Debian's package {package} is missing (scripts/setup test)"));
    assert!(made.status.success(), "{mkfs}: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(file.path()).expect("the file system")
}

fn quotas(kind: &str, made: &[u8]) {
    let droste = droste_program();
    let cases = [&format!("kind={kind}\n"), include_str!("quota.sh")].concat();
    let mut machine = Machine::new(&image::busybox(), &script(&cases));
    programs::add(machine.guest(), "droste", droste.to_str().expect("a path of letters"));
    machine.guest().file("image.tar", 0o644, &image::rootfs().finish());
    machine.guest().file("data.img", 0o644, made);
    machine.boot().assert_all_ok(["quotas are found", "removal"]);
}

#[test]
fn project_quotas_of_ext4() {
    quotas("ext4", &file_system("mkfs.ext4", "e2fsprogs", &["-O", "project,quota"]));
}

#[test]
fn project_quotas_of_xfs() {
    // For so small a one it wants that word.
    quotas("xfs", &file_system("mkfs.xfs", "xfsprogs", &["--unsupported"]));
}

#[test]
fn apparmor() {
    let droste = droste_program();
    let mut machine = Machine::new(&image::busybox(), &script(include_str!("apparmor.sh")));
    programs::add(machine.guest(), "droste", droste.to_str().expect("a path of letters"));
    programs::add_apparmor(machine.guest());
    programs::add(machine.guest(), "runc", "runc");
    machine.guest().file("image.tar", 0o644, &image::rootfs().finish());
    machine.boot().assert_all_ok(["it denies mounts", "is a floor", "without a compiler"]);
}

/// A program that takes labels of SELinux one after the other, then waits.
const BECOME: &str = "#!/bin/sh\n[ $# -gt 0 ] || exec sleep 100000\nkind=$1\nshift\necho -n user:role:$kind:s0 >/proc/self/attr/exec && exec become \"$@\"\n";

/// `selinux.cil` in the kernel's form.
fn policy() -> Vec<u8> {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder in /var/tmp");
    let place = folder.path().join("policy");
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/selinux.cil");
    let made = Command::new("secilc").args(["--policyvers", "33", "--filecontext", "/dev/null", "--output"]).arg(&place).arg(text).output();
    let made = made.expect("Debian's package secilc is missing (scripts/setup test)");
    assert!(made.status.success(), "secilc: {}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(place).expect("the policy")
}

#[test]
fn selinux() {
    let droste = droste_program();
    let mut machine = Machine::new(&image::busybox(), &script(include_str!("selinux.sh"))).with("security=selinux selinux=1");
    programs::add(machine.guest(), "droste", droste.to_str().expect("a path of letters"));
    machine.guest().file("policy", 0o644, &policy());
    machine.guest().file("image.tar", 0o644, &image::rootfs().file("bin/become", 0o755, BECOME.as_bytes()).finish());
    machine.boot().assert_all_ok(["a container has the daemon's label", "is a floor", "after kill -9"]);
}
