//! TLS over real sockets, with a certificate authority of our own.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use channel_http::reqwest::Url;
use channel_http::{HttpClient, HttpOptions, TlsError};
use common::{client, far, options, post};
use outbox_channel::ErrorClass;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use std::io::Write as _;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers every request on every connection with 204; returns its URL and certificate.
async fn https_server() -> (String, NamedTempFile) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate hangs up in the handshake.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            }
        }
    });
    let mut ca = NamedTempFile::new().unwrap();
    ca.write_all(cert.pem().as_bytes()).unwrap();
    (format!("https://localhost:{port}/"), ca)
}

fn trusting(ca: &NamedTempFile) -> HttpOptions {
    let mut options = options();
    options.ca_file = Some(ca.path().to_owned());
    options
}

#[tokio::test]
async fn an_extra_authority_is_trusted() {
    let (url, ca) = https_server().await;
    let client = HttpClient::new(trusting(&ca)).unwrap();
    client.probe(&Url::parse(&url).unwrap()).await.unwrap();
    let answer = client.execute(post(&url), far()).await.unwrap();
    assert_eq!(answer.status(), 204);
}

#[tokio::test]
async fn an_unknown_authority_is_refused_before_anything_is_written() {
    let (url, _ca) = https_server().await;
    let error = client().execute(post(&url), far()).await.unwrap_err();
    assert_eq!(
        (error.class(), error.code()),
        (ErrorClass::Transient, "tls")
    );
    let probed = client()
        .probe(&Url::parse(&url).unwrap())
        .await
        .unwrap_err();
    assert_eq!(probed.code(), "tls");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (url, ca) = https_server().await;
    let client = HttpClient::new(trusting(&ca)).unwrap();
    let error = client
        .execute(post(&url.replace("localhost", "127.0.0.1")), far())
        .await;
    assert_eq!(error.unwrap_err().code(), "tls");
}

#[test]
fn a_useless_ca_file_is_told() {
    let missing = {
        let mut options = options();
        options.ca_file = Some("/nonexistent/ca.pem".into());
        HttpClient::new(options).unwrap_err()
    };
    assert!(matches!(missing, TlsError::CaFile { .. }));
    let mut text = NamedTempFile::new().unwrap();
    text.write_all(b"not a certificate").unwrap();
    let empty = HttpClient::new(trusting(&text)).unwrap_err();
    assert!(matches!(empty, TlsError::NoCertificate { .. }));
}
