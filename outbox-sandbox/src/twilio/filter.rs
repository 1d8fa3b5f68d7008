//! Which messages a list is asked for.

use super::SentMessage;
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::HashMap;
use url::form_urlencoded;

/// `To`, `From`, `DateSent`, `DateSent>`, `DateSent<` and `PageSize`
/// (<https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources>).
pub(super) struct Filter(HashMap<String, String>);

impl Filter {
    pub(super) fn read(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    pub(super) fn page_size(&self) -> usize {
        let size = self.0.get("PageSize").and_then(|size| size.parse().ok());
        size.unwrap_or(50).clamp(1, 1_000)
    }

    pub(super) fn fits(&self, message: &SentMessage) -> bool {
        let sent = message.created_at;
        self.is("To", Some(&message.to))
            && self.is("From", message.from.as_deref())
            && self.dated("DateSent", |start, end| start <= sent && sent <= end)
            && self.dated("DateSent>", |start, _| sent >= start)
            && self.dated("DateSent<", |_, end| sent <= end)
    }

    fn is(&self, name: &str, value: Option<&str>) -> bool {
        let wanted = self.0.get(name);
        wanted.is_none_or(|wanted| value == Some(wanted))
    }

    fn dated(&self, name: &str, fits: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool) -> bool {
        let span = self.0.get(name).and_then(|text| span(text));
        span.is_none_or(|(start, end)| fits(start, end))
    }
}

/// A date stands for its whole day, a time for itself.
fn span(text: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some((time.to_utc(), time.to_utc()));
    }
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|time| time.and_utc());
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some((midnight(date)?, midnight(date.succ_opt()?)?))
}
