//! What can go wrong, grouped by what the client can do about it.

use std::fmt;

/// What a client reads, and what only the log may say (paths of the machine, other hosts' names, errno chains).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    client: String,
    log: Option<String>,
}

impl Message {
    /// The same with words before it that the client reads.
    pub(crate) fn after(self, words: impl fmt::Display) -> Self {
        Self { client: format!("{words}{}", self.client), log: self.log }
    }

    /// A message that says everything to the client.
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: client.into(), log: None }
    }

    /// The client's half.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The log's half, if there is more to say.
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }
}

/// An operation's failure. There is no conversion to an HTTP status here: that is the daemon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The object does not exist on this host. Another host's object reads the same.
    NotFound(Message),
    /// The request itself is wrong.
    Invalid(Message),
    /// The object's state or another object is in the way.
    Conflict(Message),
    /// The object is already as asked.
    NotModified,
    /// Allowed to nobody, or not through this socket.
    Forbidden(Message),
    /// A registry wants other credentials.
    Unauthorized(Message),
    /// A later version of Droste brings it.
    NotImplemented(Message),
    /// Something that the operation needs is away at the moment.
    Unavailable(Message),
    /// A limit of the host is reached.
    Exhausted(Scarce, Message),
    /// The engine or the machine failed.
    Internal(Message),
}

/// What a host has no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// Objects that it may have.
    Number,
    /// Space that it may fill.
    Space,
    /// Requests that it may make at a time.
    Turn,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `No such container: …`, with what was typed.
    pub fn no_such_container(typed: &str) -> Self {
        Error::NotFound(Message::new(format!("No such container: {typed}")))
    }

    /// `No such image: …`, with what was typed.
    pub fn no_such_image(typed: &str) -> Self {
        Error::NotFound(Message::new(format!("No such image: {typed}")))
    }

    /// Something else is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Error::NotFound(Message::new(text))
    }

    /// The request is wrong.
    pub fn invalid(text: impl Into<String>) -> Self {
        Error::Invalid(Message::new(text))
    }

    /// Something is in the way.
    pub fn conflict(text: impl Into<String>) -> Self {
        Error::Conflict(Message::new(text))
    }

    /// Nobody may.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Error::Forbidden(Message::new(text))
    }

    /// A limit is reached.
    pub fn exhausted(what: Scarce, text: impl Into<String>) -> Self {
        Error::Exhausted(what, Message::new(text))
    }

    /// A failure of the engine whose text a client may read.
    pub fn internal(text: impl Into<String>) -> Self {
        Error::Internal(Message::new(text))
    }

    /// A failure of which the client reads `client` and only the log reads `cause`.
    pub fn hidden(client: impl Into<String>, cause: impl fmt::Display) -> Self {
        Error::Internal(Message { client: client.into(), log: Some(cause.to_string()) })
    }

    /// The same kind of failure with words before the client's text.
    pub fn after(self, words: &str) -> Self {
        let prefixed = |mut message: Message| {
            message.client.insert_str(0, words);
            message
        };
        match self {
            Error::NotFound(m) => Error::NotFound(prefixed(m)),
            Error::Invalid(m) => Error::Invalid(prefixed(m)),
            Error::Conflict(m) => Error::Conflict(prefixed(m)),
            Error::Forbidden(m) => Error::Forbidden(prefixed(m)),
            Error::Unauthorized(m) => Error::Unauthorized(prefixed(m)),
            Error::NotImplemented(m) => Error::NotImplemented(prefixed(m)),
            Error::Unavailable(m) => Error::Unavailable(prefixed(m)),
            Error::Exhausted(what, m) => Error::Exhausted(what, prefixed(m)),
            Error::Internal(m) => Error::Internal(prefixed(m)),
            Error::NotModified => Error::NotModified,
        }
    }

    /// The message, if the kind has one.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Error::NotFound(m)
            | Error::Invalid(m)
            | Error::Conflict(m)
            | Error::Forbidden(m)
            | Error::Unauthorized(m)
            | Error::NotImplemented(m)
            | Error::Unavailable(m)
            | Error::Exhausted(_, m)
            | Error::Internal(m) => Some(m),
            Error::NotModified => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(Message { client, log: Some(log) }) => write!(f, "{client}: {log}"),
            Some(Message { client, log: None }) => f.write_str(client),
            None => f.write_str("not modified"),
        }
    }
}

impl std::error::Error for Error {}
