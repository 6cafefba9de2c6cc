//! Health checks: a program run in the container at intervals, and what its results amount to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use droste_model::container::{Config, ExecConfig, Healthcheck};
use droste_model::id::ExecId;
use droste_model::state::{Health, HealthProbe, HealthStatus, State};
use droste_model::time::Timestamp;

use crate::attach::Attached;
use crate::container::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::exec::Exec;
use crate::lifecycle::to_the_end;
use crate::options::ExecStart;
use crate::random;

/// Docker's defaults, in nanoseconds.
const INTERVAL: i64 = 30_000_000_000;
const TIMEOUT: i64 = 30_000_000_000;
const START_INTERVAL: i64 = 5_000_000_000;
const RETRIES: i64 = 3;

/// How much of a check's output is kept, in bytes.
const MOST_OUTPUT: usize = 4096;

/// How many checks are kept.
const KEPT: usize = 5;

/// The program of a health check; `None` if there is no check.
fn command(config: &Config) -> Option<Vec<String>> {
    let test = &config.healthcheck.as_ref()?.test;
    match (test.first().map(String::as_str), test.get(1..)) {
        (Some("CMD"), Some(program)) if !program.is_empty() => Some(program.to_vec()),
        (Some("CMD-SHELL"), Some([text, ..])) => {
            let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            Some(shell.into_iter().chain([text.clone()]).collect())
        }
        _ => None,
    }
}

/// What a container's health is at its start.
pub(crate) fn initial(config: &Config) -> Option<Health> {
    command(config).map(|_| Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() })
}

fn or(value: i64, default: i64) -> Duration {
    Duration::from_nanos(u64::try_from(if value == 0 { default } else { value }).unwrap_or(0))
}

/// Checks a running container until its task is aborted.
pub(crate) fn watch(engine: &Arc<Engine>, container: &Arc<Container>) {
    let config = container.record().config.clone();
    let (Some(command), Some(check)) = (command(&config), config.healthcheck) else { return };
    let (engine, owned) = (Arc::clone(engine), Arc::clone(container));
    let task = tokio::spawn(async move {
        let begun = Timestamp::now();
        loop {
            let starting = owned.record().health.as_ref().is_some_and(|health| health.status == HealthStatus::Starting);
            let in_start = starting && begun.since_now() < or(check.start_period, 0);
            let pause = if in_start && check.start_period > 0 {
                or(check.start_interval, START_INTERVAL)
            } else {
                or(check.interval, INTERVAL)
            };
            tokio::time::sleep(pause).await;
            if !matches!(owned.state(), State::Running(running) if !running.paused) {
                continue;
            }
            let probe = run(&engine, &owned, &command, or(check.timeout, TIMEOUT)).await;
            let in_start = begun.since_now() < or(check.start_period, 0);
            take(&engine, &owned, &check, probe, in_start);
        }
    });
    container.live().health = Some(task.abort_handle());
}

trait SinceNow {
    fn since_now(self) -> Duration;
}

impl SinceNow for Timestamp {
    fn since_now(self) -> Duration {
        Timestamp::now().since(self)
    }
}

/// Takes note of a check's result.
fn take(engine: &Arc<Engine>, container: &Arc<Container>, check: &Healthcheck, probe: HealthProbe, in_start: bool) {
    let changed = {
        let mut record = container.record();
        let Some(health) = record.health.as_mut() else { return };
        let before = health.status;
        judge(health, &probe, if check.retries == 0 { RETRIES } else { check.retries }, in_start);
        health.log.push(probe);
        let surplus = health.log.len().saturating_sub(KEPT);
        health.log.drain(..surplus);
        (health.status != before).then_some(health.status)
    };
    if let Some(status) = changed {
        container.emit(format!("health_status: {}", status.as_str()), &[]);
        engine.remember(container);
    }
}

/// What one result makes of the health.
fn judge(health: &mut Health, probe: &HealthProbe, retries: i64, in_start: bool) {
    if probe.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
        return;
    }
    if in_start && health.status == HealthStatus::Starting {
        return;
    }
    health.failing_streak += 1;
    if i64::from(health.failing_streak) >= retries {
        health.status = HealthStatus::Unhealthy;
    }
}

async fn run(engine: &Arc<Engine>, container: &Arc<Container>, command: &[String], timeout: Duration) -> HealthProbe {
    let (start, begun) = (Timestamp::now(), Instant::now());
    let mut output = Vec::new();
    let outcome: Result<Option<i32>> = async {
        let (probe, attached) = launch(engine, container, command).await?;
        let left = timeout.saturating_sub(begun.elapsed());
        Ok(tokio::time::timeout(left, probe.end(attached, &mut output)).await.ok())
    }
    .await;
    let (exit_code, output) = match outcome {
        Ok(Some(code)) => (code, String::from_utf8_lossy(&output).into_owned()),
        Ok(None) => (-1, format!("Health check exceeded timeout ({}s)", timeout.as_secs_f64())),
        Err(error) => (-1, error.to_string()),
    };
    HealthProbe { start, end: Timestamp::now(), exit_code, output }
}

/// Starts a check. A launch takes the time that it takes: one that was left in the middle would be nobody's process, and
/// with a short timeout each check would leave one.
async fn launch(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    command: &[String],
) -> Result<(Arc<Probe>, Attached)> {
    let config =
        ExecConfig { cmd: command.to_vec(), attach_stdout: true, attach_stderr: true, ..ExecConfig::default() };
    let id = ExecId::from_bytes(random::bytes()?);
    let probe = Arc::new(Probe(Arc::new(Exec::new(id, container.id.clone(), config, Vec::new()))));
    let (engine, container, launched) = (Arc::clone(engine), Arc::clone(container), Arc::clone(&probe));
    let attached = to_the_end(async move {
        let attached = engine.start_exec(&container, &launched.0, ExecStart::default()).await;
        // Whoever has given up waiting for it has left this the last to hold it.
        drop(launched);
        attached
    });
    Ok((probe, attached.await?))
}

/// The process of a check. It does not outlast the wait for it.
struct Probe(Arc<Exec>);

impl Probe {
    /// Waits for its end, and takes the beginning of what it says.
    async fn end(&self, mut attached: Attached, output: &mut Vec<u8>) -> i32 {
        while let Some(piece) = attached.output.recv().await {
            let room = MOST_OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
        }
        self.0.ended().await
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> HealthProbe {
        HealthProbe { start: Timestamp::from_secs(0), end: Timestamp::from_secs(1), exit_code, output: String::new() }
    }

    #[test]
    fn results_are_judged_as_docker_does() {
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, log: vec![] };
        judge(&mut health, &probe(1), 2, true);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        judge(&mut health, &probe(1), 2, false);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 1));
        judge(&mut health, &probe(1), 2, false);
        assert_eq!(health.status, HealthStatus::Unhealthy);
        judge(&mut health, &probe(0), 2, false);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
    }

    #[test]
    fn commands_are_read_as_docker_writes_them() {
        let config = |test: &[&str]| Config {
            healthcheck: Some(Healthcheck {
                test: test.iter().map(|word| (*word).to_owned()).collect(),
                ..Healthcheck::default()
            }),
            ..Config::default()
        };
        assert_eq!(command(&config(&["CMD-SHELL", "true"])).unwrap(), ["/bin/sh", "-c", "true"]);
        assert_eq!(command(&config(&["CMD", "a", "b"])).unwrap(), ["a", "b"]);
        assert!(command(&config(&["NONE"])).is_none() && command(&config(&[])).is_none());
    }
}
