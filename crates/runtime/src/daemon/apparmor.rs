//! AppArmor as the kernel and its compiler offer it: whether it is on, whether a profile may be used, loading one.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;

use super::selinux::settled_label;

const PARSER: &str = "apparmor_parser";

/// Where the compiler is if not in `PATH`.
const PLACES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Why a profile was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no compiler.
    #[error("{PARSER} is missing: install the package apparmor")]
    NoParser,
    /// It could not be run.
    #[error("{PARSER} could not be run: {0}")]
    Io(#[from] io::Error),
    /// It refused.
    #[error("{PARSER}: {0}")]
    Refused(String),
}

/// Whether the kernel has AppArmor and uses it.
#[must_use]
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// The profile that this process is in, without its mode.
///
/// # Errors
/// When the kernel does not tell.
pub fn own_profile() -> io::Result<String> {
    Ok(without_mode(&std::fs::read_to_string(attribute("thread-self", "current"))?))
}

/// The profile that another process is in, without its mode. It is named by its pidfd and its id.
///
/// # Errors
/// When the process is dead: its id may be another's by now.
pub fn profile_of(pidfd: BorrowedFd<'_>, pid: i32) -> io::Result<String> {
    let label = settled_label(pidfd, pid, &attribute(&pid.to_string(), "current"))?;
    Ok(without_mode(&label))
}

fn without_mode(label: &str) -> String {
    let label = label.trim_end();
    label.rsplit_once(" (").map_or(label, |(name, _)| name).to_owned()
}

/// Asks the kernel whether a process of the daemon's may change to a profile. Nothing is changed.
///
/// # Errors
/// `NotFound` if it is not loaded, `PermissionDenied` if the daemon's own profile forbids it.
pub fn admits(profile: &str) -> io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(attribute("thread-self", "current"))?;
    file.write_all(format!("permprofile {profile}").as_bytes())
}

/// A process's attribute; the older place is shared with other security modules.
fn attribute(process: &str, name: &str) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{process}/attr/apparmor/{name}"));
    if own.exists() { own } else { PathBuf::from(format!("/proc/{process}/attr/{name}")) }
}

/// Compiles a profile and loads it into the kernel, in place of one with the same name.
///
/// # Errors
/// When there is no compiler, or it refuses.
pub fn load(profile: &str) -> Result<(), LoadError> {
    let mut child = Command::new(parser().ok_or(LoadError::NoParser)?)
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // One that refuses early reads no further, and says why.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(profile.as_bytes()));
    let mut said = String::new();
    child.stderr.take().map_or(Ok(0), |mut errors| errors.read_to_string(&mut said))?;
    match child.wait()? {
        status if !status.success() => Err(LoadError::Refused(format!("{} ({status})", said.trim()))),
        _ => Ok(written?),
    }
}

fn parser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from)).collect();
    places.iter().map(|place| place.join(PARSER)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK) != Err(Errno::ACCESS) && path.is_file()
}
