//! Why a request can't be understood: Docker's text, and whether Docker blames the client or itself.

/// A request that does not parse. Nothing of the engine was asked so far.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// Docker's text.
    pub message: String,
    /// What Docker's answer is.
    pub fault: Fault,
}

/// Whom Docker blames. It answers some malformed values as its own failure, and clients' tests know that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong (400).
    Client,
    /// Docker says that it failed (500), although the value was wrong.
    Server,
    /// What the request names does not exist (404).
    Missing,
}

impl RequestError {
    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { message: message.into(), fault: Fault::Client }
    }

    /// The request is wrong, but Docker answers 500.
    pub fn server(message: impl Into<String>) -> Self {
        Self { message: message.into(), fault: Fault::Server }
    }
}

/// The result of parsing.
pub type Result<T, E = RequestError> = std::result::Result<T, E>;
