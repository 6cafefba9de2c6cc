//! Times and sizes in words, as Docker writes them.

use std::time::Duration;

use droste_model::state::{Health, HealthStatus, State};
use droste_model::time::Timestamp;

/// A duration as Docker's `go-units` says it: `2 seconds`, `About an hour`, `3 weeks`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A size in decimal units with four digits: `1.984MB`.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(value), UNITS[unit])
}

/// A number with four significant digits and no zeros at the end, Go's `%.4g`.
fn four_digits(value: f64) -> String {
    let whole = (value.abs() as u64).max(1).to_string().len();
    let text = format!("{value:.*}", 4usize.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `Status` of a container in a list: `Up 2 seconds (healthy)`, `Exited (0) 3 minutes ago`.
pub fn status(state: &State, health: Option<&Health>, now: Timestamp) -> String {
    match state {
        State::Created { .. } => "Created".to_owned(),
        State::Running(running) => {
            let up = format!("Up {}", duration(now.since(running.started_at)));
            match health {
                _ if running.paused => format!("{up} (Paused)"),
                Some(health) => format!("{up} ({})", health_words(health.status)),
                None => up,
            }
        }
        State::Restarting { exit, .. } => format!("Restarting ({}) {} ago", exit.code, duration(now.since(exit.at))),
        State::Exited { exit, .. } => format!("Exited ({}) {} ago", exit.code, duration(now.since(exit.at))),
        State::Removing => "Removal In Progress".to_owned(),
        State::Dead => "Dead".to_owned(),
    }
}

fn health_words(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "health: starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

#[cfg(test)]
mod tests {
    use droste_model::state::{Exit, Running};

    use super::*;

    #[test]
    fn durations_are_gos() {
        const HOUR: u64 = 3600;
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * 24 * HOUR, "13 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (730 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, words) in
            [(0, "0B"), (999, "999B"), (1024, "1.024kB"), (1_984_162, "1.984MB"), (12_300_000, "12.3MB")]
        {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn states_are_told() {
        let at = Timestamp::from_secs;
        let running = |paused| State::Running(Running { pid: 1, started_at: at(10), paused });
        let health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        let exit = Exit { code: 3, at: at(20), oom_killed: false, error: String::new() };
        assert_eq!(status(&running(false), None, at(12)), "Up 2 seconds");
        assert_eq!(status(&running(false), Some(&health), at(12)), "Up 2 seconds (health: starting)");
        assert_eq!(status(&running(true), Some(&health), at(12)), "Up 2 seconds (Paused)");
        assert_eq!(status(&State::Exited { exit, started_at: at(10) }, None, at(80)), "Exited (3) About a minute ago");
        assert_eq!(status(&State::Created { failed: None }, None, at(80)), "Created");
    }
}
