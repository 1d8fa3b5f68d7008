//! Rules shared by channels that speak HTTP. Numbers and text only, so that a plugin may use
//! the client it likes.

use crate::ErrorClass;
use std::time::{Duration, SystemTime};

/// What an HTTP status that is not a success says about a message.
///
/// 408, 425, 429 and 5xx are worth another try; every other status means that the same
/// request would be refused again ([RFC 9110, section 15](https://www.rfc-editor.org/rfc/rfc9110#section-15),
/// [RFC 8470, section 5.2](https://www.rfc-editor.org/rfc/rfc8470#section-5.2),
/// [RFC 6585, section 4](https://www.rfc-editor.org/rfc/rfc6585#section-4)).
///
/// ```
/// use outbox_channel::{ErrorClass, http::classify_status};
/// assert_eq!(classify_status(503), ErrorClass::Transient);
/// assert_eq!(classify_status(410), ErrorClass::Permanent);
/// ```
#[must_use]
pub fn classify_status(status: u16) -> ErrorClass {
    match status {
        408 | 425 | 429 | 500..=599 => ErrorClass::Transient,
        _ => ErrorClass::Permanent,
    }
}

/// Reads a `Retry-After` value, seconds or an HTTP date, as a wait from `now`; a date that has
/// passed is no wait at all
/// ([RFC 9110, section 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// let now = SystemTime::UNIX_EPOCH;
/// let wait = |value| outbox_channel::http::retry_after(value, now);
/// assert_eq!(wait("120"), Some(Duration::from_secs(120)));
/// assert_eq!(wait("Thu, 01 Jan 1970 00:01:00 GMT"), Some(Duration::from_secs(60)));
/// assert_eq!(wait("soon"), None);
/// ```
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}
