//! What can go wrong in the client, and with which exit code the program then ends.

use std::io;

/// A failure of a command. `Display` is the sentence that goes to standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A sentence, and exit code 1.
    #[error("{0}")]
    Message(String),
    /// A sentence (which may be empty) with an exit code of its own.
    #[error("{message}")]
    Status {
        /// The program's exit code.
        code: u8,
        /// What to say; nothing is printed if it is empty.
        message: String,
    },
    /// The daemon answered, and refused.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// The daemon's own words.
        message: String,
    },
    /// No daemon could be reached.
    #[error("{0}")]
    Connect(String),
    /// The daemon was reached, and the conversation broke.
    #[error("error during connect: {operation}: {source}")]
    Transport {
        /// What was being done.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file or stream on this side failed.
    #[error("{operation}: {}", io_text(source))]
    Io {
        /// What was being done, with the object's name.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The result of everything in this crate that can fail.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// A failure with a sentence and exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// A failure with an exit code of its own.
    pub(crate) fn status(code: u8, message: impl Into<String>) -> Self {
        Self::Status { code, message: message.into() }
    }

    /// A failure of a local file or stream.
    pub(crate) fn io(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Io { operation: operation.into(), source }
    }

    /// The program's exit code for this failure.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Status { code, .. } => *code,
            _ => 1,
        }
    }

    /// Whether the daemon said that the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status: 404, .. })
    }

    /// Whether the reader of our output has gone, which is nobody's error.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The system's words for an error, without Rust's "(os error N)".
pub(crate) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text).to_owned();
    match error.raw_os_error() {
        Some(_) => lower_first(&plain),
        None => plain,
    }
}

/// A file error in the words that Docker's client uses: `open PATH: no such file or directory`.
pub(crate) fn open_error(path: &str, error: io::Error) -> CliError {
    CliError::io(format!("open {path}"), error)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

impl From<io::Error> for CliError {
    fn from(source: io::Error) -> Self {
        Self::io("writing output", source)
    }
}
