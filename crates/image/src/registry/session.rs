//! A conversation with one endpoint: authorisation, redirects, error documents, manifests and small blobs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use droste_model::digest::Digest;
use droste_model::reference::Reference;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LINK, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;

use super::auth::{Auth, Challenge, challenge, escape};
use super::connect::Transport;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::{Registry, RegistrySettings};
use crate::hash::digest_of;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST};

/// Longest manifest or configuration that is read.
const LONGEST_DOCUMENT: u64 = 8 << 20;
const LONGEST_ERROR: u64 = 64 << 10;
const MOST_REDIRECTS: usize = 10;
/// Pages of a list of tags.
const MOST_PAGES: usize = 1000;

/// What is sent to a registry.
#[derive(Clone, Default)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query, or an absolute URL that the registry gave.
    pub(super) target: String,
    pub(super) headers: Vec<(http::HeaderName, String)>,
    pub(super) content: Option<Bytes>,
}

impl Call {
    pub(super) fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), ..Self::default() }
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn content(mut self, content: Bytes) -> Self {
        self.content = Some(content);
        self
    }
}

/// A manifest or an index as it came.
pub(super) struct Fetched {
    pub(super) document: Document,
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) raw: Vec<u8>,
}

pub(super) struct Session {
    pub(super) transport: Transport,
    pub(super) endpoint: Endpoint,
    pub(super) settings: Arc<RegistrySettings>,
    auth: Auth,
    scopes: Mutex<Vec<String>>,
    authorization: Mutex<Option<String>>,
}

impl Session {
    pub(super) fn new(
        registry: &Registry,
        endpoint: Endpoint,
        auth: Auth,
        scopes: Vec<String>,
    ) -> Result<Self, RegistryError> {
        let settings = Arc::clone(&registry.settings);
        let transport = Transport::new(Arc::clone(&registry.connect), &settings);
        let (scopes, authorization) = (Mutex::new(scopes), Mutex::default());
        Ok(Self { transport, endpoint, settings, auth, scopes, authorization })
    }

