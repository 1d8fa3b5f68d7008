//! The webhook channel: an event goes out as an HTTP POST by the rules of
//! [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//!
//! The body is `{"type", "timestamp", "data"}`: the event's type, when it was created, and its
//! payload as the application wrote it. The `webhook-id` header is the delivery's id, the same
//! on every attempt, so that a receiver can drop what it has already had.
//!
//! | what happens | class |
//! |---|---|
//! | 2xx | delivered |
//! | 408, 425, 429, 5xx | transient, `Retry-After` honoured |
//! | any other status, also a redirect, which is never followed | permanent |
//! | no name, no connection, no TLS | transient |
//! | the target is not a public address | unavailable |
//! | no answer to a request that was written | ambiguous |

mod config;
mod message;
mod signature;

use channel_http::HttpClient;
use channel_http::reqwest::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
};
use channel_http::reqwest::{Method, Request, Url};
pub use config::WebhookConfig;
pub use message::{body, outcome};
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, Receipt, SendError, async_trait,
};
use signature::Signer;
use std::fmt;
use std::time::SystemTime;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The webhook channel.
///
/// ```
/// use channel_webhook::{Webhook, WebhookConfig};
/// use outbox_channel::ChannelFactory;
///
/// let config: WebhookConfig = serde_json::from_str(r#"{
///     "url": "https://crm.example.org/hooks",
///     "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
/// }"#)?;
/// let channel = Webhook::build(&"crm".parse()?, config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Webhook {
    client: HttpClient,
    url: Url,
    headers: HeaderMap,
    signer: Signer,
}

impl Webhook {
    fn new(config: WebhookConfig) -> Result<Self, BuildError> {
        Ok(Self {
            url: config.target()?,
            headers: config.extra_headers()?,
            signer: Signer::new(config.signing_secrets())?,
            client: HttpClient::new(config.http())?,
        })
    }

    fn headers(&self, id: &str, body: &[u8]) -> Result<HeaderMap, InvalidHeaderValue> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs();
        let mut headers = self.headers.clone();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        headers.insert(ID, HeaderValue::from_str(id)?);
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        if let Some(signature) = self.signer.sign(id, timestamp, body) {
            headers.insert(SIGNATURE, HeaderValue::from_str(&signature)?);
        }
        Ok(headers)
    }
}

// By hand: any part of the URL but the host may be a secret.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let event = delivery.event();
        let body = body(&event.event_type, event.created_at, delivery.payload())?;
        let headers = self.headers(delivery.id().as_str(), &body);
        let headers = headers.map_err(|error| {
            SendError::permanent("headers", "the delivery's id does not fit in a header")
                .with_source(error)
        })?;
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        let answer = self.client.execute(request, delivery.deadline()).await?;
        outcome(answer.status(), answer.retry_after(), &answer.excerpt())
    }

    /// Resolves the name and connects; sends no request, for a receiver would have to take it
    /// for an event.
    async fn check(&self) -> Result<(), SendError> {
        self.client.probe(&self.url).await
    }
}

impl ChannelFactory for Webhook {
    const KIND: &'static str = "webhook";
    type Config = WebhookConfig;

    fn build(_: &ChannelName, config: WebhookConfig) -> Result<Box<dyn Channel>, BuildError> {
        Ok(Box::new(Self::new(config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_shows_no_secret() {
        let config = serde_json::from_str(
            r#"{"url": "http://u:s3cret@example.org/s3cret?s3cret", "secret": "whsec_czNjcmV0",
                "headers": {"authorization": "s3cret"}}"#,
        );
        let shown = format!("{:?}", Webhook::new(config.unwrap()).unwrap());
        assert!(
            shown.contains("example.org") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
