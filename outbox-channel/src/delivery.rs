//! One message on its way through one channel.

use crate::{ChannelName, SendError};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the application wrote: one row of `outbox_events`, never changed.
#[derive(Clone)]
pub struct Event {
    /// `outbox_events.id`.
    pub id: i64,
    /// What happened, for instance `invoice.paid`.
    pub event_type: String,
    /// The JSON that the application wrote, as text.
    pub payload: Box<RawValue>,
    /// Free text pairs beside the payload.
    pub headers: BTreeMap<String, String>,
    /// Events with the same key are delivered in the order of their ids.
    pub key: Option<String>,
    /// How many tries after the first; `None` leaves it to the channel's setting.
    pub max_retries: Option<u32>,
    /// Not worth delivering from then on.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the application's transaction began.
    pub created_at: DateTime<Utc>,
}

// By hand: a payload holds personal data and does not belong in a log.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .field("payload_bytes", &self.payload.get().len())
            .finish_non_exhaustive()
    }
}

/// Names one (event, channel) pair for the rest of the world: the same on every attempt, and
/// different in every other database, so that a receiver can drop what it has already had.
///
/// Made of `[a-z0-9_-]`, so that it can stand in a header, a URL or a file name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// `installation` tells databases apart: up to 32 of `[a-z0-9]`.
    #[must_use]
    pub fn new(installation: &str, event_id: i64, channel: &ChannelName) -> Self {
        Self(format!("{installation}-{event_id}-{channel}"))
    }

    /// The id as it goes on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One message on its way through one channel: what a [`Channel`](crate::Channel) is given.
///
/// ```
/// use outbox_channel::Delivery;
///
/// #[derive(serde::Deserialize)]
/// struct Message { to: String }
///
/// let delivery = Delivery::builder("user.invited", r#"{"to": "ada@example.org"}"#)?.build();
/// let message: Message = delivery.message()?;
/// assert_eq!(message.to, "ada@example.org");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Delivery {
    id: DeliveryId,
    event: Arc<Event>,
    channel: ChannelName,
    rendered: Option<Box<RawValue>>,
    attempt: u32,
    deadline: Instant,
}

impl Delivery {
    /// A delivery for the tests of a channel. `payload` is JSON.
    ///
    /// # Errors
    /// When `payload` is not JSON.
    pub fn builder(event_type: &str, payload: &str) -> Result<DeliveryBuilder, serde_json::Error> {
        let event = Event {
            id: 1,
            event_type: event_type.to_owned(),
            payload: RawValue::from_string(payload.to_owned())?,
            headers: BTreeMap::new(),
            key: None,
            max_retries: None,
            expires_at: None,
            created_at: Utc::now(),
        };
        Ok(DeliveryBuilder::new(
            "test",
            Arc::new(event),
            ChannelName::try_from("test".to_owned()).map_err(serde::de::Error::custom)?,
        ))
    }

    /// The idempotency key: the same on every attempt.
    #[must_use]
    pub fn id(&self) -> &DeliveryId {
        &self.id
    }

    /// What the application wrote.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The name of the channel it goes through.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The message: the event's payload with what the route's templates rendered laid over it.
    #[must_use]
    pub fn payload(&self) -> &RawValue {
        self.rendered.as_deref().unwrap_or(&self.event.payload)
    }

    /// Reads [`payload`](Self::payload) as the channel's own message type.
    ///
    /// # Errors
    /// A permanent [`SendError`] with code `payload` that says what is missing or malformed.
    pub fn message<M: DeserializeOwned>(&self) -> Result<M, SendError> {
        let text = self.payload().get();
        if !text.trim_start().starts_with('{') {
            return Err(SendError::permanent(
                "payload",
                "the payload must be a JSON object",
            ));
        }
        serde_json::from_str(text).map_err(|error| {
            let reason = without_value(&error.to_string());
            SendError::permanent("payload", format!("the payload does not fit: {reason}"))
        })
    }

    /// Which try this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When this attempt has to be over.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long this attempt may still take; zero when its deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Puts a [`Delivery`] together: the engine's side, and that of channel tests.
#[derive(Debug)]
pub struct DeliveryBuilder(Delivery);

impl DeliveryBuilder {
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// First attempt of `event` through `channel`, with 30 seconds to go.
    #[must_use]
    pub fn new(installation: &str, event: Arc<Event>, channel: ChannelName) -> Self {
        Self(Delivery {
            id: DeliveryId::new(installation, event.id, &channel),
            event,
            channel,
            rendered: None,
            attempt: 1,
            deadline: Instant::now() + Self::DEFAULT_TIMEOUT,
        })
    }

    /// The rendered message, a JSON object that replaces the payload.
    #[must_use]
    pub fn rendered(mut self, message: Option<Box<RawValue>>) -> Self {
        self.0.rendered = message;
        self
    }

    /// Which try this is, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = attempt;
        self
    }

    /// How long the attempt may take, from now.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.deadline = Instant::now() + timeout;
        self
    }

    /// The delivery.
    #[must_use]
    pub fn build(self) -> Delivery {
        self.0
    }
}

/// serde quotes the offending value (`invalid type: string "4711", expected …`); values are
/// personal data and stay out of errors.
fn without_value(reason: &str) -> String {
    match (reason.split_once(": "), reason.rfind(", expected ")) {
        (Some((problem @ ("invalid type" | "invalid value"), _)), Some(expected)) => {
            format!("{problem}{}", &reason[expected..])
        }
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_same_on_every_attempt() {
        let first = Delivery::builder("a", "{}").unwrap().attempt(1).build();
        let later = Delivery::builder("a", "{}").unwrap().attempt(7).build();
        assert_eq!(first.id(), later.id());
        assert_eq!(first.id().as_str(), "test-1-test");
    }

    #[test]
    fn a_payload_that_is_no_object_is_told_so() {
        #[derive(Debug, serde::Deserialize)]
        struct Anything {}
        let delivery = Delivery::builder("a", "[1]").unwrap().build();
        let error = delivery.message::<Anything>().unwrap_err();
        assert!(error.message().contains("must be a JSON object"), "{error}");
    }

    #[test]
    fn a_malformed_field_is_told_without_its_value() {
        #[derive(Debug, serde::Deserialize)]
        struct Message {
            #[expect(dead_code, reason = "only its absence or type matters")]
            to: Vec<String>,
        }
        let reason = |payload| {
            let delivery = Delivery::builder("a", payload).unwrap().build();
            delivery
                .message::<Message>()
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert!(reason("{}").contains("missing field `to`"));
        let wrong_type = reason(r#"{"to": "4711, expected "}"#);
        assert!(
            wrong_type.contains("invalid type, expected a sequence"),
            "{wrong_type}"
        );
        assert!(!wrong_type.contains("4711"));
    }

    #[test]
    fn a_debugged_delivery_shows_no_payload() {
        let delivery = Delivery::builder("a", r#"{"code":"4711"}"#)
            .unwrap()
            .build();
        assert!(!format!("{delivery:?}").contains("4711"));
    }
}