    /// Asks for more rights with the next token.
    pub(super) fn add_scope(&self, scope: String) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if !scopes.contains(&scope) {
            scopes.push(scope);
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Path of something in a repository.
    pub(super) fn path(&self, repository: &str, rest: &str) -> String {
        format!("{}/v2/{repository}/{rest}", self.endpoint.prefix)
    }

    /// Sends a call; authenticates when the registry asks for it, follows redirects of reads.
    pub(super) async fn call(&self, call: &Call) -> Result<Response<Incoming>, RegistryError> {
        let response = self.follow(call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) = response_challenge(&response) else { return Ok(response) };
        let used = self.current_authorization();
        let url = self.shown(&call.target);
        let fresh = self.authorize(&challenge, &call.method, &url).await?;
        if Some(&fresh) == used.as_ref() {
            return Ok(response);
        }
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        self.follow(call).await
    }

    pub(super) async fn follow(&self, call: &Call) -> Result<Response<Incoming>, RegistryError> {
        let mut target = call.target.clone();
        for _ in 0..=MOST_REDIRECTS {
            let (endpoint, head) = self.head(call, &target)?;
            let response = self.transport.send(&endpoint, &head, call.content.clone()).await?;
            let may_follow = matches!(call.method, Method::GET | Method::HEAD);
            if !may_follow || !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = header(&response, &LOCATION) else { return Ok(response) };
            target = absolute(&endpoint, &location);
        }
        Err(RegistryError::protocol(&self.shown(&call.target), "stopped after 10 redirects"))
    }

    /// The endpoint and the head of a request for a target.
    pub(super) fn head(&self, call: &Call, target: &str) -> Result<(Endpoint, Request<()>), RegistryError> {
        let (endpoint, path) = match Endpoint::parse_url(target) {
            Some((endpoint, path)) if endpoint.authority() == self.endpoint.authority() => {
                (Endpoint { any_certificate: self.endpoint.any_certificate, ..endpoint }, path)
            }
            Some((endpoint, path)) => (endpoint, path),
            None => (self.endpoint.clone(), target.to_owned()),
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&path)
            .header(HOST, endpoint.authority())
            .header(USER_AGENT, &self.settings.user_agent);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        // Credentials are for the registry alone, not for where it sends us, nor for the same host without TLS.
        let is_home = endpoint.authority() == self.endpoint.authority() && endpoint.https == self.endpoint.https;
        if let Some(authorization) = self.current_authorization().filter(|_| is_home) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let head = request.body(()).map_err(|error| RegistryError::protocol(target, error.to_string()))?;
        Ok((endpoint, head))
    }

    fn current_authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shown(&self, target: &str) -> String {
        if target.starts_with('/') { self.endpoint.url(target) } else { target.to_owned() }
    }

    async fn authorize(&self, challenge: &Challenge, method: &Method, url: &str) -> Result<String, RegistryError> {
        match challenge {
            Challenge::Basic => self.auth.basic().ok_or_else(|| {
                let method = if *method == Method::HEAD { "Head" } else { "Get" };
                RegistryError::NoCredentials(format!("{method} {url:?}: no basic auth credentials"))
            }),
            Challenge::Bearer { .. } if !self.auth.registry_token.is_empty() => {
                Ok(format!("Bearer {}", self.auth.registry_token))
            }
            Challenge::Bearer { realm, service, scope, .. } => {
                let token = self.token(realm, service, scope, false).await?;
                Ok(format!("Bearer {}", token.bearer()))
            }
        }
    }

    async fn token(&self, realm: &str, service: &str, scope: &str, offline: bool) -> Result<Token, RegistryError> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if scopes.is_empty() && !scope.is_empty() {
            scopes.push(scope.to_owned());
        }
        let call = if self.auth.identity_token.is_empty() {
            self.token_by_password(realm, service, &scopes, offline)
        } else {
            self.token_by_refresh(realm, service, &scopes)
        };
        let (endpoint, path) = Endpoint::parse_url(&call.target)
            .ok_or_else(|| RegistryError::protocol(realm, "the token server's address is no URL"))?;
        // A registry that may have any certificate may have its token server beside it.
        let any_certificate = self.endpoint.any_certificate && endpoint.host == self.endpoint.host;
        let endpoint = Endpoint { any_certificate, ..endpoint };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(path)
            .header(HOST, endpoint.authority())
            .header(USER_AGENT, &self.settings.user_agent);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let head = request.body(()).map_err(|error| RegistryError::protocol(realm, error.to_string()))?;
        let response = self.transport.send(&endpoint, &head, call.content.clone()).await?;
        if !response.status().is_success() {
            return Err(refusal(response, self.settings.stall).await.into_error());
        }
        let raw = read_small(response, LONGEST_DOCUMENT, self.settings.stall, realm).await?;
        let token: Token = serde_json::from_slice(&raw)
            .map_err(|error| RegistryError::protocol(realm, format!("no token: {error}")))?;
        if token.bearer().is_empty() {
            return Err(RegistryError::protocol(realm, "authorization server did not include a token in the response"));
        }
        Ok(token)
    }

    fn token_by_password(&self, realm: &str, service: &str, scopes: &[String], offline: bool) -> Call {
        let mut query: Vec<String> = Vec::new();
        if !service.is_empty() {
            query.push(format!("service={}", escape(service)));
        }
        query.extend(scopes.iter().map(|scope| format!("scope={}", escape(scope))));
        if !self.auth.username.is_empty() {
            query.push(format!("account={}", escape(&self.auth.username)));
        }
        if offline {
            query.push("offline_token=true&client_id=docker".to_owned());
        }
        let joint = if realm.contains('?') { '&' } else { '?' };
        let call = Call::new(Method::GET, format!("{realm}{joint}{}", query.join("&")));
        match self.auth.basic() {
            Some(basic) => call.header(AUTHORIZATION, basic),
            None => call,
        }
    }

    fn token_by_refresh(&self, realm: &str, service: &str, scopes: &[String]) -> Call {
        let form = format!(
            "grant_type=refresh_token&service={}&client_id=docker&scope={}&refresh_token={}",
            escape(service),
            escape(&scopes.join(" ")),
            escape(&self.auth.identity_token)
        );
        let call = Call::new(Method::POST, realm);
        call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").content(form.into())
    }

    /// Proves the credentials; gives the identity token that came back.
    pub(super) async fn log_in(&self) -> Result<Option<String>, RegistryError> {
        let call = Call::new(Method::GET, format!("{}/v2/", self.endpoint.prefix));
        let response = self.follow(&call).await?;
        let offered = response_challenge(&response);
        match offered {
            None if response.status().is_success() => Ok(None),
            Some(Challenge::Bearer { realm, service, scope, .. }) if response.status() == StatusCode::UNAUTHORIZED => {
                let token = self.token(&realm, &service, &scope, true).await?;
                let bearer = format!("Bearer {}", token.bearer());
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(bearer);
                self.prove(&call).await?;
                Ok(token.refresh_token.filter(|token| !token.is_empty()))
            }
            Some(challenge) if response.status() == StatusCode::UNAUTHORIZED => {
                let url = self.shown(&call.target);
                let fresh = self.authorize(&challenge, &Method::GET, &url).await?;
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
                self.prove(&call).await.map(|()| None)
            }
            _ => Err(refusal(response, self.settings.stall).await.into_error()),
        }
    }

