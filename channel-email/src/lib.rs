//! The e-mail channel: one SMTP submission per delivery, with connections kept for the next.
//!
//! The payload's fields are those of a mail: `to` (a string or a list; at least one), `cc`,
//! `bcc`, `from`, `reply_to`, `subject`, `text`, `html`, `headers`, `attachments`. A string is
//! one address, `ada@example.org` or `Ada <ada@example.org>`; several go in a list. Fields
//! that are none of these are left alone, since one payload may serve several channels.
//!
//! What a failure means:
//! - **Nobody gets it unless everybody does**: one refused recipient ends the attempt before
//!   the message is sent, and the error names which one. Bad addresses in a list are thus
//!   found, not silently left out.
//! - `Message-ID` is made of the delivery id, `Date` of the event's time and no part of the
//!   message is random, so that a second attempt sends the same bytes as the first.
//! - An answer that does not come after the whole message was written is
//!   [ambiguous](outbox_channel::ErrorClass::Ambiguous), and its connection is never used
//!   again: the late answer would be read as the next mail's.
//! - What goes wrong before the server has taken the credentials concerns the channel, not
//!   the mail: it is [unavailable](outbox_channel::ErrorClass::Unavailable).
//!
//! ```
//! use channel_email::{Email, EmailConfig};
//! use outbox_channel::ChannelFactory;
//!
//! let config = EmailConfig {
//!     url: Some("smtp://user:secret@smtp.example.org:587".into()),
//!     from: Some("Example <no-reply@example.org>".to_owned()),
//!     ..EmailConfig::default()
//! };
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let channel = Email::build(&"email".parse()?, config)?;
//! # drop(channel);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod body;
mod compose;
mod config;
mod endpoint;
mod exchange;
mod failure;
mod payload;
mod people;
mod pool;
mod receipt;
mod server;

#[doc(hidden)]
pub use compose::{Defaults, Mail, compose};
pub use config::{EmailConfig, TlsMode};

use exchange::exchange;
use failure::{Failure, Step};
use lettre::transport::smtp::response::Response;
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, Receipt, SendError, async_trait,
};
use pool::Pool;
use server::Server;
use std::time::Duration;
use tokio::time::timeout;

/// The channel of kind `email`.
pub struct Email {
    server: Server,
    pool: Pool,
    defaults: Defaults,
}

impl Email {
    /// What is left for the engine when this channel gives up by itself: only here is it known
    /// whether the server has already had the message.
    const MARGIN: Duration = Duration::from_millis(500);

    /// How long [`check`](Channel::check) may take in all.
    const CHECK: Duration = Duration::from_secs(10);

    /// Submits `mail`, over a connection that is open already where there is one.
    async fn submit(
        &self,
        mail: &Mail,
        budget: Duration,
        step: &mut Step,
    ) -> Result<Response, Failure> {
        // Half the time at most, or too little is left to tell a full pool from a dead server.
        let slot = timeout(budget / 2, self.pool.slot()).await;
        let slot = slot.map_err(|_| Failure::timed_out(*step))?;
        if let Some(mut connection) = slot.idle() {
            match exchange(&mut connection, mail, step).await {
                Err(failure) if failure.is_stale_connection() => {}
                Err(failure) => return Err(failure),
                Ok(answer) => {
                    slot.give_back(connection);
                    return Ok(answer);
                }
            }
        }
        let mut connection = self.server.connect(step).await?;
        let answer = exchange(&mut connection, mail, step).await?;
        slot.give_back(connection);
        Ok(answer)
    }
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let mail = compose(delivery, &self.defaults)?;
        let remaining = delivery.remaining();
        let budget = remaining - Self::MARGIN.min(remaining / 10);
        let mut step = Step::Slot;
        // A connection lives in this future and goes back only after a whole exchange: when
        // the time is up, or the engine drops us, it is closed.
        let outcome = timeout(budget, self.submit(&mail, budget, &mut step)).await;
        let answer = outcome
            .unwrap_or_else(|_| Err(Failure::timed_out(step)))
            .map_err(|failure| failure.into_error(&self.server))?;
        Ok(receipt::receipt(&answer))
    }

    async fn check(&self) -> Result<(), SendError> {
        let mut step = Step::Connect;
        let outcome = timeout(Self::CHECK, self.server.check(&mut step)).await;
        outcome
            .unwrap_or_else(|_| Err(Failure::timed_out(step)))
            .map_err(|failure| failure.into_error(&self.server))
    }
}

impl ChannelFactory for Email {
    const KIND: &'static str = "email";
    type Config = EmailConfig;

    fn build(_: &ChannelName, config: EmailConfig) -> Result<Box<dyn Channel>, BuildError> {
        let pool = Pool::new(config.pool_size()?);
        let defaults = config.defaults()?;
        let server = config.server()?;
        Ok(Box::new(Self {
            server,
            pool,
            defaults,
        }))
    }
}
