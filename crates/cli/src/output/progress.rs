//! Streams of progress: one line per layer on a terminal, plain lines elsewhere; and a counter for bytes that we send
//! or receive ourselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::human::size;
use crate::error::{CliError, Result};
use crate::net::client::broken;
use crate::net::http::Response;
use crate::session::Fd;
use crate::terminal;

/// One message of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    id: String,
    status: String,
    stream: String,
    progress: String,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    error: String,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    aux: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: i64,
    total: i64,
    units: String,
    #[serde(rename = "hidecounts")]
    hide_counts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
}

/// Shows a stream of messages.
pub(crate) struct Progress {
    out: Fd,
    terminal: bool,
    quiet: bool,
    lines: Vec<String>,
    /// What the stream said beside the progress.
    pub(crate) aux: Vec<Value>,
    /// The last words of a stream that is not shown.
    pub(crate) last: String,
}

impl Progress {
    pub(crate) fn new(to_stderr: bool, quiet: bool) -> Self {
        let terminal = if to_stderr { terminal::stderr_is_terminal() } else { terminal::stdout_is_terminal() };
        let out = if to_stderr { Fd::Err } else { Fd::Out };
        Self { out, terminal, quiet, lines: Vec::new(), aux: Vec::new(), last: String::new() }
    }

    /// Shows messages until the stream ends; a message about an error is this command's error.
    pub(crate) fn follow(&mut self, response: Response) -> Result<()> {
        let mut reader = BufReader::with_capacity(64 * 1024, response);
        let mut line = Vec::new();
        loop {
            line.clear();
            let size = reader.read_until(b'\n', &mut line).map_err(|e| broken("reading the progress", e))?;
            if size == 0 {
                return Ok(());
            }
            for message in serde_json::Deserializer::from_slice(&line).into_iter::<Message>() {
                let message =
                    message.map_err(|e| CliError::new(format!("the daemon's answer could not be read: {e}")))?;
                self.show(message)?;
            }
        }
    }

    fn show(&mut self, message: Message) -> Result<()> {
        let error = message.error_detail.map_or(message.error, |detail| detail.message);
        if !error.is_empty() {
            return Err(CliError::new(error));
        }
        if let Some(aux) = message.aux {
            self.aux.push(aux);
            return Ok(());
        }
        if self.quiet {
            if !message.stream.trim().is_empty() {
                message.stream.trim().clone_into(&mut self.last);
            }
            return Ok(());
        }
        let bar = message.detail.as_ref().map(bar).unwrap_or_default();
        let text = if self.terminal {
            let counted = message.detail.is_some() || !message.progress.is_empty();
            self.on_terminal(&message.id, &message.status, &message.stream, counted, &bar)
        } else if !bar.is_empty() {
            return Ok(());
        } else {
            plain(&message.id, &message.status, &message.stream)
        };
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// The text and the cursor's moves that put a message on its line.
    fn on_terminal(&mut self, id: &str, status: &str, stream: &str, counted: bool, bar: &str) -> String {
        if id.is_empty() || !counted {
            self.lines.clear();
            return plain(id, status, stream);
        }
        let mut text = String::new();
        let at = self.lines.iter().position(|known| known == id).unwrap_or_else(|| {
            self.lines.push(id.to_owned());
            text.push('\n');
            self.lines.len() - 1
        });
        let up = self.lines.len() - at;
        text.push_str(&format!("\x1b[{up}A\x1b[2K\r{id}: {status} {bar}\r\x1b[{up}B"));
        text
    }
}

fn plain(id: &str, status: &str, stream: &str) -> String {
    if !stream.is_empty() {
        return stream.to_owned();
    }
    if id.is_empty() { format!("{status}\n") } else { format!("{id}: {status}\n") }
}

fn bar(detail: &Detail) -> String {
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    let count = |n: i64| if detail.units.is_empty() { size(n as f64) } else { format!("{n}") };
    if detail.total <= 0 {
        return format!("{:>8} {}", count(detail.current), detail.units).trim_end().to_owned();
    }
    let done = ((detail.current as f64 / detail.total as f64 * 100.0) as usize / 2).min(50);
    let mut text = String::new();
    if terminal::columns() > 110 {
        text = format!("[{}>{}] ", "=".repeat(done), " ".repeat(50 - done));
    }
    if !detail.hide_counts {
        text.push_str(&format!("{:>8}", count(detail.current)));
        if detail.current <= detail.total {
            text.push_str(&format!("/{}", count(detail.total)));
        }
    }
    text
}

/// Counts bytes that pass, on standard error if that is a terminal.
pub(crate) struct Counter<R> {
    inner: R,
    label: String,
    done: u64,
    total: Option<u64>,
    shown: Option<Instant>,
    on: bool,
}

impl<R> Counter<R> {
    pub(crate) fn new(inner: R, label: impl Into<String>, total: Option<u64>, quiet: bool) -> Self {
        let on = !quiet && terminal::stderr_is_terminal();
        Self { inner, label: label.into(), done: 0, total, shown: None, on }
    }

    /// How many bytes have passed.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let due = self.shown.is_none_or(|at| at.elapsed() > Duration::from_millis(100));
        if self.on && due {
            self.shown = Some(Instant::now());
            let total = self.total.map(|t| format!("/{}", size(t as f64))).unwrap_or_default();
            eprint!("\r\x1b[2K{} {}{total}", self.label, size(self.done as f64));
        }
    }
}

impl<R> Drop for Counter<R> {
    fn drop(&mut self) {
        if self.on && self.shown.is_some() {
            eprint!("\r\x1b[2K");
        }
    }
}

impl<R: Read> Read for Counter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.add(size);
        Ok(size)
    }
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let size = self.inner.write(bytes)?;
        self.add(size);
        Ok(size)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress { out: Fd::Out, terminal: true, quiet: false, lines: Vec::new(), aux: Vec::new(), last: String::new() }
    }

    #[test]
    fn each_layer_keeps_its_line() {
        let mut shown = progress();
        assert_eq!(shown.on_terminal("a", "Pulling", "", true, ""), "\n\x1b[1A\x1b[2K\ra: Pulling \r\x1b[1B");
        assert_eq!(shown.on_terminal("b", "Pulling", "", true, ""), "\n\x1b[1A\x1b[2K\rb: Pulling \r\x1b[1B");
        assert_eq!(shown.on_terminal("a", "Done", "", true, ""), "\x1b[2A\x1b[2K\ra: Done \r\x1b[2B");
        assert_eq!(shown.on_terminal("", "Status", "", false, ""), "Status\n");
    }

    #[test]
    fn errors_end_the_stream() {
        let message = serde_json::from_str(r#"{"errorDetail":{"message":"no"},"error":"no"}"#).unwrap();
        assert_eq!(progress().show(message).unwrap_err().to_string(), "no");
    }
}
