//! TLS by rustls with ring, and the roots that the system trusts.

use outbox_channel::BuildError;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The TLS settings cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file of extra roots cannot be read.
    #[error("cannot read {path}")]
    CaFile {
        /// The file as configured.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file of extra roots holds no usable certificate.
    #[error("{path} holds no usable certificate: it must be PEM")]
    NoCertificate {
        /// The file as configured.
        path: PathBuf,
    },
    /// rustls refuses the settings.
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
    /// The client cannot be built.
    #[error("cannot set up the HTTP client")]
    Client(#[from] reqwest::Error),
}

impl From<TlsError> for BuildError {
    fn from(error: TlsError) -> Self {
        let reason = error.source().map(|source| format!(": {source}"));
        let message = format!("{error}{}", reason.unwrap_or_default());
        Self::new("ca_file", message)
    }
}

/// The system's roots and those in `ca_file`.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
    // Named here instead of installed for the process: a library leaves globals alone.
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let mut config = match verifier(extra, provider) {
        Ok(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
        // A bare container without roots can still talk to plain HTTP targets.
        Err(error) => {
            tracing::warn!(%error, "no https target can be reached: install ca-certificates or set ca_file");
            builder
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, rustls::Error> {
    Verifier::new_with_extra_roots(extra, provider)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::CaFile {
        path: path.to_owned(),
        source,
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let usable = found.ok().filter(|certificates| {
        let mut roots = RootCertStore::empty();
        let mut add = |certificate: &CertificateDer<'static>| roots.add(certificate.clone());
        !certificates.is_empty() && certificates.iter().all(|each| add(each).is_ok())
    });
    usable.ok_or_else(|| TlsError::NoCertificate {
        path: path.to_owned(),
    })
}
