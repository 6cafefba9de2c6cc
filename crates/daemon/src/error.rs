//! Failures as clients read them: the only place that knows status codes for the engine's errors.

use droste_api::{Fault, RequestError};
use hyper::StatusCode;

use crate::http::BodyError;

/// A failure that becomes a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The response's status.
    pub(crate) status: StatusCode,
    /// What the client reads.
    pub(crate) message: String,
    /// What only the log may say.
    pub(crate) log: Option<String>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), log: None }
    }

    /// Docker's answer for a path that does not exist.
    pub(crate) fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let status = match error.fault {
            Fault::Client => StatusCode::BAD_REQUEST,
            Fault::Server => StatusCode::INTERNAL_SERVER_ERROR,
            Fault::Missing => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.message)
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<droste_engine::Error> for Failure {
    fn from(error: droste_engine::Error) -> Self {
        use droste_engine::{Error, Scarce};
        let status = match &error {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::NotModified => StatusCode::NOT_MODIFIED,
            Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Error::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            // Not 409, which clients take for a name in use, and not 500, which some try again at once.
            Error::Exhausted(Scarce::Number, _) => StatusCode::FORBIDDEN,
            Error::Exhausted(Scarce::Space, _) => StatusCode::INSUFFICIENT_STORAGE,
            Error::Exhausted(Scarce::Turn, _) => StatusCode::TOO_MANY_REQUESTS,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let client = error.message().map(|message| message.client().to_owned()).unwrap_or_default();
        let log = error.message().and_then(|message| message.log().map(str::to_owned));
        Self { status, message: client, log }
    }
}

/// A handler's result.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
