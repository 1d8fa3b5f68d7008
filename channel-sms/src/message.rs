//! From an event to a form.

use crate::Sender;
use crate::media::MediaUrls;
use crate::sender::is_sender;
use chrono::{DateTime, Utc};
use outbox_channel::{Delivery, SendError};
use serde::Deserialize;
use std::fmt;
use twilio_async::encode_pairs;

/// An SMS, as the payload describes it. Other fields of the payload are none of its business.
///
/// ```
/// # use channel_sms::Message;
/// # use outbox_channel::Delivery;
/// let payload = r#"{"to": "+15551234567", "body": "Your code is 4711"}"#;
/// let message = Message::read(&Delivery::builder("code", payload)?.build())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Deserialize)]
pub struct Message {
    to: String,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    media_url: MediaUrls,
}

impl Message {
    /// Twilio's limit, in characters (<https://www.twilio.com/docs/api/errors/21617>).
    const MAX_BODY: usize = 1_600;
    /// Twilio's limit (<https://www.twilio.com/docs/messaging/api/message-resource>).
    const MAX_MEDIA: usize = 10;

    /// Reads a delivery's payload.
    ///
    /// # Errors
    /// A permanent error, code `payload`, that says which field cannot work, without its value.
    pub fn read(delivery: &Delivery) -> Result<Self, SendError> {
        let message: Self = delivery.message()?;
        match message.problem() {
            Some(problem) => Err(SendError::permanent("payload", problem)),
            None => Ok(message),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let media = &self.media_url.0;
        if !is_e164(&self.to) {
            return Some(
                "`to` must be a phone number of `+`, country code and number, digits only",
            );
        }
        if self.from.as_deref().is_some_and(|from| !is_sender(from)) {
            return Some("`from` must be one line and not empty");
        }
        if self.text().is_empty() && media.is_empty() {
            return Some("`body` is missing, and there is no `media_url`");
        }
        if self.text().chars().count() > Self::MAX_BODY {
            return Some("`body` is longer than 1600 characters");
        }
        if media.len() > Self::MAX_MEDIA {
            return Some("`media_url` has more than 10 entries");
        }
        None
    }

    /// What Twilio is asked to send, as `application/x-www-form-urlencoded`. `valid_for` is in
    /// seconds: how long Twilio may hold it back.
    #[must_use]
    pub fn form(&self, sender: &Sender, valid_for: Option<u32>) -> String {
        let seconds = valid_for.map(|seconds| seconds.to_string());
        let (from, service) = self.sent_by(sender);
        let to = [("To", &*self.to)];
        let media = self.media_url.0.iter().map(|url| ("MediaUrl", &**url));
        let rest = [
            ("From", from),
            ("MessagingServiceSid", service),
            ("Body", self.body.as_deref()),
            ("StatusCallback", sender.status_callback.as_deref()),
            ("ValidityPeriod", seconds.as_deref()),
        ];
        let rest = rest
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        encode_pairs(to.into_iter().chain(rest).chain(media)).unwrap_or_default()
    }

    /// The sender's number or name, and the service that picks one.
    pub(crate) fn sent_by<'a>(&'a self, sender: &'a Sender) -> (Option<&'a str>, Option<&'a str>) {
        match &self.from {
            // A service would send only from its own pool.
            Some(from) => (Some(from), None),
            None => (
                sender.from.as_deref(),
                sender.messaging_service_sid.as_deref(),
            ),
        }
    }

    /// The text, the numbers and the addresses: what must not show.
    pub(crate) fn personal(&self) -> impl Iterator<Item = &str> {
        let media = self.media_url.0.iter().map(String::as_str);
        [self.text(), &self.to].into_iter().chain(media)
    }

    /// Whether the message names its own sender.
    pub(crate) fn has_sender(&self) -> bool {
        self.from.is_some()
    }

    pub(crate) fn to(&self) -> &str {
        &self.to
    }

    /// Empty when there are only media.
    pub(crate) fn text(&self) -> &str {
        self.body.as_deref().unwrap_or_default()
    }
}

// By hand: all of it is personal.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("body_bytes", &self.text().len())
            .field("media", &self.media_url.0.len())
            .finish_non_exhaustive()
    }
}