    async fn prove(&self, call: &Call) -> Result<(), RegistryError> {
        let status = self.follow(call).await?.status();
        if status.is_success() {
            return Ok(());
        }
        let message = format!("login attempt to {} failed with status: {status}", self.shown(&call.target));
        Err(RegistryError::Server { status: status.as_u16(), message })
    }

    /// The manifest or index that a reference names, checked against its digest.
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        let wanted = reference.digest();
        let name = wanted.map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), |digest| digest.to_string());
        let accept = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*;q=0.1"].join(", ");
        let path = self.path(reference.path(), &format!("manifests/{name}"));
        let call = Call::new(Method::GET, &path).header(ACCEPT, accept);
        let response = self.call(&call).await?;
        if !response.status().is_success() {
            return Err(refusal(response, self.settings.stall).await.into_pull_error(reference));
        }
        let stated = header(&response, &http::HeaderName::from_static("docker-content-digest"));
        let media_type = header(&response, &CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let raw = read_small(response, LONGEST_DOCUMENT, self.settings.stall, &self.endpoint.url(&path)).await?;
        let digest = digest_of(&raw);
        let expected = wanted.or_else(|| stated.and_then(|stated| stated.parse().ok()));
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let what = format!("manifest {}", reference.familiar());
            return Err(RegistryError::WrongDigest { what, expected, actual: digest });
        }
        let document = Document::parse(&media_type, &raw)?;
        Ok(Fetched { document, media_type, digest, raw })
    }

    /// All tags of a repository, page by page.
    pub(super) async fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut target = self.path(reference.path(), "tags/list");
        for _ in 0..MOST_PAGES {
            let response = self.call(&Call::new(Method::GET, &target)).await?;
            if !response.status().is_success() {
                return Err(refusal(response, self.settings.stall).await.into_pull_error(reference));
            }
            let next = header(&response, &LINK).and_then(|link| next_page(&link));
            let raw = read_small(response, LONGEST_DOCUMENT, self.settings.stall, &target).await?;
            let page: Page = serde_json::from_slice(&raw)
                .map_err(|error| RegistryError::protocol(&self.shown(&target), format!("no list of tags: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => target = absolute(&self.endpoint, &next),
                None => return Ok(tags),
            }
        }
        Err(RegistryError::protocol(&self.shown(&target), format!("more than {MOST_PAGES} pages of tags")))
    }

    /// Fetches a document by its descriptor, checked against digest and size.
    pub(super) async fn document(&self, path: String, item: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let what = item.digest.to_string();
        if item.size > LONGEST_DOCUMENT {
            let (expected, actual) = (LONGEST_DOCUMENT, item.size);
            return Err(RegistryError::WrongSize { what, expected, actual });
        }
        let call = Call::new(Method::GET, &path).header(ACCEPT, format!("{}, */*;q=0.1", item.media_type));
        let response = self.call(&call).await?;
        if !response.status().is_success() {
            return Err(refusal(response, self.settings.stall).await.into_error());
        }
        let raw = read_small(response, LONGEST_DOCUMENT, self.settings.stall, &self.endpoint.url(&path)).await?;
        if raw.len() as u64 != item.size {
            return Err(RegistryError::WrongSize { what, expected: item.size, actual: raw.len() as u64 });
        }
        let actual = digest_of(&raw);
        if actual != item.digest {
            return Err(RegistryError::WrongDigest { what, expected: item.digest, actual });
        }
        Ok(raw)
    }

    /// Tries something again after transient failures, waiting longer each time.
    pub(super) async fn retried<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match attempt().await {
                Err(error) if error.is_transient() && tries < self.settings.attempts => {
                    tokio::time::sleep(Duration::from_millis(100 << tries.min(6))).await;
                }
                result => return result,
            }
        }
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Token {
    fn bearer(&self) -> &str {
        if self.token.is_empty() { &self.access_token } else { &self.token }
    }
}

