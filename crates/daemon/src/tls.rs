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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::rustls::pki_types::ServerName;

    use super::*;
    use crate::http::{Bytes, Exchange, Reply, ReplyBody, Socket, serve};

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for localhost and its key, as PEM.
    fn issued(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    fn client(trusts: &Authority, shows: Option<&Authority>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.der().clone()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (cert, key) = issued(authority);
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// What a client gets from a server that checks clients' certificates.
    async fn answer(server: &Authority, client: TlsConnector) -> std::io::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let (cert, key) = issued(server);
        let tls =
            Tls { verify: true, ca: file("ca", &server.pem()), cert: file("cert", &cert), key: file("key", &key) };
        let acceptor = acceptor(&tls).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let socket = Socket::from(listener.accept().await.unwrap().0);
            if let Ok(stream) = acceptor.accept(socket.clone()).await {
                let handler = |_: Exchange| async { Reply::new(ReplyBody::Whole(Bytes::from_static(b"inside"))) };
                serve(stream, socket, Arc::new(handler)).await;
            }
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn only_clients_of_the_authority_come_in() {
        let (ours, foreign) = (authority(), authority());
        assert!(answer(&ours, client(&ours, Some(&ours))).await.unwrap().ends_with("inside"));
        for stranger in [client(&ours, None), client(&ours, Some(&foreign))] {
            assert!(!answer(&ours, stranger).await.is_ok_and(|text| text.contains("inside")));
        }
        assert!(answer(&ours, client(&foreign, Some(&ours))).await.is_err());
    }

    #[test]
    fn files_that_are_missing_are_named() {
        let tls = Tls { verify: true, ca: "/no/ca".into(), cert: "/no/cert".into(), key: "/no/key".into() };
        assert!(acceptor(&tls).err().unwrap().to_string().contains("/no/cert"));
    }
}
