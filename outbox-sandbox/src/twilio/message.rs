//! A message as Twilio takes it and shows it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use url::form_urlencoded;

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Its name: `SM` or `MM` and 32 hexadecimal digits.
    pub sid: String,
    /// The `To` parameter.
    pub to: String,
    /// The `From` parameter.
    pub from: Option<String>,
    /// The `MessagingServiceSid` parameter.
    pub messaging_service_sid: Option<String>,
    /// The `Body` parameter; empty when there was none.
    pub body: String,
    /// Every `MediaUrl` parameter.
    pub media_urls: Vec<String>,
    /// The `ValidityPeriod` parameter, in seconds.
    pub validity_period: Option<u32>,
    /// The `StatusCallback` parameter.
    pub status_callback: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
}

/// Why Twilio refuses a request: HTTP status, code, message.
pub(super) type Refusal = (u16, u32, String);

impl SentMessage {
    /// Reads a form, `application/x-www-form-urlencoded`. The sid is still empty.
    pub(super) fn read(form: &[u8], now: DateTime<Utc>) -> Result<Self, Refusal> {
        let mut message = Self {
            sid: String::new(),
            to: String::new(),
            from: None,
            messaging_service_sid: None,
            body: String::new(),
            media_urls: Vec::new(),
            validity_period: None,
            status_callback: None,
            created_at: now,
        };
        for (name, value) in form_urlencoded::parse(form) {
            let value = value.into_owned();
            match name.as_ref() {
                "To" => message.to = value,
                "From" => message.from = Some(value),
                "MessagingServiceSid" => message.messaging_service_sid = Some(value),
                "Body" => message.body = value,
                "MediaUrl" => message.media_urls.push(value),
                "StatusCallback" => message.status_callback = Some(value),
                "ValidityPeriod" => message.validity_period = Some(validity(&value)?),
                _ => {}
            }
        }
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Refusal> {
        let refuse = |code, text: &str| Err((400, code, text.to_owned()));
        if self.to.is_empty() {
            return refuse(21604, "A 'To' phone number is required.");
        }
        if self.from.is_none() && self.messaging_service_sid.is_none() {
            return refuse(21603, "A 'From' phone number is required.");
        }
        if self.body.is_empty() && self.media_urls.is_empty() {
            return refuse(21602, "Message body is required.");
        }
        if self.body.chars().count() > 1_600 {
            return refuse(
                21617,
                "The concatenated message body exceeds the 1600 character limit.",
            );
        }
        magic_sender(self.from.as_deref().unwrap_or_default())?;
        magic_recipient(&self.to)
    }

    /// As the API shows it.
    pub(super) fn json(&self, account: &str, sent: bool) -> Value {
        let created = self.created_at.to_rfc2822();
        let status = match (sent, &self.messaging_service_sid) {
            (true, _) => "sent",
            (false, Some(_)) => "accepted",
            (false, None) => "queued",
        };
        json!({
            "account_sid": account,
            "api_version": "2010-04-01",
            "body": self.body,
            "date_created": created,
            "date_sent": sent.then_some(&created),
            "date_updated": created,
            "direction": "outbound-api",
            "error_code": null,
            "error_message": null,
            "from": self.from,
            "messaging_service_sid": self.messaging_service_sid,
            "num_media": self.media_urls.len().to_string(),
            "num_segments": "1",
            "price": null,
            "price_unit": null,
            "sid": self.sid,
            "status": status,
            "subresource_uris": {
                "media": format!("/2010-04-01/Accounts/{account}/Messages/{}/Media.json", self.sid),
            },
            "to": self.to,
            "uri": format!("/2010-04-01/Accounts/{account}/Messages/{}.json", self.sid),
        })
    }
}

/// <https://www.twilio.com/docs/api/errors/21624>
fn validity(value: &str) -> Result<u32, Refusal> {
    let seconds = value.parse().ok();
    seconds
        .filter(|seconds| (1..=36_000).contains(seconds))
        .ok_or_else(|| (400, 21624, "The ValidityPeriod is invalid.".to_owned()))
}

fn magic_sender(from: &str) -> Result<(), Refusal> {
    let (status, code, text) = match from {
        "+15005550001" => (
            400,
            21212,
            "The 'From' number {} is not a valid phone number, shortcode, or alphanumeric sender ID.",
        ),
        "+15005550007" => (
            400,
            21606,
            "The 'From' phone number provided ({}) is not a valid message-capable Twilio phone number for this destination/account.",
        ),
        "+15005550008" => (
            429,
            21611,
            "This 'From' number has exceeded the maximum number of queued messages.",
        ),
        _ => return Ok(()),
    };
    Err((status, code, text.replace("{}", from)))
}

fn magic_recipient(to: &str) -> Result<(), Refusal> {
    let (code, text) = match to {
        "+15005550001" => (21211, "The 'To' number {} is not a valid phone number."),
        "+15005550002" => (
            21612,
            "The 'To' phone number {} is not currently reachable using the 'From' phone number via SMS.",
        ),
        "+15005550003" => (
            21408,
            "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {}.",
        ),
        "+15005550004" => (21610, "Attempt to send to unsubscribed recipient"),
        "+15005550009" => (21614, "'To' number {} is not a valid mobile number"),
        _ => return Ok(()),
    };
    Err((400, code, text.replace("{}", to)))
}
