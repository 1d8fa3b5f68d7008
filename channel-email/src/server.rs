//! Where mail is submitted, and how a connection to it comes about.

use crate::failure::{Cause, Failure, Step};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::Noop;
use lettre::transport::smtp::extension::ClientId;
use std::fmt;
use std::time::Duration;

/// The submission server.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) hello: ClientId,
}

/// How the connection is protected.
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// `STARTTLS`, or nothing is sent
    /// ([RFC 3207](https://www.rfc-editor.org/rfc/rfc3207)).
    StartTls(TlsParameters),
    /// TLS from the first byte
    /// ([RFC 8314, section 3.3](https://www.rfc-editor.org/rfc/rfc8314#section-3.3)).
    Implicit(TlsParameters),
}

impl Server {
    /// For one address of the host; the next one deserves a try too.
    const CONNECT: Duration = Duration::from_secs(10);

    /// `LOGIN` for servers that know nothing better.
    const MECHANISMS: &[Mechanism] = &[Mechanism::Plain, Mechanism::Login];

    /// Connects, encrypts and signs in. Bounds only the TCP connect; the caller bounds the
    /// whole, and finds in `step` how far it went.
    pub(crate) async fn connect(&self, step: &mut Step) -> Result<AsyncSmtpConnection, Failure> {
        *step = Step::Connect;
        let failed = |error| Failure::from_lettre(Step::Connect, &error);
        let implicit = match &self.security {
            Security::Implicit(tls) => Some(tls.clone()),
            Security::Plain | Security::StartTls(_) => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(Self::CONNECT),
            &self.hello,
            implicit,
            None,
        )
        .await
        .map_err(failed)?;
        if let Security::StartTls(tls) = &self.security {
            if !connection.can_starttls() {
                return Err(Failure::new(Step::Connect, Cause::NoStartTls));
            }
            let upgrade = connection.starttls(tls.clone(), &self.hello).await;
            upgrade.map_err(failed)?;
        }
        self.sign_in(&mut connection, step).await?;
        Ok(connection)
    }

    /// Whether a mail could be submitted now; submits none.
    pub(crate) async fn check(&self, step: &mut Step) -> Result<(), Failure> {
        let mut connection = self.connect(step).await?;
        let failed = |error| Failure::from_lettre(Step::Connect, &error);
        *step = Step::Connect;
        connection.command(Noop).await.map_err(failed)?;
        // All is known by now; leaving is only polite.
        let _ = connection.quit().await;
        Ok(())
    }

    async fn sign_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        *step = Step::SignIn;
        let offered = connection.server_info();
        if offered.get_auth_mechanism(Self::MECHANISMS).is_none() {
            return Err(Failure::new(Step::SignIn, Cause::NoMechanism));
        }
        let answer = connection.auth(Self::MECHANISMS, credentials).await;
        answer.map_err(|error| Failure::from_lettre(Step::SignIn, &error))?;
        Ok(())
    }
}

/// `host:port`, without credentials.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
