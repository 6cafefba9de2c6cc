//! The daemon's log: text or JSON on standard error, with a level that can change.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object each line.
    Json,
}

static LEVEL: AtomicU8 = AtomicU8::new(3);
static STARTED: OnceLock<()> = OnceLock::new();

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Reads dockerd's names of levels.
pub(crate) fn level(name: &str) -> Option<Level> {
    Some(match name {
        "fatal" | "panic" | "error" => Level::ERROR,
        "warn" | "warning" => Level::WARN,
        "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => return None,
    })
}

/// Changes the level from now on.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(rank(level), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    // Droste's own words at the level asked for, those of libraries only if they matter.
    let own = metadata.target().starts_with("droste");
    let most = LEVEL.load(Ordering::Relaxed);
    rank(*metadata.level()) <= if own { most } else { most.min(2) }
}

/// Starts the log; a second call only sets the level.
pub(crate) fn start(level: Level, format: Format) {
    set_level(level);
    STARTED.get_or_init(|| {
        let filter = FilterFn::new(is_wanted).with_max_level_hint(LevelFilter::TRACE);
        let base = Registry::default();
        let installed = match format {
            Format::Text => base.with(text().with_filter(filter)).try_init(),
            Format::Json => base.with(json().with_filter(filter)).try_init(),
        };
        if installed.is_err() {
            tracing::warn!("another log was started before");
        }
    });
}

fn text<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false)
}

fn json<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt::layer().json().with_writer(std::io::stderr).with_current_span(true).with_span_list(false)
}
