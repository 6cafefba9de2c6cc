//! Pure cgroup v2, which most users have, on Debian's kernel in qemu's software emulation. The guest is an
//! initramfs made here: busybox, the kernel's network and overlay modules, the static `droste`, an image,
//! and `guest.sh`, which prints one `ok` or `not ok` line for each case.
#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod initramfs;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use droste_test_support::engine::droste_program;
use droste_test_support::image;

use initramfs::Initramfs;

/// Modules that the guest needs, as folders or files below `kernel/`.
const MODULES: [&str; 9] = ["net/netfilter", "net/ipv4", "net/ipv6", "net/bridge", "net/802", "net/llc", "drivers/net/veth.ko", "fs/overlayfs", "lib"];

/// Where `scripts/kernel` unpacked it: `DROSTE_TEST_KERNEL`, or `vm` in the target directory.
fn kernel_folder() -> PathBuf {
    std::env::var_os("DROSTE_TEST_KERNEL").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            let target = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
            target.expect("the test runs from a cargo target directory").join("vm")
        },
        PathBuf::from,
    )
}

fn kernel() -> (PathBuf, String) {
    let boot = kernel_folder().join("boot");
    let found = std::fs::read_dir(&boot).unwrap_or_else(|e| panic!("{}: {e}: run scripts/kernel {}", boot.display(), kernel_folder().display()));
    found
        .filter_map(Result::ok)
        .find_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            Some((entry.path(), name.strip_prefix("vmlinuz-")?.to_owned()))
        })
        .expect("a kernel in boot/")
}

fn add_modules(guest: &mut Initramfs, version: &str) {
    let from = kernel_folder().join("lib/modules").join(version);
    for part in MODULES {
        guest.tree(&from.join("kernel").join(part), &format!("lib/modules/{version}/kernel/{part}"));
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        guest.tree(&from.join(list), &format!("lib/modules/{version}/{list}"));
    }
}

fn build(at: &Path, version: &str, cmdline_script: &str) {
    let droste = std::fs::read(droste_program()).unwrap();
    let mut guest = Initramfs::new();
    for dir in ["bin", "sbin", "dev", "etc", "proc", "sys", "tmp", "run", "root", "new", "var", "var/lib", "var/run", "lib", "lib/modules"] {
        guest.dir(dir);
    }
    guest.file("bin/busybox", 0o755, &image::busybox());
    guest.file("bin/droste", 0o755, &droste);
    guest.file("init", 0o755, include_bytes!("init.sh"));
    guest.file("guest.sh", 0o755, cmdline_script.as_bytes());
    let rootfs = image::rootfs().file("bin/docker", 0o755, &droste).finish();
    guest.file("image.tar", 0o644, &rootfs);
    add_modules(&mut guest, version);
    std::fs::write(at, guest.finish()).unwrap();
}

/// Boots the guest and gives what it printed.
fn boot(parameters: &str, script: &str) -> Vec<String> {
    let (image, version) = kernel();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let initramfs = dir.path().join("initramfs");
    build(&initramfs, &version, script);
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536", "-nographic", "-no-reboot", "-nic", "none", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 {parameters}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-system-x86 is installed (scripts/setup test)");
    let output = BufReader::new(qemu.stdout.take().unwrap());
    let lines = output.split(b'\n').map(|line| String::from_utf8_lossy(&line.unwrap()).trim_end().to_owned()).collect();
    qemu.wait().unwrap();
    lines
}

fn assert_all_ok(lines: &[String]) {
    let shown = lines.join("\n");
    let bad: Vec<_> = lines.iter().filter(|line| line.starts_with("not ok")).collect();
    assert!(bad.is_empty(), "{bad:?}\n{shown}");
    assert!(lines.iter().any(|line| line == "all done"), "the guest did not come to its end:\n{shown}");
}

#[test]
fn pure_cgroup_v2() {
    let lines = boot("cgroup_no_v1=all", include_str!("guest.sh"));
    assert_all_ok(&lines);
}
