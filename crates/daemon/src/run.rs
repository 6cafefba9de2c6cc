//! The daemon's life: start, signals, end.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use droste_engine::Engine;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::AuditLog;
use crate::listen::{self, ListenError, Opened};
use crate::options::{self, Command, Options};
use crate::router::Entry;
use crate::serve::{self, Door};
use crate::{log, notify, quiet, tls};

/// How long requests that are being answered may go on after SIGTERM.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot write the pidfile {}: {source}", path.display())]
    Pidfile { path: PathBuf, source: io::Error },
    #[error("process with PID {pid} is still running: {} names it", path.display())]
    Running { pid: u32, path: PathBuf },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Engine(#[from] droste_engine::Error),
    #[error("cannot write the audit log {}: {source}", path.display())]
    Audit { path: PathBuf, source: io::Error },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Serves until a signal ends it.
pub(crate) fn run(options: Options, args: &[OsString]) -> Result<(), RunError> {
    log::start(options.level, options.format);
    for note in &options.notes {
        tracing::warn!("{note}");
    }
    let pidfile = Pidfile::claim(&options.pidfile)?;
    let opened = listen::open(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_name("droste")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(live(options, opened, args));
    // What still waits belongs to clients that are gone.
    runtime.shutdown_timeout(Duration::from_millis(200));
    drop(pidfile);
    outcome
}

async fn live(options: Options, opened: Opened, args: &[OsString]) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let served = opened.served();
    let Opened { sockets, paths } = opened;
    let audit = Arc::new(AuditLog::default());
    open_audit(&audit, options.audit_log.as_deref())?;
    let acceptor = options.tls.as_ref().map(tls::acceptor).transpose().map_err(ListenError::from)?;
    let mut settings = options.settings;
    settings.engine_sockets = served.clone();
    let engine = Engine::open(settings).await?;
    // Not before, because containers get the limits that the daemon was started with.
    allow_all_descriptors();
    let entry = Entry { host: engine.machine(), engine: Some(Arc::clone(&engine)), audit: Arc::clone(&audit) };
    let doors = sockets.into_iter().map(|socket| serve::open_door(socket, acceptor.as_ref(), entry.clone()));
    let doors = doors.collect::<io::Result<Vec<Door>>>()?;
    let nested = tokio::spawn(serve::follow(Arc::clone(&engine), Arc::clone(&audit)));
    tokio::spawn(quiet::give_memory_back());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), sockets = doors.len(), "ready");
    notify::notify("READY=1\n");
    signals.until_the_end(&engine, &audit, args, &served).await;
    notify::notify("STOPPING=1\n");
    tracing::info!("stopping; containers run on");
    nested.abort();
    finish_requests().await;
    drop(doors);
    engine.shutdown().await;
    for path in paths {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(%error, path = %path.display(), "a socket could not be removed");
        }
    }
    Ok(())
}

/// All hosts share the daemon's descriptors, and have parts of what it may have at most.
fn allow_all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }) {
        tracing::warn!(%error, "the daemon has few descriptors");
    }
}

async fn finish_requests() {
    let quiet = async {
        while serve::active() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(LAST_REQUESTS, quiet).await.is_err() {
        tracing::debug!(requests = serve::active(), "some requests are cut off");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Reloads at SIGHUP, returns at SIGTERM and SIGINT.
    async fn until_the_end(&mut self, engine: &Arc<Engine>, audit: &AuditLog, args: &[OsString], paths: &[PathBuf]) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(engine, audit, args, paths),
            }
        }
    }
}

/// Reads the configuration again. What is wrong with it is told, and the old one stays.
fn reload(engine: &Arc<Engine>, audit: &AuditLog, args: &[OsString], paths: &[PathBuf]) {
    match options::parse(args) {
        Ok(Command::Serve(options)) => {
            log::set_level(options.level);
            if let Err(error) = open_audit(audit, options.audit_log.as_deref()) {
                tracing::error!(%error, "the audit log is written where it was");
            }
            let mut settings = options.settings;
            settings.engine_sockets = paths.to_vec();
            engine.reload(settings);
            tracing::info!("configuration reloaded");
        }
        Ok(Command::Help | Command::Version) => {}
        Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
    }
}

fn open_audit(audit: &AuditLog, path: Option<&Path>) -> Result<(), RunError> {
    let failed = |source| RunError::Audit { path: path.map(Path::to_owned).unwrap_or_default(), source };
    audit.open(path).map_err(failed)
}

/// The file with the process id, removed at the end.
struct Pidfile(PathBuf);

impl Pidfile {
    fn claim(path: &Path) -> Result<Self, RunError> {
        let failed = |source| RunError::Pidfile { path: path.to_owned(), source };
        if let Some(pid) = other_daemon(path) {
            return Err(RunError::Running { pid, path: path.to_owned() });
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, format!("{}", std::process::id())).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The process that a pidfile names, if it runs and is a daemon of ours: after a boot the number may be anybody's.
fn other_daemon(path: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let running = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let own = std::fs::read_link("/proc/self/exe").ok()?;
    (pid != std::process::id() && running.file_name() == own.file_name()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_of_a_process_that_is_gone_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/pid");
        let claimed = Pidfile::claim(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(claimed);
        assert!(!path.exists());
        std::fs::write(&path, "4194999").unwrap();
        assert!(Pidfile::claim(&path).is_ok());
    }
}
