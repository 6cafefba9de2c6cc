//! A virtual machine for tests: Debian's kernel in qemu's software emulation, with an initramfs made here.
//!
//! [`Kernel`] finds the kernel, [`Initramfs`] is what it starts with, [`Machine`] boots both and reads what the guest
//! says. `vm/init.sh` is the guest's first process; it mounts pure cgroup v2 and runs `/guest.sh`, which says `ok NAME`
//! or `not ok NAME` for each case, explains in lines that begin with `#`, and ends with `all done`. What fails or is
//! missing here fails the test: nothing is skipped.

mod initramfs;
mod kernel;
mod machine;
pub mod programs;

pub use initramfs::Initramfs;
pub use kernel::Kernel;
pub use machine::{Machine, Report};
