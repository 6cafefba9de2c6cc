//! Log drivers: their options, what the shim is told to write, and reading it back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use droste_model::time::Timestamp;
use droste_runtime::logs::{Entries, Entry, Options, read};
use droste_runtime::plan::LogPlan;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::{LogLine, LogOptions, Logs, StreamKind};
use crate::record::ContainerRecord;

/// Lines on the way to a client.
const LINES_AHEAD: usize = 16;

/// The most bytes of labels, variables and tag in a line: each line has them, in the file and in memory.
const MOST_ATTRIBUTES: usize = 64 << 10;

/// Docker's limits of the driver `local`.
const LOCAL_SIZE: u64 = 20_000_000;
const LOCAL_FILES: u32 = 5;

const JSON_FILE_OPTIONS: [&str; 10] = [
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];
const LOCAL_OPTIONS: [&str; 5] = ["max-size", "max-file", "compress", "mode", "max-buffer-size"];

/// Refuses options that a driver does not have, or that make no sense.
pub(crate) fn check_options(driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let known: &[&str] = match driver {
        "json-file" => &JSON_FILE_OPTIONS,
        "local" => &LOCAL_OPTIONS,
        _ => return Ok(()),
    };
    if let Some(unknown) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Error::invalid(format!("unknown log opt '{unknown}' for {driver} log driver")));
    }
    if let Some(size) = options.get("max-size").filter(|size| size.as_str() != "-1") {
        bytes(size).ok_or_else(|| Error::invalid(format!("invalid value for max-size: {size:?}, for example 10m")))?;
    }
    if let Some(files) = options.get("max-file") {
        let count = files.parse::<u32>().ok().filter(|count| *count > 0);
        count.ok_or_else(|| Error::invalid(format!("invalid value for max-file: {files:?}, a positive number")))?;
    }
    if let Some(compress) = options.get("compress").filter(|text| boolean(text).is_none()) {
        return Err(Error::invalid(format!("invalid value for compress: {compress:?}, true or false")));
    }
    check_mode(options)
}

/// The shim writes to a file and keeps no lines back, so it never waits for a reader and both modes do the same.
fn check_mode(options: &BTreeMap<String, String>) -> Result<()> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let Some(size) = options.get("max-buffer-size") else { return Ok(()) };
    if mode != "non-blocking" {
        return Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
    }
    match bytes(size) {
        Some(_) => Ok(()),
        None => Err(Error::invalid(format!("error parsing option max-buffer-size: invalid size: '{size}'"))),
    }
}

/// A truth as Go writes it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `10m`, `512k`, `1g`, `4096`, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower);
    let (number, factor) = match lower.chars().last()? {
        'k' => (&lower[..lower.len() - 1], 1 << 10),
        'm' => (&lower[..lower.len() - 1], 1 << 20),
        'g' => (&lower[..lower.len() - 1], 1 << 30),
        't' => (&lower[..lower.len() - 1], 1 << 40),
        _ => (lower, 1),
    };
    number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor))
}

/// The log's name in the container's folder.
pub(crate) fn file_name(record: &ContainerRecord) -> Option<String> {
    match record.host_config.log.driver.as_str() {
        "none" => None,
        "local" => Some("local-logs/container.log".to_owned()),
        _ => Some(format!("{}-json.log", record.id)),
    }
}

/// What the shim writes; `None` for the driver `none`.
pub(crate) fn plan(record: &ContainerRecord, folder: &Path) -> Option<LogPlan> {
    let path = folder.join(file_name(record)?);
    let options = &record.host_config.log.options;
    let local = record.host_config.log.driver == "local";
    let max_size = options.get("max-size").and_then(|size| bytes(size)).or(local.then_some(LOCAL_SIZE));
    let max_file = options.get("max-file").and_then(|files| files.parse().ok());
    if let Some(parent) = path.parent() {
        let _ = std::fs::create_dir_all(parent);
    }
    Some(LogPlan {
        path: path.to_string_lossy().into_owned(),
        max_size,
        max_file: max_file.unwrap_or(if local { LOCAL_FILES } else { 1 }),
        compress: options.get("compress").map_or(local, |compress| boolean(compress) == Some(true)),
        attrs: attributes(record),
    })
}

/// Refuses what would make each line huge.
pub(crate) fn check_attributes(record: &ContainerRecord) -> Result<()> {
    let bytes: usize = attributes(record).iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes <= MOST_ATTRIBUTES {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "logger: labels, variables and tag have {bytes} bytes together, and a line of the log takes {MOST_ATTRIBUTES} of them: name fewer"
    )))
}

