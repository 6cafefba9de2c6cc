//! Connections: a caller's way of making TCP streams, TLS over them, HTTP over that, and a few kept idle for reuse.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::RegistrySettings;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::proxy::{Proxies, Proxy};

/// A connection in the making.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to a host and port, in whatever network namespace, with whatever resolver.
pub type Connect = Arc<dyn Fn(&str, u16) -> Connecting + Send + Sync>;

/// Connects from where the daemon is.
pub fn direct() -> Connect {
    Arc::new(|host, port| {
        let host = host.to_owned();
        Box::pin(async move { TcpStream::connect((host.as_str(), port)).await })
    })
}

/// More idle connections than this are not kept.
const MOST_IDLE: usize = 8;
/// Longest answer of a proxy to `CONNECT`.
const LONGEST_HEAD: usize = 16 << 10;

/// The content of a request.
pub(super) enum Payload {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// Pieces from a thread that makes them.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pieces(_) => hyper::body::SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}

type Key = (bool, String, u16);

/// Makes and keeps the connections of one piece of work.
pub(super) struct Transport {
    connect: Connect,
    stall: Duration,
    certs_dirs: Vec<PathBuf>,
    client_certificates: bool,
    proxies: Proxies,
    user_agent: String,
    idle: Mutex<Vec<(Key, SendRequest<Payload>)>>,
    tls: Mutex<Vec<(String, bool, Arc<ClientConfig>)>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transport {
    pub(super) fn new(connect: Connect, settings: &RegistrySettings) -> Self {
        Self {
            connect,
            stall: settings.stall,
            certs_dirs: settings.certs_dirs.clone(),
            client_certificates: settings.client_certificates,
            proxies: settings.proxies.clone(),
            user_agent: settings.user_agent.clone(),
            idle: Mutex::default(),
            tls: Mutex::default(),
        }
    }

    /// Sends a request whose content can be given again if an idle connection turns out to be dead.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
        content: Option<Bytes>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let payload = || Payload::Whole(content.clone());
        while let Some(sender) = self.take_idle(endpoint) {
            if let Ok(response) = self.send_on(endpoint, sender, self.request(endpoint, head, payload())?).await {
                return Ok(response);
            }
        }
        let sender = self.open(endpoint, head).await?;
        self.send_on(endpoint, sender, self.request(endpoint, head, payload())?).await
    }

    /// Sends a request whose content comes in pieces, on a new connection, without a bound on the time it takes: the
    /// caller watches the pieces go.
    pub(super) async fn send_pieces(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
        pieces: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut sender = self.open(endpoint, head).await?;
        let sent = sender.send_request(self.request(endpoint, head, Payload::Pieces(pieces))?).await;
        sent.map_err(|error| unreachable(endpoint, head, &deepest(&error)))
    }

    async fn send_on(
        &self,
        endpoint: &Endpoint,
        mut sender: SendRequest<Payload>,
        request: Request<Payload>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let head = Request::builder().method(request.method()).uri(request.uri()).body(()).unwrap_or_default();
        let response = match tokio::time::timeout(self.stall, sender.send_request(request)).await {
            Err(_) => return Err(RegistryError::Stalled { what: shown_url(endpoint, &head), after: self.stall }),
            Ok(Err(error)) => return Err(unreachable(endpoint, &head, &deepest(&error))),
            Ok(Ok(response)) => response,
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push((key(endpoint), sender));
        }
        Ok(response)
    }

