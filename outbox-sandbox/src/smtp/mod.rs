//! An SMTP server that stores what it gets and misbehaves on demand.
//!
//! It speaks what a submission server speaks: `EHLO`, `AUTH PLAIN` and `LOGIN`, `STARTTLS` or
//! TLS from the start (feature `smtp-tls`), `PIPELINING`, `8BITMIME`, `SMTPUTF8`, `SIZE`.
//!
//! ```
//! use outbox_sandbox::smtp::{SmtpFault, SmtpServer, SmtpStep};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let server = SmtpServer::start().await?;
//! server.faults().next(SmtpFault::reply(SmtpStep::Mail, 421));
//! server.reject_recipient("bounce@example.org");
//! println!("send mail to {}", server.url());
//! assert!(server.mails().is_empty());
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod fault;
mod inbox;
mod session;
mod shared;
#[cfg_attr(not(feature = "smtp-tls"), path = "no_tls.rs")]
mod tls;
mod wire;

pub use fault::{Misbehaviour, SmtpFault, SmtpStep};
pub use inbox::ReceivedMail;

use crate::Faults;
use inbox::Inbox;
use shared::{Encryption, Shared, accept};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
#[cfg(feature = "smtp-tls")]
use tls::Tls;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// A server on a free port of 127.0.0.1, until it is dropped.
pub struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl SmtpServer {
    /// A server that takes mail in the clear from anybody.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A server with credentials or TLS.
    #[must_use]
    pub fn builder() -> SmtpServerBuilder {
        SmtpServerBuilder {
            keep: 10_000,
            credentials: None,
            encryption: Encryption::None,
            hidden: Vec::new(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that a client needs to send mail here, credentials included:
    /// `smtp://user:pass@127.0.0.1:2525`, with `?tls=none` where the server knows no TLS, and
    /// `smtps://` where it speaks nothing else.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, query) = match self.shared.encryption {
            Encryption::None => ("smtp", "?tls=none"),
            Encryption::StartTls(_) => ("smtp", ""),
            Encryption::Implicit(_) => ("smtps", ""),
        };
        let text = format!("{scheme}://{}{query}", self.address);
        let (Ok(mut url), Some((user, password))) = (Url::parse(&text), &self.shared.credentials)
        else {
            return text;
        };
        // Neither can fail: the URL has a host.
        let _ = url.set_username(user);
        let _ = url.set_password(Some(password));
        url.into()
    }

    /// The certificate, in PEM, by which a client can trust the server; `None` without TLS.
    #[cfg(feature = "smtp-tls")]
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        match &self.shared.encryption {
            Encryption::None => None,
            Encryption::StartTls(tls) | Encryption::Implicit(tls) => Some(tls.authority_pem()),
        }
    }

    /// The plan of what goes wrong with mails. One fault is drawn at each `MAIL` command; of
    /// its steps those from [`SmtpStep::Mail`] on can happen.
    #[must_use]
    pub fn faults(&self) -> &Faults<SmtpFault> {
        &self.shared.faults
    }

    /// The plan of what goes wrong with connections. One fault is drawn for each new
    /// connection; it can happen at any step, and with each mail of that connection.
    #[must_use]
    pub fn connection_faults(&self) -> &Faults<SmtpFault> {
        &self.shared.connection_faults
    }

    /// From now on this address does not exist here: 550 5.1.1, a hard bounce.
    pub fn reject_recipient(&self, address: &str) {
        self.shared.rejected().insert(address.to_lowercase());
    }

    /// The mails taken, oldest first; see [`SmtpServerBuilder::keep`].
    #[must_use]
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.shared.inbox.mails()
    }

    /// How many mails it has taken, also those it no longer keeps.
    #[must_use]
    pub fn mail_count(&self) -> u64 {
        self.shared.inbox.count()
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until it has taken `count` mails in all, and returns those it keeps.
    pub async fn wait_for(&self, count: u64) -> Vec<ReceivedMail> {
        self.shared.inbox.wait_for(count).await;
        self.mails()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What kind of server it is to be.
pub struct SmtpServerBuilder {
    keep: usize,
    credentials: Option<(String, String)>,
    encryption: Encryption,
    hidden: Vec<String>,
}

impl SmtpServerBuilder {
    /// Mail is taken only from who signs in with these.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// How many of the last mails to keep; 10,000 unless told.
    #[must_use]
    pub fn keep(mut self, mails: usize) -> Self {
        self.keep = mails;
        self
    }

    /// Leaves a line out of the answer to `EHLO`, for instance `SMTPUTF8`.
    #[must_use]
    pub fn without(mut self, keyword: &str) -> Self {
        self.hidden.push(keyword.to_owned());
        self
    }

    /// Offers `STARTTLS`, with a certificate made on the spot for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    #[cfg(feature = "smtp-tls")]
    pub fn starttls(mut self) -> io::Result<Self> {
        self.encryption = Encryption::StartTls(Tls::generate()?);
        Ok(self)
    }

    /// Speaks TLS from the first byte, with a certificate as for [`starttls`](Self::starttls).
    ///
    /// # Errors
    /// When the certificate cannot be made.
    #[cfg(feature = "smtp-tls")]
    pub fn implicit_tls(mut self) -> io::Result<Self> {
        self.encryption = Encryption::Implicit(Tls::generate()?);
        Ok(self)
    }

    /// Listens, and serves until the server is dropped.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(self) -> io::Result<SmtpServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            inbox: Inbox::new(self.keep),
            credentials: self.credentials,
            encryption: self.encryption,
            hidden: self.hidden,
            faults: Faults::default(),
            connection_faults: Faults::default(),
            rejected: Mutex::default(),
            connections: AtomicU64::new(0),
            queued: AtomicU64::new(0),
        });
        Ok(SmtpServer {
            address,
            accepting: tokio::spawn(accept(listener, Arc::clone(&shared))),
            shared,
        })
    }
}
