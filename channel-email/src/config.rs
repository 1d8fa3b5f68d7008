//! The channel's settings.

use crate::address::mailbox;
use crate::compose::Defaults;
use crate::endpoint::Endpoint;
use crate::server::{Security, Server};
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use outbox_channel::BuildError;
use secrecy::SecretString;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use url::Host;

/// The `settings` table of a channel of kind `email`.
///
/// The server is named by `url` alone, or by `host` with `port`, `user` and `pass`. The
/// connection is encrypted unless `tls = "none"` (or `?tls=none` in the URL) asks for plain
/// text.
///
/// ```toml
/// [channels.email.settings]
/// url = "smtp://user:pass@smtp.example.org:587"   # STARTTLS; smtps:// for TLS from the start
/// from = "Example <no-reply@example.org>"
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// `smtp://user:pass@host:587` or `smtps://…`; a secret, since it may hold the password,
    /// in which characters such as `@` and `/` are percent-encoded.
    pub url: Option<SecretString>,
    /// The server's name or address.
    pub host: Option<String>,
    /// 587 for STARTTLS, 465 for TLS and 25 for plain text, unless told.
    pub port: Option<u16>,
    /// Who to sign in as.
    pub user: Option<String>,
    /// The password that goes with `user`.
    pub pass: Option<SecretString>,
    /// The sender of mails whose payload names none.
    pub from: Option<String>,
    /// How the connection is protected: STARTTLS unless told.
    pub tls: Option<TlsMode>,
    /// A PEM file with authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What to call ourselves in `EHLO`; the machine's name unless told.
    pub helo_name: Option<String>,
    /// How many connections at most, in use and idle together; 10 unless told.
    pub pool_size: Option<usize>,
    /// What stands behind the `@` of a `Message-ID`; the sender's domain unless told.
    pub message_id_domain: Option<String>,
    /// The longest message in bytes, attachments as they are encoded included; 25 MB (26,214,400)
    /// unless told.
    pub max_message_bytes: Option<usize>,
}

/// How the connection to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Begins in the clear and is encrypted before anything that matters is said; a server
    /// that does not offer it gets no mail.
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// Plain text, passwords included.
    None,
}

impl EmailConfig {
    const MAX_MESSAGE: usize = 25 * 1024 * 1024;
    const POOL: usize = 10;

    pub(crate) fn pool_size(&self) -> Result<usize, BuildError> {
        match self.pool_size.unwrap_or(Self::POOL) {
            size @ 1..=1_000 => Ok(size),
            _ => Err(BuildError::new("pool_size", "must be from 1 to 1000")),
        }
    }

    pub(crate) fn defaults(&self) -> Result<Defaults, BuildError> {
        let read = |text: &String| {
            mailbox(text).map_err(|problem| BuildError::new("from", problem.to_string()))
        };
        let max_message_bytes = self.max_message_bytes.unwrap_or(Self::MAX_MESSAGE);
        if max_message_bytes == 0 {
            return Err(BuildError::new("max_message_bytes", "must not be 0"));
        }
        Ok(Defaults {
            from: self.from.as_ref().map(read).transpose()?,
            message_id_domain: self.message_id_domain()?,
            max_message_bytes,
        })
    }

    pub(crate) fn server(&self) -> Result<Server, BuildError> {
        let endpoint = Endpoint::of(self)?;
        Ok(Server {
            security: self.security(&endpoint)?,
            host: endpoint.host,
            port: endpoint.port,
            credentials: endpoint.credentials,
            hello: self.hello()?,
        })
    }

    fn message_id_domain(&self) -> Result<Option<String>, BuildError> {
        let Some(domain) = &self.message_id_domain else {
            return Ok(None);
        };
        match Host::parse(domain) {
            Ok(Host::Domain(domain)) => Ok(Some(domain)),
            _ => Err(BuildError::new(
                "message_id_domain",
                "must be a domain name such as example.org",
            )),
        }
    }

    fn hello(&self) -> Result<ClientId, BuildError> {
        let Some(name) = &self.helo_name else {
            return Ok(ClientId::default());
        };
        match name.parse() {
            Ok(IpAddr::V4(address)) => return Ok(ClientId::Ipv4(address)),
            Ok(IpAddr::V6(address)) => return Ok(ClientId::Ipv6(address)),
            Err(_) => {}
        }
        match Host::parse(name) {
            Ok(Host::Domain(domain)) => Ok(ClientId::Domain(domain)),
            _ => Err(BuildError::new(
                "helo_name",
                "must be a host name or an IP address",
            )),
        }
    }

    fn security(&self, endpoint: &Endpoint) -> Result<Security, BuildError> {
        let parameters = || tls_parameters(&endpoint.host, self.ca_file.as_deref());
        match endpoint.tls {
            TlsMode::StartTls => Ok(Security::StartTls(parameters()?)),
            TlsMode::Tls => Ok(Security::Implicit(parameters()?)),
            TlsMode::None if self.ca_file.is_some() => Err(BuildError::new(
                "ca_file",
                "has no use where TLS is switched off; leave out one of the two",
            )),
            TlsMode::None => Ok(Security::Plain),
        }
    }
}

fn tls_parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, BuildError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        builder = builder.add_root_certificate(authorities(path)?);
    }
    let setting = ca_file.map_or("tls", |_| "ca_file");
    builder
        .build()
        .map_err(|error| BuildError::new(setting, format!("TLS cannot be set up: {error}")))
}

fn authorities(path: &Path) -> Result<Certificate, BuildError> {
    let fail = |problem: String| BuildError::new("ca_file", problem);
    let pem = std::fs::read_to_string(path)
        .map_err(|error| fail(format!("cannot read {}: {error}", path.display())))?;
    let malformed = || fail(format!("{} holds no PEM certificate", path.display()));
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(malformed());
    }
    Certificate::from_pem(pem.as_bytes()).map_err(|_| malformed())
}