/// Labels, variables and tag that the options ask for in every line.
fn attributes(record: &ContainerRecord) -> Vec<(String, String)> {
    let options = &record.host_config.log.options;
    let list =
        |key: &str| options.get(key).map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let (labels, variables): (Vec<String>, Vec<String>) = (list("labels"), list("env"));
    let mut attributes = Vec::new();
    for name in &labels {
        if let Some(value) = record.config.labels.get(name) {
            attributes.push((name.clone(), value.clone()));
        }
    }
    for entry in &record.config.env {
        if let Some((name, value)) =
            entry.split_once('=').filter(|(name, _)| variables.iter().any(|wanted| wanted == name))
        {
            attributes.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.push(("tag".to_owned(), expand_tag(tag, record)));
    }
    attributes
}

/// The placeholders of Docker's log tags.
fn expand_tag(tag: &str, record: &ContainerRecord) -> String {
    let values = [
        ("{{.ID}}", record.id.short()),
        ("{{.FullID}}", record.id.as_str()),
        ("{{.Name}}", record.name.as_str()),
        ("{{.ImageName}}", record.config.image.as_str()),
        ("{{.ImageFullID}}", record.image.as_str()),
        ("{{.DaemonName}}", "droste"),
    ];
    values.iter().fold(tag.to_owned(), |text, (name, value)| text.replace(name, value))
}

impl Host {
    /// A container's log, to its end or following it until the container stops.
    pub async fn logs(&self, at: &str, options: LogOptions) -> Result<Logs> {
        if !(options.stdout || options.stderr) {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let container = self.member(at)?;
        let record = container.record().clone();
        let name =
            file_name(&record).ok_or_else(|| Error::internal("configured logging driver does not support reading"))?;
        let path = self.engine.container_dir(&record.id).join(name);
        let wanted = Options {
            tail: options.tail,
            since: options.since.map(system_time),
            until: options.until.map(system_time),
            follow: options.follow && container.state().running().is_some(),
        };
        let owned = Arc::clone(&container);
        let entries = read(path, wanted, async move { owned.stopped().await });
        let (client, lines) = mpsc::channel(LINES_AHEAD);
        tokio::spawn(forward(entries, client, options));
        Ok(Logs { tty: record.config.tty, lines })
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(0))
}

/// Carries entries of the streams that the client wants, until the end or until the client goes.
async fn forward(mut entries: Entries, client: mpsc::Sender<Result<LogLine>>, options: LogOptions) {
    loop {
        let next = tokio::select! {
            next = entries.next() => next,
            () = client.closed() => return,
        };
        let line = match next {
            Ok(Some(entry)) => line_of(entry, &options),
            // A container that has not written anything yet has no log.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => Some(Err(Error::hidden("the log could not be read", error))),
            Ok(None) => return,
        };
        if let Some(line) = line
            && client.send(line).await.is_err()
        {
            return;
        }
    }
}

fn line_of(entry: Entry, options: &LogOptions) -> Option<Result<LogLine>> {
    let (stream, wanted) = match entry.stream {
        droste_runtime::Stream::Stdout => (StreamKind::Stdout, options.stdout),
        droste_runtime::Stream::Stderr => (StreamKind::Stderr, options.stderr),
    };
    let nanos = entry.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let attrs: Vec<String> = entry.attrs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    wanted.then(|| {
        Ok(LogLine {
            stream,
            time: Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
            bytes: Bytes::from(entry.bytes),
            attrs: attrs.join(","),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let check = |driver: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            check_options(driver, &options)
        };
        assert!(check("json-file", &[("max-size", "10m"), ("max-file", "3"), ("labels", "a,b")]).is_ok());
        assert!(check("json-file", &[("max-file", "3")]).is_ok());
        assert!(check("json-file", &[("compress", "x")]).is_err());
        assert!(check("local", &[("mode", "non-blocking"), ("max-buffer-size", "4m")]).is_ok());
        assert!(check("json-file", &[("max-size", "ten")]).is_err());
        assert_eq!(
            check("local", &[("labels", "a")]).unwrap_err().to_string(),
            "unknown log opt 'labels' for local log driver"
        );
    }

    #[test]
    fn sizes_have_dockers_units() {
        assert_eq!(
            ["10m", "1k", "2G", "7", "3kb", "1MiB"].map(bytes),
            [10 << 20, 1 << 10, 2 << 30, 7, 3 << 10, 1 << 20].map(Some)
        );
        assert_eq!(["", "m", "1.5m", "-1"].map(bytes), [None; 4]);
    }
}