/// A registry's no.
pub(super) struct Refusal {
    pub(super) status: u16,
    code: String,
    message: String,
}

impl Refusal {
    /// Docker's rendering: the code in lower-case words, a colon, the message.
    fn text(&self) -> String {
        if self.code.is_empty() {
            return self.message.clone();
        }
        format!("{}: {}", self.code.to_ascii_lowercase().replace('_', " "), self.message)
    }

    pub(super) fn into_error(self) -> RegistryError {
        let text = self.text();
        match self.code.as_str() {
            "UNAUTHORIZED" => RegistryError::Unauthorized(text),
            "DENIED" => RegistryError::Denied(text),
            _ => RegistryError::Server { status: self.status, message: text },
        }
    }

    fn into_pull_error(self, reference: &Reference) -> RegistryError {
        let message = self.text();
        match self.code.as_str() {
            "DENIED" => RegistryError::PullDenied { name: reference.familiar_name(), message },
            "MANIFEST_UNKNOWN" => RegistryError::ManifestUnknown { reference: reference.familiar(), message },
            "NAME_UNKNOWN" => RegistryError::RepositoryUnknown { name: reference.familiar_name(), message },
            _ => self.into_error(),
        }
    }
}

/// Reads an error reply as Docker does: OAuth's words in the challenge first, then the error document.
pub(super) async fn refusal(response: Response<Incoming>, stall: Duration) -> Refusal {
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Details {
        details: String,
    }
    let status = response.status();
    let made = |code: &str, message: &str| Refusal {
        status: status.as_u16(),
        code: code.to_owned(),
        message: message.to_owned(),
    };
    let oauth = header(&response, &WWW_AUTHENTICATE).unwrap_or_default();
    if oauth.contains("insufficient_scope") {
        return made("DENIED", "requested access to the resource is denied");
    }
    let raw = read_small(response, LONGEST_ERROR, stall, "").await.unwrap_or_default();
    let listed = serde_json::from_slice::<Errors>(&raw).ok().and_then(|list| list.errors.into_iter().next());
    if let Some(item) = listed {
        let message = item.message.filter(|message| !message.is_empty());
        return made(&item.code, &message.unwrap_or_else(|| item.code.to_ascii_lowercase().replace('_', " ")));
    }
    let details = serde_json::from_slice::<Details>(&raw).ok().map(|details| details.details);
    match status {
        StatusCode::UNAUTHORIZED => made("UNAUTHORIZED", details.as_deref().unwrap_or("authentication required")),
        StatusCode::FORBIDDEN => made("DENIED", "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => made("TOOMANYREQUESTS", details.as_deref().unwrap_or("too many requests")),
        _ => made("", &format!("received unexpected HTTP status: {status}")),
    }
}

fn response_challenge(response: &Response<Incoming>) -> Option<Challenge> {
    let offered = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let mut known: Vec<Challenge> = offered.filter_map(|value| challenge(value.to_str().ok()?)).collect();
    // A bearer token says more than a password.
    known.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    known.into_iter().next()
}

pub(super) fn header(response: &Response<Incoming>, name: &http::HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The address of `<ADDRESS>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") || rest.contains("rel=next")).then(|| address.to_owned())
}

/// A `Location` as an absolute URL.
pub(super) fn absolute(endpoint: &Endpoint, location: &str) -> String {
    if Endpoint::parse_url(location).is_some() {
        location.to_owned()
    } else if location.starts_with('/') {
        endpoint.url(location)
    } else {
        endpoint.url(&format!("/{location}"))
    }
}

/// Reads a reply that must not be long.
pub(super) async fn read_small(
    response: Response<Incoming>,
    limit: u64,
    stall: Duration,
    what: &str,
) -> Result<Vec<u8>, RegistryError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = next_piece(&mut body, stall, what).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > limit {
            let actual = bytes.len() as u64;
            return Err(RegistryError::WrongSize { what: what.to_owned(), expected: limit, actual });
        }
    }
    Ok(bytes)
}

/// The next bytes of a reply; an error if none come for too long.
pub(super) async fn next_piece(
    body: &mut Incoming,
    stall: Duration,
    what: &str,
) -> Result<Option<Bytes>, RegistryError> {
    loop {
        let frame = match tokio::time::timeout(stall, body.frame()).await {
            Err(_) => return Err(RegistryError::Stalled { what: what.to_owned(), after: stall }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(RegistryError::Cut { what: what.to_owned(), reason: super::connect::deepest(&error) });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}
