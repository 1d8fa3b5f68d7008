//! Looking at events, one by one or a page at a time.

use crate::error::StoreError;
use crate::store::Store;
use chrono::{DateTime, Utc};
use outbox_channel::ChannelName;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What `outbox_event_status` says about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventStatus {
    /// Something is left to do.
    Pending,
    /// Something waits for a human.
    Held,
    /// Delivered.
    Processed,
    /// At least one channel gave up.
    Failed,
    /// No route.
    Skipped,
    /// At least one delivery was taken back.
    Cancelled,
    /// At least one delivery was too late.
    Expired,
}

impl EventStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Held,
        Self::Processed,
        Self::Failed,
        Self::Skipped,
        Self::Cancelled,
        Self::Expired,
    ];

    /// As the view has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Results that an event of this status has; `None` when it is not settled yet.
    fn results(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Pending | Self::Held => None,
            Self::Processed => Some(&["delivered"]),
            Self::Failed => Some(&["dead"]),
            Self::Skipped => Some(&["skipped", "suppressed"]),
            Self::Cancelled => Some(&["cancelled"]),
            Self::Expired => Some(&["expired"]),
        }
    }
}

impl fmt::Display for EventStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("expected one of {all}")
        })
    }
}

/// Which events; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// In this status.
    pub status: Option<EventStatus>,
    /// Of a type that matches: `*` stands for any characters, `?` for one.
    pub event_type: Option<String>,
    /// With a result or something left to do for this channel.
    pub channel: Option<ChannelName>,
    /// Created then or later.
    pub since: Option<DateTime<Utc>>,
    /// With this key.
    pub key: Option<String>,
}

impl EventFilter {
    /// The type as a pattern for LIKE.
    fn pattern(&self) -> Option<String> {
        let as_like = |c| match c {
            '*' => "%".to_owned(),
            '?' => "_".to_owned(),
            '%' | '_' | '\\' => format!("\\{c}"),
            c => String::from(c),
        };
        Some(self.event_type.as_ref()?.chars().map(as_like).collect())
    }
}

/// An event as a list shows it.
#[derive(Debug, Clone, Serialize)]
pub struct EventSummary {
    /// Its id.
    pub id: i64,
    /// Its type.
    pub event_type: String,
    /// Its key.
    pub key: Option<String>,
    /// Where it stands, see [`EventStatus`].
    pub status: String,
    /// Tries after the first.
    pub retry_count: i32,
    /// How many there may be.
    pub max_retries: Option<i32>,
    /// When the next one is due.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When it was settled.
    pub processed_at: Option<DateTime<Utc>>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// When its transaction began.
    pub created_at: DateTime<Utc>,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct EventPage {
    /// The youngest first.
    pub events: Vec<EventSummary>,
    /// The next page is what comes before this id; `None` when this is the last page.
    pub next: Option<i64>,
}

/// A row of the list statement: without a status when the event was deleted meanwhile.
struct Candidate {
    id: i64,
    event_type: Option<String>,
    key: Option<String>,
    status: Option<String>,
    retry_count: Option<i32>,
    max_retries: Option<i32>,
    next_retry_at: Option<DateTime<Utc>>,
    processed_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    created_at: Option<DateTime<Utc>>,
}

impl Candidate {
    fn into_summary(self) -> Option<EventSummary> {
        Some(EventSummary {
            id: self.id,
            event_type: self.event_type?,
            key: self.key,
            status: self.status?,
            retry_count: self.retry_count.unwrap_or_default(),
            max_retries: self.max_retries,
            next_retry_at: self.next_retry_at,
            processed_at: self.processed_at,
            last_error: self.last_error,
            created_at: self.created_at?,
        })
    }
}

impl Store {
    /// Most events on a page.
    const LONGEST_PAGE: u32 = 1000;

    /// Events, the youngest first: at most `limit` (1 to 1,000), those before id `before` when
    /// there is one.
    ///
    /// Quick for everything that is young or not settled. Looking for what is rare among a
    /// million settled events reads them all.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<EventPage, StoreError> {
        let limit = limit.clamp(1, Self::LONGEST_PAGE) as usize;
        let mut events = Vec::new();
        let mut before = before.unwrap_or(i64::MAX);
        // One more tells whether there is another page.
        while events.len() <= limit {
            let candidates = self.candidates(filter, before, limit + 1).await;
            let candidates = candidates.map_err(StoreError::during("list events"))?;
            let is_last = candidates.len() <= limit;
            before = candidates.last().map_or(before, |last| last.id);
            let wanted = filter.status.map(EventStatus::as_str);
            let matching = candidates
                .into_iter()
                .filter_map(Candidate::into_summary)
                .filter(|event| wanted.is_none_or(|wanted| event.status == wanted));
            events.extend(matching);
            if is_last {
                break;
            }
        }
        let is_more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| is_more).map(|last| last.id);
        Ok(EventPage { events, next })
    }

    /// The ids of all events that match, the youngest first.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn event_ids(&self, filter: &EventFilter) -> Result<Vec<i64>, StoreError> {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = self.list_events(filter, before, Self::LONGEST_PAGE).await?;
            ids.extend(page.events.iter().map(|event| event.id));
            before = page.next;
            if before.is_none() {
                return Ok(ids);
            }
        }
    }

    async fn candidates(
        &self,
        filter: &EventFilter,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Candidate>, sqlx::Error> {
        let results = filter.status.map(EventStatus::results);
        let mut transaction = self.begin_planned().await?;
        let candidates = sqlx::query_file_as!(
            Candidate,
            "sql/list_events.sql",
            results.map(|results| results.is_some()),
            results.flatten().unwrap_or_default() as &[&str],
            filter.status == Some(EventStatus::Held),
            filter.pattern(),
            filter.channel.as_ref().map(ChannelName::as_str),
            filter.since,
            filter.key.as_deref(),
            before,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(candidates)
    }
}