    /// A connection whose last response was read to its end.
    fn take_idle(&self, endpoint: &Endpoint) -> Option<SendRequest<Payload>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().position(|(other, sender)| *other == key(endpoint) && sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    async fn open(&self, endpoint: &Endpoint, head: &Request<()>) -> Result<SendRequest<Payload>, RegistryError> {
        let connecting = self.open_stream(endpoint, head);
        match tokio::time::timeout(self.stall, connecting).await {
            Ok(result) => result,
            Err(_) => {
                let place = endpoint.authority();
                Err(unreachable(endpoint, head, &format!("dial tcp {place}: i/o timeout")))
            }
        }
    }

    async fn open_stream(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
    ) -> Result<SendRequest<Payload>, RegistryError> {
        let stream = match self.proxies.choose(endpoint)? {
            Some(proxy) => self.open_through(endpoint, head, &proxy).await?,
            None => self.dial(endpoint, head, (&endpoint.host, endpoint.port), "").await?,
        };
        let stream = if endpoint.https { self.secure(endpoint, endpoint, head, stream).await? } else { stream };
        let made = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| unreachable(endpoint, head, &deepest(&error)))?;
        // Ends when the sender is dropped; its errors reach the one who sends.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
        (host, port): (&str, u16),
        prefix: &str,
    ) -> Result<Box<dyn Stream>, RegistryError> {
        let tcp = (self.connect)(host, port).await.map_err(|error| {
            let reason = format!("{prefix}dial tcp {host}:{port}: connect: {}", plain(&error));
            unreachable(endpoint, head, &reason)
        })?;
        // Requests are small and wait for their answers.
        let _ = tcp.set_nodelay(true);
        Ok(Box::new(tcp))
    }

    /// TLS with `place` over a stream, on the way to `endpoint`.
    async fn secure(
        &self,
        place: &Endpoint,
        endpoint: &Endpoint,
        head: &Request<()>,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, RegistryError> {
        let config = self.tls_config(place)?;
        let name = ServerName::try_from(place.host.clone()).map_err(|error| tls_error(place, error.to_string()))?;
        let tls = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(tls.map_err(|error| unreachable(endpoint, head, &tls_reason(&error)))?))
    }

    /// A stream to a proxy, and for TLS through it to the endpoint.
    async fn open_through(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
        proxy: &Proxy,
    ) -> Result<Box<dyn Stream>, RegistryError> {
        let mut stream = self.dial(endpoint, head, (&proxy.host, proxy.port), "proxyconnect tcp: ").await?;
        if proxy.https {
            stream = self.secure(&proxy.endpoint(), endpoint, head, stream).await?;
        }
        if endpoint.https {
            let tunnelled = tunnel(&mut stream, endpoint, proxy, &self.user_agent).await;
            tunnelled.map_err(|error| unreachable(endpoint, head, &error.to_string()))?;
        }
        Ok(stream)
    }

    /// The request as it goes out: a proxy is told the whole address, unless it only passes bytes on.
    fn request(
        &self,
        endpoint: &Endpoint,
        head: &Request<()>,
        payload: Payload,
    ) -> Result<Request<Payload>, RegistryError> {
        let mut request = with_payload(head, payload);
        let Some(proxy) = self.proxies.choose(endpoint)?.filter(|_| !endpoint.https) else { return Ok(request) };
        let invalid =
            |error: &dyn std::fmt::Display| RegistryError::protocol(&shown_url(endpoint, head), error.to_string());
        *request.uri_mut() =
            shown_url(endpoint, head).parse().map_err(|error: http::uri::InvalidUri| invalid(&error))?;
        if let Some(authorization) = proxy.authorization {
            let value = http::HeaderValue::from_str(&authorization).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn tls_config(&self, endpoint: &Endpoint) -> Result<Arc<ClientConfig>, RegistryError> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let (authority, any) = (endpoint.authority(), endpoint.any_certificate);
        if let Some((_, _, config)) = known.iter().find(|(other, any_too, _)| *other == authority && *any_too == any) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make_tls(endpoint, &self.certs_dirs, self.client_certificates)?);
        known.push((authority, any, Arc::clone(&config)));
        Ok(config)
    }
}

/// Asks a proxy to pass bytes on to the endpoint.
async fn tunnel(stream: &mut Box<dyn Stream>, endpoint: &Endpoint, proxy: &Proxy, user_agent: &str) -> io::Result<()> {
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let place = format!("{host}:{}", endpoint.port);
    let authorization = proxy.authorization.iter().map(|value| format!("Proxy-Authorization: {value}\r\n"));
    let authorization: String = authorization.collect();
    let request =
        format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: {user_agent}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head is the endpoint's.
        head.push(stream.read_u8().await?);
        if head.len() > LONGEST_HEAD {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' ')).map_or("", |(_, status)| status);
    if status.split(' ').next() == Some("200") {
        return Ok(());
    }
    // As Go has it: the words without the number.
    let words = status.split_once(' ').map_or(status, |(_, words)| words);
    Err(io::Error::other(if words.is_empty() { "the proxy speaks no HTTP".to_owned() } else { words.to_owned() }))
}

