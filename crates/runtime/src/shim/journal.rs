//! The container's log, in Docker's json-file format: lines, partial lines of 16 KiB, rotation, compression.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use droste_runtime::plan::LogPlan;
use droste_runtime::sys::process::{Forked, fork};
use rustix::process::{Pid, WaitOptions, waitpid};

const PARTIAL: usize = 16 * 1024;
const LOW_PRIORITY: i32 = 10;

/// One of the process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// When the first part of a partial line was seen.
    began: Option<String>,
}

/// An open log.
pub(crate) struct Journal {
    plan: LogPlan,
    file: File,
    size: u64,
    attrs: Vec<u8>,
    lines: [Line; 2],
    entries: Vec<u8>,
    compressor: Option<Pid>,
}

impl Journal {
    pub(crate) fn open(plan: LogPlan) -> io::Result<Self> {
        let file = open_log(&plan.path)?;
        let size = file.metadata()?.len();
        let attrs = encode_attrs(&plan.attrs);
        Ok(Self { plan, file, size, attrs, lines: Default::default(), entries: Vec::new(), compressor: None })
    }

    /// Takes what was read from a source, and writes the lines that are complete.
    pub(crate) fn append(&mut self, source: Source, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let line = &mut self.lines[source as usize];
            let room = &bytes[..bytes.len().min(PARTIAL - line.bytes.len())];
            match room.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line.bytes.extend_from_slice(&bytes[..=end]);
                    bytes = &bytes[end + 1..];
                    self.entry(source, true)?;
                }
                None => {
                    line.bytes.extend_from_slice(room);
                    bytes = &bytes[room.len()..];
                    if line.bytes.len() == PARTIAL {
                        self.entry(source, false)?;
                    }
                }
            }
        }
        self.write_out()
    }

    /// Writes what is left of a source at its end.
    pub(crate) fn finish(&mut self, source: Source) -> io::Result<()> {
        if !self.lines[source as usize].bytes.is_empty() {
            self.entry(source, false)?;
        }
        self.write_out()
    }

    fn entry(&mut self, source: Source, whole: bool) -> io::Result<()> {
        let line = &mut self.lines[source as usize];
        let time = line.began.take().unwrap_or_else(timestamp);
        let before = self.entries.len();
        encode(&mut self.entries, &line.bytes, source, &self.attrs, &time);
        line.bytes.clear();
        if !whole {
            line.began = Some(time);
        }
        let total = self.size + self.entries.len() as u64;
        if before > 0 && self.plan.max_size.is_some_and(|limit| total > limit) {
            let last = self.entries.split_off(before);
            self.write_out()?;
            self.entries = last;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let length = self.entries.len() as u64;
        if self.size > 0 && self.plan.max_size.is_some_and(|limit| self.size + length > limit) {
            self.rotate()?;
        }
        self.file.write_all(&self.entries)?;
        self.size += length;
        self.entries.clear();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.plan.max_file < 2 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        self.await_compressor();
        let path = &self.plan.path;
        for number in (1..self.plan.max_file - 1).rev() {
            for suffix in ["", ".gz"] {
                rename_if_there(&format!("{path}.{number}{suffix}"), &format!("{path}.{}{suffix}", number + 1))?;
            }
        }
        rename_if_there(path, &format!("{path}.1"))?;
        self.file = open_log(path)?;
        self.size = 0;
        if self.plan.compress { self.compress() } else { Ok(()) }
    }

    /// Compresses in a child, so that the container never waits and the memory is given back.
    fn compress(&mut self) -> io::Result<()> {
        // SAFETY: the shim has a single thread.
        match unsafe { fork(0, None) }? {
            Forked::Parent(pid) => self.compressor = Some(pid),
            Forked::Child => {
                let _ = rustix::process::nice(LOW_PRIORITY);
                let path = format!("{}.1", self.plan.path);
                std::process::exit(i32::from(compress_file(&path).is_err()));
            }
        }
        Ok(())
    }

    /// A renamed file must not be the one that is being compressed.
    fn await_compressor(&mut self) {
        if let Some(pid) = self.compressor.take() {
            // It may have been reaped with other children already.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn open_log(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn rename_if_there(from: &str, to: &str) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn compress_file(path: &str) -> io::Result<()> {
    let partial = format!("{path}.gz.tmp");
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&partial)?;
    let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&partial, format!("{path}.gz"))?;
    fs::remove_file(path)
}

fn encode_attrs(attrs: &[(String, String)]) -> Vec<u8> {
    let mut sorted = attrs.to_vec();
    sorted.sort();
    let mut bytes = Vec::new();
    for (index, (key, value)) in sorted.iter().enumerate() {
        bytes.extend_from_slice(if index == 0 { b",\"attrs\":{" } else { b"," });
        string(&mut bytes, key.as_bytes());
        bytes.push(b':');
        string(&mut bytes, value.as_bytes());
    }
    if !bytes.is_empty() {
        bytes.push(b'}');
    }
    bytes
}

fn encode(out: &mut Vec<u8>, line: &[u8], source: Source, attrs: &[u8], time: &str) {
    out.extend_from_slice(b"{\"log\":");
    string(out, line);
    out.extend_from_slice(match source {
        Source::Stdout => b",\"stream\":\"stdout\"",
        Source::Stderr => b",\"stream\":\"stderr\"",
    });
    out.extend_from_slice(attrs);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// A JSON string as Go writes it: HTML's letters are escaped, and what is no UTF-8 becomes U+FFFD.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escape(out, letter),
                _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, letter: char) {
    out.extend_from_slice(format!("\\u{:04x}", letter as u32).as_bytes());
}

/// The time as Go's `RFC3339Nano` writes it: zeros at the end of the fraction are left out.
fn timestamp() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    rfc3339(now.tv_sec, now.tv_nsec)
}

fn rfc3339(seconds: i64, nanos: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text.push('Z');
    text
}

/// The date of a day counted from 1970-01-01, by counting years from March (so that leap days come last).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_164_800, 120_000_000), "2024-02-29T00:00:00.12Z");
        assert_eq!(rfc3339(1_767_225_599, 1), "2025-12-31T23:59:59.000000001Z");
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let mut out = Vec::new();
        string(&mut out, b"a\"\\<&\x01\xff\xc3\xa9\n");
        assert_eq!(out, "\"a\\\"\\\\\\u003c\\u0026\\u0001\\ufffd\u{e9}\\n\"".as_bytes());
    }
}
