//! The SMS channel, over [Twilio's Messages API](https://www.twilio.com/docs/messaging/api/message-resource).
//!
//! | what happens | class |
//! |---|---|
//! | 2xx with a `sid` | delivered, the sid is the provider's id |
//! | 2xx without one, no answer to a request that was written | ambiguous: Twilio knows no idempotency key, so a repeat may reach a person twice |
//! | 429, 5xx, a full queue (20429, 21611, …) | transient, `Retry-After` honoured |
//! | wrong credentials, closed account, unusable configured sender, no connection | unavailable |
//! | everything else, such as a number that cannot exist or that has opted out | permanent |
//!
//! # Verifying
//! What became of an attempt with an unknown outcome is looked up in Twilio's list of messages
//! to that number. It is asked for without a date: Twilio filters by the date of sending, which
//! a message that still waits does not have.
//!
//! | in the list | verdict |
//! |---|---|
//! | one message of the same text, number and sender since the attempt began | delivered, whatever its status: Twilio took it, and sending again would be a second message |
//! | several of them | unknown: identical texts may come from different events |
//! | none, but one that could be it: a text that Twilio has changed or no longer shows, the same text from another sender or from up to 60 seconds before (clocks differ), any message when ours has no text but only media | unknown |
//! | none, less than [`listing_delay`](SmsConfig::listing_delay) after the attempt began | an error, transient, with the time to wait |
//! | none | not delivered |
//! | more than 500 messages since | unknown |
//!
//! A text that is sent twice to one number by two events within one attempt's uncertainty
//! cannot be told apart: let texts that repeat carry something of their own.
//!
//! # Status callbacks
//! Twilio takes a message and tells later what became of it, to
//! [`status_callback`](SmsConfig::status_callback). What it tells there is believed when it is
//! signed ([`StatusCallbacks`]).
//!
//! | Twilio says | means |
//! |---|---|
//! | `accepted`, `scheduled`, `queued`, `sending` | accepted |
//! | `sent` | sent: a carrier has it |
//! | `delivered`, `read` | delivered |
//! | `undelivered` | undelivered, with Twilio's error code |
//! | `failed`, `canceled` | failed, with Twilio's error code |
//! | anything else | nothing: Twilio adds statuses over time |
//!
//! No error carries a phone number or a message's text: what Twilio says is masked.
//!
//! twilio-async builds the form, the path and the credentials. The request itself goes over
//! [`channel_http`], which keeps deadlines, status and headers.

mod answer;
mod callback;
mod config;
mod form;
mod media;
mod message;
mod request;
mod search;
mod sender;
mod signature;

pub use answer::read_answer;
pub use callback::StatusCallbacks;
use channel_http::HttpClient;
use channel_http::reqwest::header::HeaderMap;
use channel_http::reqwest::{Method, Request, Url};
use chrono::{DateTime, Utc};
pub use config::SmsConfig;
pub use message::Message;
use outbox_channel::{
    BuildError, Callback, CallbackError, Channel, ChannelFactory, ChannelName, Delivery, Receipt,
    Report, SendError, Verdict, async_trait,
};
pub use search::{MessagePage, Search, read_page};
pub use sender::Sender;
use std::time::{Duration, Instant};

/// The SMS channel.
///
/// ```
/// use channel_sms::{Sms, SmsConfig};
/// use outbox_channel::ChannelFactory;
///
/// let config: SmsConfig = serde_json::from_str(r#"{
///     "account_sid": "AC00000000000000000000000000000000",
///     "auth_token": "a token",
///     "from": "+15005550006"
/// }"#)?;
/// let channel = Sms::build(&"sms".parse()?, config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sms {
    client: HttpClient,
    messages: Url,
    account: Url,
    headers: HeaderMap,
    sender: Sender,
    callbacks: Option<StatusCallbacks>,
    listing_delay: Duration,
}

