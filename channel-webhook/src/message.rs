//! From an event to a body, and from an answer to an outcome.

use chrono::{DateTime, SecondsFormat, Utc};
use outbox_channel::{Receipt, SendError, http::classify_status};
use serde_json::value::RawValue;
use std::time::Duration;

/// The body of a message: `{"type", "timestamp", "data"}`. The payload's text is put in as it
/// is, so that what is sent is what the application wrote, to the last digit of a number.
///
/// ```
/// # use chrono::DateTime;
/// # use serde_json::value::RawValue;
/// let payload = RawValue::from_string(r#"{"amount": 1.10}"#.to_owned())?;
/// let body = channel_webhook::body("invoice.paid", DateTime::UNIX_EPOCH, &payload)?;
/// let expected = r#"{"type":"invoice.paid","timestamp":"1970-01-01T00:00:00.000000Z","data":{"amount": 1.10}}"#;
/// assert_eq!(body, expected.as_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A permanent error, code `payload`, when the payload is not an object.
pub fn body(
    event_type: &str,
    created_at: DateTime<Utc>,
    payload: &RawValue,
) -> Result<Vec<u8>, SendError> {
    let data = payload.get();
    if !data.trim_start().starts_with('{') {
        let message = "the payload must be a JSON object";
        return Err(SendError::permanent("payload", message));
    }
    let event_type = serde_json::to_string(event_type).map_err(|error| {
        SendError::permanent("payload", "the event's type cannot be written as JSON")
            .with_source(error)
    })?;
    let timestamp = created_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let body = format!(r#"{{"type":{event_type},"timestamp":"{timestamp}","data":{data}}}"#);
    Ok(body.into_bytes())
}

/// What a receiver's status says about the message.
///
/// # Errors
/// Every status but 2xx, with the class that the [crate](crate)'s table gives and the answer's
/// excerpt.
pub fn outcome(
    status: u16,
    retry_after: Option<Duration>,
    excerpt: &str,
) -> Result<Receipt, SendError> {
    let message = match status {
        200..=299 => return Ok(Receipt::new()),
        300..=399 => "the target redirects, which is not followed: set the url it points to",
        410 => "the target is gone",
        408 | 425 | 429 | 500..=599 => "the target cannot take the message now",
        _ => "the target refuses the message",
    };
    let class = classify_status(status);
    Err(SendError::new(class, status.to_string(), message)
        .with_retry_after(retry_after)
        .with_answer(excerpt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox_channel::ErrorClass;

    #[test]
    fn the_event_type_is_escaped() {
        let payload = RawValue::from_string("{}".to_owned()).unwrap();
        let body = body("a\"b\n", DateTime::UNIX_EPOCH, &payload).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["type"], "a\"b\n");
    }

    #[test]
    fn a_payload_that_is_no_object_is_refused() {
        for payload in ["[]", "null", "1", "\"{}\""] {
            let payload = RawValue::from_string(payload.to_owned()).unwrap();
            let error = body("a", DateTime::UNIX_EPOCH, &payload).unwrap_err();
            assert_eq!(
                (error.class(), error.code()),
                (ErrorClass::Permanent, "payload")
            );
        }
    }

    #[test]
    fn each_status_has_its_class() {
        for status in 100..=999 {
            let class = outcome(status, None, "").err().map(|error| error.class());
            let expected = match status {
                200..=299 => None,
                408 | 425 | 429 | 500..=599 => Some(ErrorClass::Transient),
                _ => Some(ErrorClass::Permanent),
            };
            assert_eq!(class, expected, "{status}");
        }
    }
}
