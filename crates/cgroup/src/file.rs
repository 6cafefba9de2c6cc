//! Small files of cgroupfs: whole reads, single writes, `key value` lines.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::CgroupError;

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// The text of a file, or nothing if there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(CgroupError::Read { source, .. }) if is_gone(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number in a file; `max` is the greatest one.
pub(crate) fn number(path: &Path) -> Result<u64, CgroupError> {
    let text = read(path)?;
    parse_number(&text).ok_or_else(|| CgroupError::Read { path: path.to_owned(), source: unreadable(&text) })
}

/// A number in a file, or nothing if there is no file or no number.
pub(crate) fn number_if_there(path: &Path) -> Option<u64> {
    parse_number(&fs::read_to_string(path).ok()?)
}

/// Writes in one `write(2)`, as the kernel expects.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// The value after a key in text of `key value` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| parse_number(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// A number, of which `max` is the greatest.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// Whether an error says that a file, or the cgroup that it was in, is not there.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Whether an error has this number.
pub(crate) fn is(error: &io::Error, number: rustix::io::Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}

fn unreadable(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{:?} is not a number", text.trim()))
}
