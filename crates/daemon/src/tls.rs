//! TLS for listeners of the network.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use crate::options::Tls;

/// Why TLS can't be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("Could not load X509 key pair (cert: {cert:?}, key: {key:?}): {reason}")]
    KeyPair { cert: String, key: String, reason: String },
    #[error("Could not read CA certificate {path:?}: {reason}")]
    Authority { path: String, reason: String },
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?.collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

/// What a listener needs to speak TLS, checking clients' certificates if `--tlsverify` says so.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let pair_error = |reason: String| TlsError::KeyPair {
        cert: tls.cert.display().to_string(),
        key: tls.key.display().to_string(),
        reason,
    };
    let chain = certificates(&tls.cert).map_err(pair_error)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| pair_error(error.to_string()))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| pair_error(error.to_string()))?;
    let builder = match tls.verify {
        true => builder.with_client_cert_verifier(verifier(&tls.ca, provider)?),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| pair_error(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn verifier(
    path: &Path,
    provider: Arc<crypto::CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, TlsError> {
    let failed = |reason: String| TlsError::Authority { path: path.display().to_string(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(failed)? {
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| failed(error.to_string()))
}
