//! A stand-in for Twilio's Messages API.

mod answer;
mod api;
mod callback;
mod list;
mod message;

use crate::Faults;
use crate::http::Server;
use crate::ledger::Ledger;
use api::Api;
use callback::Callbacks;
pub use callback::{CallbackFault, MadeCallback, signature};
pub use message::SentMessage;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How the stand-in misbehaves when it is asked to send, or for its list. Only a request with
/// valid credentials and valid parameters gets a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TwilioFault {
    /// 429 with code 20429 and a `Retry-After` header, in whole seconds.
    TooManyRequests {
        /// The wait asked for.
        retry_after: Duration,
    },
    /// 503 with code 20503.
    Unavailable,
    /// 401 with code 20003, as if the token had been revoked.
    Unauthorized,
    /// Takes nothing and never answers, as if the request had been lost on the way.
    Lose,
    /// Takes the message and never answers.
    Stall,
    /// Takes the message and closes the connection without an answer.
    HangUp,
    /// Takes the message and answers 200 with something that is not JSON.
    Garbage,
}

/// Twilio's Messages API on a free port of 127.0.0.1, until it is dropped.
///
/// It checks credentials and parameters, refuses Twilio's
/// [magic numbers](https://www.twilio.com/docs/iam/test-credentials#test-sms-messages), keeps
/// what it accepts, and lists it. To a message's `StatusCallback` (over plain HTTP) it tells at once
/// that the message was queued, sent, and delivered or not.
///
/// ```
/// # use outbox_sandbox::twilio::{TwilioFault, TwilioServer};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let twilio = TwilioServer::start("AC00000000000000000000000000000000", "token").await?;
/// twilio.faults().next(TwilioFault::Unavailable);
/// assert_eq!(twilio.total(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TwilioServer {
    server: Server,
    faults: Faults<TwilioFault>,
    list_faults: Faults<TwilioFault>,
    messages: Arc<Ledger<SentMessage>>,
    callbacks: Arc<Callbacks>,
}

impl TwilioServer {
    /// Keeps the latest 10,000 messages.
    const KEPT: usize = 10_000;

    /// Starts, with one account.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(account_sid: &str, auth_token: &str) -> io::Result<Self> {
        let messages = Arc::new(Ledger::new(Self::KEPT));
        let faults = Faults::default();
        let list_faults = Faults::default();
        let callbacks = Arc::new(Callbacks::new(account_sid, auth_token));
        let api = Api::new(
            account_sid,
            auth_token,
            Arc::clone(&messages),
            faults.clone(),
            list_faults.clone(),
            Arc::clone(&callbacks),
        );
        let server = Server::start(move |request| api.reply(&request)).await?;
        Ok(Self {
            server,
            faults,
            list_faults,
            messages,
            callbacks,
        })
    }

    /// Stands in for `https://api.twilio.com`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.server.url()
    }

    /// The plan by which it misbehaves when it is asked to send.
    #[must_use]
    pub fn faults(&self) -> &Faults<TwilioFault> {
        &self.faults
    }

    /// The plan by which it misbehaves when it is asked for its list of messages.
    #[must_use]
    pub fn list_faults(&self) -> &Faults<TwilioFault> {
        &self.list_faults
    }

    /// The plan by which the callbacks about a message misbehave.
    #[must_use]
    pub fn callback_faults(&self) -> &Faults<CallbackFault> {
        &self.callbacks.faults
    }

    /// From now on messages to this number are accepted and sent, and end as `undelivered` with
    /// code 30003.
    pub fn cut_off(&self, number: &str) {
        self.callbacks.cut_off(number);
    }

    /// The latest status callbacks made, oldest first.
    #[must_use]
    pub fn callbacks(&self) -> Vec<MadeCallback> {
        self.callbacks.made().entries()
    }

    /// Waits until so many status callbacks were made, answered or not.
    pub async fn wait_for_callbacks(&self, total: u64) {
        self.callbacks.made().wait_for(total).await;
    }

    /// The latest messages accepted, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<SentMessage> {
        self.messages.entries()
    }

    /// How many messages were accepted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.messages.total()
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Waits until [`total`](Self::total) is at least this.
    pub async fn wait_for(&self, total: u64) {
        self.messages.wait_for(total).await;
    }
}
