//! The embedded default: when nobody named a daemon and none listens, the client starts one.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use crate::error::{CliError, Result};

const FOLDER: &str = "/run/droste";
const LOG: &str = "/run/droste/daemon.log";
const PATIENCE: Duration = Duration::from_secs(30);

/// The hidden word with which this program starts itself in a session of its own.
pub const DETACH: &str = "__daemon-detached";

/// Starts a daemon and waits until it listens. Two clients at once start one daemon between them.
pub(crate) fn start(endpoint: &Endpoint) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(CliError::Connect(format!(
            "No daemon listens at {}, and only root can start one: run `sudo droste daemon`, \
             or name a daemon with --host or DOCKER_HOST.",
            endpoint.url
        )));
    }
    let _turn = take_turn()?;
    if endpoint.try_connect().is_ok() {
        return Ok(());
    }
    eprintln!("droste: no daemon was listening; starting one (its log: {LOG})");
    let mut child = spawn()?;
    wait(endpoint, &mut child)
}

fn take_turn() -> Result<File> {
    fs::create_dir_all(FOLDER).map_err(|e| CliError::io(format!("creating {FOLDER}"), e))?;
    let path = format!("{FOLDER}/autostart.lock");
    let lock = File::create(&path).map_err(|e| CliError::io(format!("creating {path}"), e))?;
    lock.lock().map_err(|e| CliError::io(format!("locking {path}"), e))?;
    Ok(lock)
}

fn spawn() -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOG)
        .map_err(|e| CliError::io(format!("opening {LOG}"), e))?;
    let errors = log.try_clone().map_err(|e| CliError::io(format!("opening {LOG}"), e))?;
    Command::new("/proc/self/exe")
        .arg(DETACH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|e| CliError::io("starting `droste daemon`", e))
}

fn wait(endpoint: &Endpoint, child: &mut Child) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if endpoint.try_connect().is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(CliError::Connect(format!("`droste daemon` ended at once ({status}): {}", last_line())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(CliError::Connect(format!("`droste daemon` does not answer after {} s; see {LOG}", PATIENCE.as_secs())))
}

fn last_line() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    text.lines().last().map_or_else(|| format!("see {LOG}"), str::to_owned)
}
