//! A certificate authority of the server's own, made anew at each start.

use super::wire::Stream;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// Serves TLS for `localhost` and `127.0.0.1`.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    authority_pem: String,
}

impl Tls {
    pub(super) fn generate() -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "Outbox sandbox authority");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;

        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &authority))
            .map_err(io::Error::other)?;
        let config = server_config(certificate.der().clone(), key.serialize_der())?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authority_pem: authority.pem(),
        })
    }

    pub(super) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    pub(super) async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        Ok(Box::new(self.acceptor.accept(stream).await?))
    }
}

fn server_config(certificate: CertificateDer<'static>, key: Vec<u8>) -> io::Result<ServerConfig> {
    let key = PrivateKeyDer::try_from(key).map_err(io::Error::other)?;
    // Named, not the process-wide default: the host program's choice must not matter here.
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(io::Error::other)
}
