//! Builds the shim, a static program of this same package, and leaves it in `OUT_DIR` to be carried inside the library.
//!
//! The nested build has its own target directory (so it waits for none of the outer build's locks) and lacks the
//! `daemon` feature; a variable in its environment ends the recursion.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the nested build: Cargo lets a build script's own variables through to it.
const NESTED: &str = "DROSTE_SHIM_BUILD";

fn main() -> Result<(), Box<dyn Error>> {
    for path in [
        "../../Cargo.lock",
        "build.rs",
        "Cargo.toml",
        "src/lib.rs",
        "src/lookup.rs",
        "src/plan.rs",
        "src/wire.rs",
        "src/sys",
        "src/shim",
        "src/init",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    if env::var_os("CARGO_FEATURE_DAEMON").is_none() || env::var_os(NESTED).is_some() {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target = env::var("TARGET")?;
    let target_dir = out.join("shim");
    let status = nested_build(&target, &target_dir)?.status()?;
    if !status.success() {
        return Err(format!("building droste-shim for {target} failed: {status}").into());
    }
    std::fs::copy(target_dir.join(&target).join("release/droste-shim"), out.join("droste-shim"))?;
    Ok(())
}

fn nested_build(target: &str, target_dir: &Path) -> Result<Command, env::VarError> {
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args([
            "build",
            "--release",
            "--offline",
            "--bin",
            "droste-shim",
            "--no-default-features",
            "--features",
            "shim",
        ])
        .arg("--manifest-path")
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .args(["--target", target])
        .arg("--target-dir")
        .arg(target_dir)
        .env(NESTED, "1")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_FEATURE_") || name.starts_with("CARGO_CFG_")) {
            cargo.env_remove(name);
        }
    }
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(name);
    }
    Ok(cargo)
}
