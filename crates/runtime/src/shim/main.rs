//! The per-container shim: a small program with a single thread that executes a plan, becomes the container's parent
//! and outlives the daemon. The same program is the container's init when its name says so.
#![allow(unsafe_code)]

mod control;
mod furnish;
#[path = "../init/mod.rs"]
mod init;
mod journal;
mod oci;
mod program;
mod pump;
mod report;
mod rootfs;
mod stage;
mod supervise;

use std::os::unix::ffi::OsStrExt;

fn main() {
    let mut args = std::env::args_os();
    let is_init = args.next().is_some_and(|name| name.as_bytes() == droste_runtime::wire::INIT_NAME.as_bytes());
    let code = if is_init { init::run(args.skip(1).collect()) } else { supervise::run() };
    std::process::exit(code)
}
