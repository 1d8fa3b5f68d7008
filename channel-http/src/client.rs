//! The client.

use crate::failure::{Target, maybe_sent, maybe_sent_in_time, not_sent, not_sent_in_time};
use crate::handover::Handover;
use crate::resolve::Resolver;
use crate::tls::client_config;
use crate::{AllowPrivate, Answer, TlsError};
use outbox_channel::{ErrorClass, SendError};
use reqwest::header::AUTHORIZATION;
use reqwest::{Request, Url, redirect, retry};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// How an [`HttpClient`] behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The class of a failure before anything was written (name, connection, TLS): transient
    /// for one target among many, unavailable where it means that the provider is down.
    pub unreachable: ErrorClass,
    /// For resolving the name, connecting and TLS together. Default: 10 seconds.
    pub connect_timeout: Duration,
    /// How much of an answer's body is read, in bytes. Default: 64 KiB.
    pub max_answer_bytes: usize,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether addresses that are not public may be connected to. Default: no.
    pub allow_private: AllowPrivate,
}

impl HttpOptions {
    /// The defaults, with the class of a failure before anything was written.
    #[must_use]
    pub fn new(unreachable: ErrorClass) -> Self {
        Self {
            unreachable,
            connect_timeout: Duration::from_secs(10),
            max_answer_bytes: 64 * 1024,
            ca_file: None,
            allow_private: AllowPrivate::No,
        }
    }
}

/// An HTTP/1.1 client with pooled connections; see the [crate](crate) for what it promises.
pub struct HttpClient {
    client: reqwest::Client,
    tls: Arc<ClientConfig>,
    resolver: Resolver,
    options: HttpOptions,
}

impl HttpClient {
    /// Servers close idle connections without a word; the less old one is, the less likely a
    /// request is to be written into nothing.
    const IDLE: Duration = Duration::from_secs(30);
    const IDLE_PER_HOST: usize = 128;

    /// A client that keeps its connections for the next request.
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no certificate, or TLS cannot be set up.
    pub fn new(options: HttpOptions) -> Result<Self, TlsError> {
        let tls = client_config(options.ca_file.as_deref())?;
        let resolver = Resolver::new(options.allow_private.clone());
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .dns_resolver(resolver.clone())
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .user_agent(concat!("outbox/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Self::IDLE)
            .pool_max_idle_per_host(Self::IDLE_PER_HOST)
            .build()?;
        Ok(Self {
            client,
            tls: Arc::new(tls),
            resolver,
            options,
        })
    }

    /// Sends `request` and reads the answer, whatever its status, before `deadline`.
    ///
    /// A user and password in the URL become an `Authorization` header.
    ///
    /// # Errors
    /// - the class chosen in [`HttpOptions::unreachable`], codes `dns`, `connect`, `tls` and
    ///   `timeout`: nothing was written;
    /// - *unavailable*, code `address_refused`: the target is not a public address;
    /// - *ambiguous*, codes `timeout` and `connection_lost`: the request may have arrived, and
    ///   no status came back.
    pub async fn execute(
        &self,
        mut request: Request,
        deadline: Instant,
    ) -> Result<Answer, SendError> {
        let target = Target::of(request.url());
        let class = self.options.unreachable;
        if let Err(refused) = self.resolver.vet_literal(request.url()) {
            return Err(not_sent(class, &target, refused.into()));
        }
        self.authorize(&mut request, &target)?;
        let handover = Handover::watch(&mut request);
        let until = slightly_before(deadline);
        match timeout_at(until, self.client.execute(request)).await {
            Ok(Ok(response)) => {
                Ok(Answer::read(response, self.options.max_answer_bytes, until).await)
            }
            Ok(Err(error)) => {
                let cause = Box::new(error.without_url());
                Err(if handover.withdraw() {
                    not_sent(class, &target, cause)
                } else {
                    maybe_sent(&target, cause)
                })
            }
            Err(_) if handover.withdraw() => Err(not_sent_in_time(class, &target)),
            Err(_) => Err(maybe_sent_in_time(&target)),
        }
    }

    /// Resolves, connects and, for https, shakes hands; then hangs up. Sends no request.
    ///
    /// # Errors
    /// As [`execute`](Self::execute) when nothing was written.
    pub async fn probe(&self, url: &Url) -> Result<(), SendError> {
        let target = Target::of(url);
        let class = self.options.unreachable;
        match timeout(self.options.connect_timeout, self.connect(url)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(not_sent(class, &target, cause)),
            Err(_) => Err(not_sent_in_time(class, &target)),
        }
    }

    async fn connect(&self, url: &Url) -> Result<(), Box<dyn Error + Send + Sync>> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = self.resolver.lookup(host, port).await?;
        let stream = TcpStream::connect(&*addresses).await?;
        if url.scheme() == "https" {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            connector.connect(name, stream).await?;
        }
        Ok(())
    }

    /// reqwest turns a URL's user and password into a header only in requests that it builds
    /// itself, so it builds one to copy from.
    fn authorize(&self, request: &mut Request, target: &Target) -> Result<(), SendError> {
        if request.url().username().is_empty() && request.url().password().is_none() {
            return Ok(());
        }
        let model = self.client.get(request.url().clone()).build();
        let model = model.map_err(|error| {
            let message = format!("cannot build the request for {target}");
            SendError::permanent("request", message).with_source(error.without_url())
        })?;
        request.url_mut().clone_from(model.url());
        if let Some(credentials) = model.headers().get(AUTHORIZATION) {
            let header = request.headers_mut().entry(AUTHORIZATION);
            header.or_insert_with(|| credentials.clone());
        }
        Ok(())
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The attempt ends here, a moment before the caller drops it: only this side knows whether
/// the request had left.
fn slightly_before(deadline: Instant) -> tokio::time::Instant {
    const MARGIN: Duration = Duration::from_millis(100);
    let left = deadline.saturating_duration_since(Instant::now());
    (deadline - MARGIN.min(left / 10)).into()
}
