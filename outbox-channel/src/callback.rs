//! What a provider tells later: callbacks, and what they report.

use crate::error::shorten;
use std::borrow::Cow;
use std::fmt;

/// A request in which a provider tells what became of messages that it took.
///
/// It comes from anybody: a channel believes nothing in it before it has checked the
/// provider's signature.
///
/// ```
/// # use outbox_channel::Callback;
/// let callback = Callback::new(b"MessageSid=SM1".to_vec())
///     .with_header("X-Twilio-Signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ=");
/// assert_eq!(callback.header("x-twilio-signature"), Some("0/KCTR6DLpKmkAf8muzZqo1nDgQ="));
/// ```
#[derive(Clone, Default)]
pub struct Callback {
    headers: Vec<(String, String)>,
    query: Option<String>,
    body: Vec<u8>,
}

impl Callback {
    /// A request with this body.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets what stands behind the `?` of the URL that was called, as it stands there.
    #[must_use]
    pub fn with_query(mut self, query: impl Into<String>) -> Self {
        self.query = Some(query.into());
        self
    }

    /// The value of a header, whatever the case of its name. None also when it came more than
    /// once: which of two signatures counts must not be a matter of taste.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// What stands behind the `?` of the URL that was called.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The body's bytes, as they came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

// By hand: it names recipients.
impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// How far a message has come, as its provider reports it.
///
/// In the order in which they count: reports are repeated and come in any order, and of all
/// that were made about a message the greatest holds. So `Sent` never hides `Undelivered`, and
/// nothing hides `Delivered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportedStatus {
    /// The provider has it, and has not passed it on.
    Accepted,
    /// The provider has passed it on: to the carrier, to the recipient's server.
    Sent,
    /// The provider could not pass it on, and has given up.
    Failed,
    /// It was passed on and did not reach its recipient.
    Undelivered,
    /// It has reached its recipient.
    Delivered,
}

impl ReportedStatus {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Sent,
        Self::Failed,
        Self::Undelivered,
        Self::Delivered,
    ];

    /// The status as stored and shown: `accepted`, `sent`, `failed`, `undelivered`,
    /// `delivered`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Undelivered => "undelivered",
            Self::Delivered => "delivered",
        }
    }

    /// Whether the message has not arrived and never will.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Undelivered)
    }
}

impl fmt::Display for ReportedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a provider reports about one message.
///
/// ```
/// # use outbox_channel::{Report, ReportedStatus};
/// let report = Report::new("SM0f3…", ReportedStatus::Undelivered).with_code("30003");
/// assert_eq!(report.code(), Some("30003"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    provider_id: String,
    status: ReportedStatus,
    code: Option<String>,
}

impl Report {
    /// `provider_id` is the name under which the provider knows the message: the one that was
    /// given to [`Receipt::with_provider_id`](crate::Receipt::with_provider_id). At most 255
    /// bytes of it count, as there.
    #[must_use]
    pub fn new(provider_id: impl Into<String>, status: ReportedStatus) -> Self {
        let mut provider_id = provider_id.into();
        shorten(&mut provider_id, crate::Receipt::MAX_PROVIDER_ID);
        Self {
            provider_id,
            status,
            code: None,
        }
    }

    /// The provider's word or number for why, to group by: at most 64 bytes of it.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        let mut code = code.into();
        shorten(&mut code, crate::SendError::MAX_CODE);
        self.code = Some(code);
        self
    }

    /// The name under which the provider knows the message.
    #[must_use]
    pub fn provider_id(&self) -> &str {
        &self.provider_id
    }

    /// How far it has come.
    #[must_use]
    pub fn status(&self) -> ReportedStatus {
        self.status
    }

    /// The provider's word or number for why.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// Why a callback is not believed.
///
/// The message goes to whoever called: it names what is wrong, and neither a secret nor
/// anything about a message.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallbackError {
    message: Cow<'static, str>,
    is_forged: bool,
}

impl CallbackError {
    /// It bears no signature, or a wrong one.
    pub fn forged(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            is_forged: true,
        }
    }

    /// It does not have the form that the provider gives to its callbacks.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            is_forged: false,
        }
    }

    /// Whether the signature is missing or wrong.
    #[must_use]
    pub fn is_forged(&self) -> bool {
        self.is_forged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_comes_twice_is_no_header() {
        let once = Callback::new("").with_header("X-Signature", "a");
        assert_eq!(once.header("x-signature"), Some("a"));
        assert_eq!(once.header("x-sig"), None);
        let twice = once.with_header("x-signature", "a");
        assert_eq!(twice.header("X-Signature"), None);
    }

    #[test]
    fn a_callback_shows_neither_headers_nor_body() {
        let callback = Callback::new("To=%2B15551234567")
            .with_header("authorization", "s3cret")
            .with_query("to=15551234567");
        let shown = format!("{callback:?}");
        assert!(
            !shown.contains("555") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn statuses_are_in_the_order_in_which_they_count() {
        assert!(ReportedStatus::ALL.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_report_names_the_message_as_its_receipt_does() {
        let long = "é\0x".repeat(200);
        let report = Report::new(&*long, ReportedStatus::Sent).with_code(&*long);
        let receipt = crate::Receipt::new().with_provider_id(&*long);
        assert_eq!(Some(report.provider_id()), receipt.provider_id());
        assert!(report.code().unwrap().len() <= 64);
    }
}