impl Sms {
    const CHECK_TIME: Duration = Duration::from_secs(30);
    const PAGE_SIZE: u32 = 50;
    const MAX_PAGES: u32 = 10;

    fn new(config: SmsConfig) -> Result<Self, BuildError> {
        let endpoint = request::Endpoint::new(&config)?;
        Ok(Self {
            messages: endpoint.messages,
            account: endpoint.account,
            headers: endpoint.headers,
            sender: config.sender()?,
            callbacks: config.callbacks()?,
            listing_delay: config.listing_delay,
            client: HttpClient::new(config.http())?,
        })
    }

    fn request(&self, method: Method, url: &Url) -> Request {
        let mut request = Request::new(method, url.clone());
        request.headers_mut().clone_from(&self.headers);
        request
    }

    /// The list of messages to that number.
    fn list(&self, to: &str) -> Url {
        let mut list = self.messages.clone();
        list.query_pairs_mut()
            .append_pair("To", to)
            .append_pair("PageSize", &Self::PAGE_SIZE.to_string());
        list
    }
}

#[async_trait]
impl Channel for Sms {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let message = Message::read(delivery)?;
        let valid_for = message::valid_for(delivery.event().expires_at, Utc::now())?;
        let mut request = self.request(Method::POST, &self.messages);
        *request.body_mut() = Some(message.form(&self.sender, valid_for).into());
        let answer = self.client.execute(request, delivery.deadline()).await?;
        read_answer(
            answer.status(),
            answer.retry_after(),
            answer.body(),
            &message,
        )
    }

    /// Reads the account: credentials work and it is active.
    async fn check(&self) -> Result<(), SendError> {
        let request = self.request(Method::GET, &self.account);
        let deadline = Instant::now() + Self::CHECK_TIME;
        let answer = self.client.execute(request, deadline).await?;
        answer::read_account(answer.status(), answer.retry_after(), answer.body())
    }

    fn can_verify(&self) -> bool {
        true
    }

    /// By the [crate](crate)'s table.
    async fn verify(
        &self,
        delivery: &Delivery,
        began: DateTime<Utc>,
    ) -> Result<Verdict, SendError> {
        let message = Message::read(delivery)?;
        let mut search = Search::new(&message, &self.sender, began);
        let mut list = self.list(message.to());
        for _ in 0..Self::MAX_PAGES {
            let request = self.request(Method::GET, &list);
            let answer = self.client.execute(request, delivery.deadline()).await?;
            let page = read_page(answer.status(), answer.retry_after(), answer.body())?;
            match search.look_at(page) {
                Some(next) => list.set_query(Some(&next)),
                None => return search.verdict(Utc::now(), self.listing_delay),
            }
        }
        Ok(Verdict::Unknown)
    }

    fn callback_source(&self) -> Option<&'static str> {
        self.callbacks.as_ref().map(|_| "twilio")
    }

    async fn receive(&self, callback: &Callback) -> Result<Vec<Report>, CallbackError> {
        match &self.callbacks {
            Some(callbacks) => callbacks.read(callback).map(Vec::from_iter),
            None => Err(CallbackError::forged("status_callback is not set")),
        }
    }
}

impl ChannelFactory for Sms {
    const KIND: &'static str = "sms";
    type Config = SmsConfig;

    fn build(_: &ChannelName, config: SmsConfig) -> Result<Box<dyn Channel>, BuildError> {
        Ok(Box::new(Self::new(config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_shows_no_token() {
        let config = r#"{"account_sid": "AC1", "auth_token": "s3cret", "from": "+15005550006"}"#;
        let config: SmsConfig = serde_json::from_str(config).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        let shown = format!("{:?}", Sms::new(config).unwrap());
        // Also not as Basic credentials: base64 of `AC1:s3cret`.
        assert!(
            !shown.contains("s3cret") && !shown.contains("QUMxOnMzY3JldA"),
            "{shown}"
        );
    }
}
