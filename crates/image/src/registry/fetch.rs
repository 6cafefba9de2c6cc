//! Fetches what a URL names, for imports: with the proxies, certificates and patience of pulls, and no credentials.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use hyper::{Method, Response};

use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::session::{Call, Session, header, next_piece, read_small};
use super::{Auth, Registry};

/// As much of an error page as is passed on.
const LONGEST_ERROR: u64 = 8 << 10;

/// Content on its way in.
pub struct Incoming {
    /// Bytes that are announced; `None` if the server does not say.
    pub size: Option<u64>,
    body: hyper::body::Incoming,
    session: Session,
    url: String,
}

impl Registry {
    /// Begins to fetch a URL; redirects are followed. The texts of errors are Docker's.
    pub async fn fetch(&self, url: &str) -> Result<Incoming, RegistryError> {
        if let Some((scheme, _)) = url.split_once("://").filter(|(scheme, _)| !matches!(*scheme, "http" | "https")) {
            let reason = format!("unsupported protocol scheme {scheme:?}");
            return Err(RegistryError::Unreachable { method: "Get".to_owned(), url: url.to_owned(), reason });
        }
        let invalid = || RegistryError::InvalidUrl(url.to_owned());
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        let (endpoint, path) = Endpoint::parse_url(url).filter(|_| is_plain).ok_or_else(invalid)?;
        let session = Session::new(self, endpoint, Auth::default(), Vec::new())?;
        // What follows a number sign is the client's own affair.
        let path = path.split('#').next().unwrap_or("/").to_owned();
        let response = session.follow(&Call::new(Method::GET, path)).await?;
        if !response.status().is_success() {
            return Err(refused(url, response, &session).await);
        }
        let size = header(&response, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
        Ok(Incoming { size, body: response.into_body(), session, url: url.to_owned() })
    }
}

async fn refused(url: &str, response: Response<hyper::body::Incoming>, session: &Session) -> RegistryError {
    let status = response.status();
    let own = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let words = own.map(|words| String::from_utf8_lossy(words.as_bytes()).into_owned());
    let words = words.or_else(|| status.canonical_reason().map(str::to_owned)).unwrap_or_default();
    let page = read_small(response, LONGEST_ERROR, session.settings.stall, url).await.unwrap_or_default();
    let page = String::from_utf8_lossy(&page).trim().to_owned();
    let message = format!("failed to GET {url} with status {} {words}: {page}", status.as_u16());
    RegistryError::Server { status: status.as_u16(), message }
}

impl Incoming {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        next_piece(&mut self.body, self.session.settings.stall, &self.url).await
    }
}
