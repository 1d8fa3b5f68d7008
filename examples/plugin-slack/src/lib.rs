//! A channel that posts to Slack: all that a plugin consists of, in one file.
//!
//! ```toml
//! [channels.ops]
//! kind = "slack"
//! [channels.ops.settings]
//! url = "https://hooks.slack.com/services/…"
//! ```
//!
//! The payload's field `text` is the message, by Slack's own
//! [markup](https://docs.slack.dev/messaging/formatting-message-text); a route's template can
//! write it: `[routes.message.ops]`.

use channel_http::reqwest::header::{CONTENT_TYPE, HeaderValue};
use channel_http::reqwest::{Method, Request, Url};
use channel_http::{AllowPrivate, HttpClient, HttpOptions};
use outbox_channel::http::classify_status;
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, ErrorClass, Receipt, SendError,
    async_trait,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Posts through one of Slack's
/// [incoming webhooks](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
#[derive(Debug)]
pub struct Slack {
    client: HttpClient,
    url: SecretString,
}

/// `[channels.NAME.settings]` of a channel of this kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// The incoming webhook's address. A secret: whoever has it can post.
    url: SecretString,
    /// Whether it may be on a private network: `true`, or a list of networks.
    #[serde(default)]
    allow_private: AllowPrivate,
}

#[derive(Deserialize)]
struct Message {
    text: String,
}

impl ChannelFactory for Slack {
    const KIND: &'static str = "slack";
    type Config = SlackConfig;

    fn build(_: &ChannelName, config: SlackConfig) -> Result<Box<dyn Channel>, BuildError> {
        parse(&config.url).map_err(|reason| BuildError::new("url", reason))?;
        // There is one Slack: when it cannot be reached, no message is to blame.
        let mut options = HttpOptions::new(ErrorClass::Unavailable);
        options.allow_private = config.allow_private;
        Ok(Box::new(Self {
            client: HttpClient::new(options)?,
            url: config.url,
        }))
    }
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let Message { text } = delivery.message()?;
        let body = serde_json::json!({ "text": text }).to_string();
        let mut request = Request::new(Method::POST, self.target()?);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        *request.body_mut() = Some(body.into());
        let answer = self.client.execute(request, delivery.deadline()).await?;
        let class = match answer.status() {
            200..=299 => return Ok(Receipt::new()),
            // The address is revoked, or its Slack channel archived: the next message would
            // meet the same, so none of them is given up.
            403 | 404 | 410 => ErrorClass::Unavailable,
            status => classify_status(status),
        };
        Err(SendError::new(
            class,
            answer.status().to_string(),
            "Slack refuses the message",
        )
        .with_retry_after(answer.retry_after())
        .with_answer(answer.excerpt()))
    }

    async fn check(&self) -> Result<(), SendError> {
        self.client.probe(&self.target()?).await
    }
}

impl Slack {
    fn target(&self) -> Result<Url, SendError> {
        parse(&self.url).map_err(|reason| SendError::unavailable("url", reason))
    }
}

fn parse(url: &SecretString) -> Result<Url, &'static str> {
    let url = Url::parse(url.expose_secret()).map_err(|_| "is not a URL")?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("must begin with https://"),
    }
}