fn key(endpoint: &Endpoint) -> Key {
    (endpoint.https, endpoint.host.clone(), endpoint.port)
}

fn with_payload(head: &Request<()>, payload: Payload) -> Request<Payload> {
    let mut request = Request::new(payload);
    *request.method_mut() = head.method().clone();
    *request.uri_mut() = head.uri().clone();
    *request.headers_mut() = head.headers().clone();
    request
}

fn shown_url(endpoint: &Endpoint, head: &Request<()>) -> String {
    endpoint.url(head.uri().path_and_query().map_or("/", |path| path.as_str()))
}

pub(super) fn unreachable(endpoint: &Endpoint, head: &Request<()>, reason: &str) -> RegistryError {
    // As Go names methods in its errors.
    let method = head.method().as_str();
    let method = method[..1].to_owned() + &method[1..].to_ascii_lowercase();
    RegistryError::Unreachable { method, url: shown_url(endpoint, head), reason: reason.to_owned() }
}

fn tls_error(endpoint: &Endpoint, reason: impl Into<String>) -> RegistryError {
    RegistryError::Tls { host: endpoint.authority(), reason: reason.into() }
}

/// The kernel's words without Rust's numbers.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => rustix::io::Errno::from_raw_os_error(code)
            .to_string()
            .split(" (os error")
            .next()
            .map_or_else(|| error.to_string(), |text| text.to_lowercase()),
        None => error.to_string(),
    }
}

/// The words of the innermost cause.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn tls_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        // Bytes that are no TLS record: most likely `HTTP/1.1 400`.
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        Some(rustls::Error::InvalidCertificate(reason)) => {
            format!("tls: failed to verify certificate: {reason:?}")
        }
        Some(other) => format!("tls: {other}"),
        None => format!("tls: {}", plain(error)),
    }
}

fn make_tls(endpoint: &Endpoint, certs_dirs: &[PathBuf], as_client: bool) -> Result<ClientConfig, RegistryError> {
    let extra = Extra::read(endpoint, certs_dirs)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_error(endpoint, error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = if endpoint.any_certificate {
        Arc::new(AnyCertificate(provider))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in extra.roots {
            roots.add(certificate).map_err(|error| tls_error(endpoint, error.to_string()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map_err(|error| tls_error(endpoint, format!("no usable root certificates: {error}")))?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match extra.client.filter(|_| as_client) {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| tls_error(endpoint, error.to_string()))
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// What `certs.d/HOST:PORT/` adds for a registry.
#[derive(Default)]
struct Extra {
    roots: Vec<CertificateDer<'static>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Extra {
    fn read(endpoint: &Endpoint, certs_dirs: &[PathBuf]) -> Result<Self, RegistryError> {
        let mut extra = Self::default();
        let with_port = format!("{}:{}", endpoint.host, endpoint.port);
        for directory in certs_dirs {
            for name in [endpoint.authority(), with_port.clone()] {
                extra.add(endpoint, &directory.join(&name))?;
            }
        }
        Ok(extra)
    }

    fn add(&mut self, endpoint: &Endpoint, directory: &Path) -> Result<(), RegistryError> {
        // No folder is no extra certificate.
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.roots.extend(certificates(endpoint, &path)?),
                Some("cert") => {
                    let key_path = path.with_extension("key");
                    let key = PrivateKeyDer::from_pem_file(&key_path)
                        .map_err(|error| tls_error(endpoint, format!("{}: {error}", key_path.display())))?;
                    self.client = Some((certificates(endpoint, &path)?, key));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn certificates(endpoint: &Endpoint, path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let failed = |error: rustls::pki_types::pem::Error| tls_error(endpoint, format!("{}: {error}", path.display()));
    CertificateDer::pem_file_iter(path).map_err(failed)?.map(|item| item.map_err(failed)).collect()
}

/// For registries that are configured as insecure: whoever answers is believed.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
