//! The words of Go's and runc's for an errno: clients read them.

use std::io;

/// An error as Go prints it, `no such file or directory`; one that is not the kernel's as it is.
pub fn words(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.to_string() };
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if errno != libc::EIO => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
