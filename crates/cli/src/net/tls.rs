//! TLS to a daemon on TCP, and for those who come to us as to one: the three files that Docker uses, with rustls.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, StreamOwned,
};

use super::stream::Stream;

/// Which files to trust and to present.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// `--tls` without `--tlsverify`: encrypt, and believe whoever answers.
    pub(crate) skip_verify: bool,
}

/// Turns a TCP connection into a TLS one.
pub(crate) fn wrap(socket: TcpStream, host: &str, files: &TlsFiles) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = config(files)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
}

fn config(files: &TlsFiles) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if files.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    } else {
        builder.with_root_certificates(roots(files)?)
    };
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) if cert.exists() || key.exists() => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(io::Error::other)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// What a server needs: its certificate and key, and with `verify` the authority that signs its clients' certificates.
pub(crate) fn server(files: &TlsFiles, verify: bool) -> io::Result<ServerConfig> {
    let missing = |flag: &str| io::Error::other(format!("{flag} is needed to serve TLS"));
    let certificate = files.cert.as_ref().ok_or_else(|| missing("--tlscert"))?;
    let key = files.key.as_ref().ok_or_else(|| missing("--tlskey"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if verify {
        files.ca.as_ref().ok_or_else(|| missing("--tlscacert"))?;
        let roots = Arc::new(roots(files)?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(io::Error::other)?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(certificates(certificate)?, private_key(key)?).map_err(io::Error::other)
}

fn roots(files: &TlsFiles) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn certificates(path: &PathBuf) -> io::Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e: rustls::pki_types::pem::Error| named(path, &e);
    CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)
}

fn private_key(path: &PathBuf) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| named(path, &e))
}

fn named(path: &std::path::Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("could not read TLS file {}: {error}", path.display()))
}

/// Accepts any server certificate; signatures are still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
