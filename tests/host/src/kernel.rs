//! Debian's kernel and its modules, unpacked by `scripts/kernel` without being installed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Initramfs;

/// Modules that the guest may load, as folders or files below `kernel/`.
const MODULES: [&str; 32] = [
    "net/netfilter",
    "net/ipv4",
    "net/ipv6",
    "net/bridge",
    "net/802",
    "net/llc",
    "net/sctp",
    "drivers/net/dummy.ko",
    "drivers/net/ipvlan",
    "drivers/net/macvlan.ko",
    "drivers/net/veth.ko",
    "fs/overlayfs",
    "fs/ext4",
    "fs/jbd2",
    "fs/xfs",
    "fs/mbcache.ko",
    "fs/quota/quota_tree.ko",
    "fs/quota/quota_v2.ko",
    "drivers/block/loop.ko",
    "fs/nfs",
    "fs/nfsd",
    "fs/nfs_common",
    "fs/lockd",
    "fs/fscache",
    "fs/netfs",
    "net/dns_resolver",
    "net/sunrpc",
    "drivers/block/null_blk",
    "fs/configfs",
    "block",
    "lib",
    "crypto/crc32c_generic.ko",
];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    folder: PathBuf,
    /// Its image, for qemu.
    pub image: PathBuf,
    /// Its version, as `uname -r` says it.
    pub version: String,
}

/// The target directory that the running test was built in.
pub(crate) fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let target = test.ancestors().find(|dir| dir.join(".rustc_info.json").exists());
    target.expect("the test runs from a cargo target directory").to_owned()
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where Debian's packages are unpacked: `DROSTE_TEST_KERNEL`, or `vm` in the target directory.
fn unpacked_in() -> PathBuf {
    std::env::var_os("DROSTE_TEST_KERNEL").map_or_else(|| target_dir().join("vm"), PathBuf::from)
}

/// A file of a Debian package that is not installed, but unpacked if need be.
pub(crate) fn unpacked(package: &str, file: &str) -> PathBuf {
    let folder = unpacked_in();
    let place = folder.join(package);
    let args = [place.as_os_str(), package.as_ref(), file.as_ref()];
    PathBuf::from(unpack(&folder, "scripts/unpack", &args).trim_end())
}

impl Kernel {
    /// The kernel, downloaded if need be.
    pub fn get() -> Self {
        let folder = unpacked_in();
        Self::unpacked(&folder).unwrap_or_else(|| {
            unpack(&folder, "scripts/kernel", &[folder.as_os_str()]);
            Self::unpacked(&folder).unwrap_or_else(|| panic!("no boot/vmlinuz-* in {}", folder.display()))
        })
    }

    fn unpacked(folder: &Path) -> Option<Self> {
        let entries = std::fs::read_dir(folder.join("boot")).ok()?.filter_map(Result::ok);
        entries
            .filter_map(|entry| Some((entry.path(), entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned())))
            .find(|(_, version)| folder.join("lib/modules").join(version).is_dir())
            .map(|(image, version)| Self { folder: folder.to_owned(), image, version })
    }

    /// Adds the modules that tests need.
    pub fn add_modules(&self, guest: &mut Initramfs) {
        let place = format!("lib/modules/{}", self.version);
        let from = self.folder.join(&place);
        for part in MODULES {
            guest.tree(&from.join("kernel").join(part), &format!("{place}/kernel/{part}"));
        }
        for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            guest.tree(&from.join(list), &format!("{place}/{list}"));
        }
    }
}

/// Runs a script that unpacks, one test process at a time, and gives what it prints.
fn unpack(folder: &Path, script: &str, args: &[&OsStr]) -> String {
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let lock = File::create(folder.join("lock")).expect("a lock beside the kernel");
    lock.lock().expect("the lock beside the kernel");
    let run = Command::new(workspace().join(script)).args(args).output().expect("bash runs the script");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "a package of Debian's is missing and could not be downloaded by {script} {args:?}: {said}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}
