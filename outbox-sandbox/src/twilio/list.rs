//! The list of messages, in pages.

use super::SentMessage;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use std::collections::HashMap;
use url::form_urlencoded;

/// Which messages a list is asked for, and which page of it: `To`, `From`, `DateSent`,
/// `DateSent>`, `DateSent<`, `PageSize` and `PageToken`
/// (<https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources>,
/// <https://www.twilio.com/docs/usage/twilios-response#pagination>).
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn read(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// One page of `messages`, which come oldest first and are listed newest first.
    pub(super) fn page(&self, messages: &[SentMessage], account: &str) -> Value {
        let number: usize = self.number("Page").unwrap_or_default();
        let size = self.number("PageSize").unwrap_or(50).clamp(1, 1_000);
        let mut rest = messages
            .iter()
            .rev()
            .skip(self.behind(messages))
            .filter(|each| self.fits(each));
        let page: Vec<_> = rest.by_ref().take(size).collect();
        let next = page.last().filter(|_| rest.next().is_some());
        let next = next.map(|last| self.uri(account, number + 1, Some(&last.sid)));
        let shown: Vec<_> = page.iter().map(|each| each.json(account, true)).collect();
        let start = number * size;
        json!({
            "end": start + shown.len().saturating_sub(1),
            "first_page_uri": self.uri(account, 0, None),
            "messages": shown,
            "next_page_uri": next,
            "page": number,
            "page_size": size,
            "previous_page_uri": null,
            "start": start,
            "uri": self.uri(account, number, self.token()),
        })
    }

    /// How many come before the page, which begins behind the message that its token names,
    /// whatever has been sent since.
    fn behind(&self, messages: &[SentMessage]) -> usize {
        let Some(last) = self.token() else { return 0 };
        let mut newest_first = messages.iter().rev();
        let place = newest_first.position(|each| each.sid == last);
        place.map_or(messages.len(), |place| place + 1)
    }

    fn token(&self) -> Option<&str> {
        let token = self.0.get("PageToken")?;
        token.strip_prefix("PA")
    }

    fn uri(&self, account: &str, page: usize, last: Option<&str>) -> String {
        let filters = [
            "To",
            "From",
            "DateSent",
            "DateSent>",
            "DateSent<",
            "PageSize",
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for name in filters {
            query.extend_pairs(self.0.get(name).map(|value| (name, value)));
        }
        query.append_pair("Page", &page.to_string());
        query.extend_pairs(last.map(|last| ("PageToken", format!("PA{last}"))));
        let query = query.finish();
        format!("/2010-04-01/Accounts/{account}/Messages.json?{query}")
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.parse().ok()
    }

    fn fits(&self, message: &SentMessage) -> bool {
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