/// How many seconds Twilio may hold the message back, so that a code does not arrive when it
/// is of no use any more: `ValidityPeriod`, 1 to 36,000
/// (<https://www.twilio.com/docs/api/errors/21624>).
pub(crate) fn valid_for(
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Option<u32>, SendError> {
    const MAX: i64 = 36_000;
    let Some(expires_at) = expires_at else {
        return Ok(None);
    };
    let left = (expires_at - now).num_seconds();
    if left < 1 {
        let message = "the event expired before it could be sent";
        return Err(SendError::permanent("expired", message));
    }
    Ok(u32::try_from(left.min(MAX)).ok())
}

/// `+`, and 2 to 15 digits of which the first is not 0
/// (<https://www.twilio.com/docs/glossary/what-e164>).
fn is_e164(number: &str) -> bool {
    let Some(digits) = number.strip_prefix('+') else {
        return false;
    };
    (2..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox_channel::ErrorClass;
    use serde_json::{Value, json};

    fn read(payload: &Value) -> Result<Message, SendError> {
        Message::read(
            &Delivery::builder("a", &payload.to_string())
                .unwrap()
                .build(),
        )
    }

    #[test]
    fn what_cannot_be_sent_is_told_without_its_value() {
        let long = "x".repeat(1_601);
        for (payload, field) in [
            (json!({"body": "secret"}), "to"),
            (json!({"to": 15551234567_u64, "body": "secret"}), "string"),
            (json!({"to": "secret", "body": "hi"}), "to"),
            (json!({"to": "0155512345", "body": "hi"}), "to"),
            (json!({"to": "+1555 1234567", "body": "hi"}), "to"),
            (
                json!({"to": "+15551234567\r\nX: secret", "body": "hi"}),
                "to",
            ),
            (json!({"to": "+1234567890123456", "body": "hi"}), "to"),
            (json!({"to": "+05551234567", "body": "hi"}), "to"),
            (json!({"to": "+15551234567"}), "body"),
            (json!({"to": "+15551234567", "body": ""}), "body"),
            (json!({"to": "+15551234567", "body": null}), "body"),
            (json!({"to": "+15551234567", "body": long}), "1600"),
            (
                json!({"to": "+15551234567", "body": "hi", "from": "a\nsecret"}),
                "from",
            ),
            (
                json!({"to": "+15551234567", "body": "hi", "from": ""}),
                "from",
            ),
            (json!({"to": "+15551234567", "media_url": 7}), "URL"),
            (
                json!({"to": "+15551234567", "media_url": vec!["u"; 11]}),
                "media_url",
            ),
        ] {
            let error = read(&payload).unwrap_err();
            assert_eq!(
                (error.class(), error.code()),
                (ErrorClass::Permanent, "payload")
            );
            assert!(error.message().contains(field), "{payload}: {error}");
            let shown = format!("{error:?}");
            assert!(
                !shown.contains("secret") && !shown.contains("5551"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn what_can_be_sent_is_read_and_the_rest_ignored() {
        let emoji = "💌".repeat(1_600);
        for payload in [
            json!({"to": "+15551234567", "body": "hi", "subject": "ignored"}),
            json!({"to": "+15551234567", "body": emoji}),
            json!({"to": "+15551234567", "media_url": "https://example.org/a.png"}),
            json!({"to": "+15551234567", "body": null, "media_url": ["https://example.org/a"]}),
            json!({"to": "+15551234567", "body": "hi", "from": null, "media_url": null}),
        ] {
            let message = read(&payload).unwrap();
            assert!(!format!("{message:?}").contains("1555"));
        }
    }

    #[test]
    fn a_sender_of_its_own_replaces_the_configured_ones() {
        let sender = Sender {
            from: Some("+15005550006".to_owned()),
            messaging_service_sid: Some("MG1".to_owned()),
            status_callback: None,
        };
        let own = read(&json!({"to": "+15551234567", "body": "hi", "from": "Outbox"}));
        let form = own.unwrap().form(&sender, None);
        assert_eq!(form, "To=%2B15551234567&From=Outbox&Body=hi");
        let none = read(&json!({"to": "+15551234567", "body": "hi"}));
        let form = none.unwrap().form(&sender, Some(60));
        let expected = "To=%2B15551234567&From=%2B15005550006&MessagingServiceSid=MG1&Body=hi&ValidityPeriod=60";
        assert_eq!(form, expected);
    }

    #[test]
    fn the_events_expiry_becomes_seconds() {
        let now = DateTime::UNIX_EPOCH;
        let at = |seconds| valid_for(DateTime::from_timestamp(seconds, 0), now);
        assert_eq!(valid_for(None, now).unwrap(), None);
        assert_eq!(at(1).unwrap(), Some(1));
        assert_eq!(at(300).unwrap(), Some(300));
        assert_eq!(at(90_000).unwrap(), Some(36_000));
        for gone in [0, -5] {
            assert_eq!(at(gone).unwrap_err().code(), "expired");
        }
    }
}
