//! How it all ended, and whether it ended as it should.

use super::providers::Providers;
use super::traffic::Traffic;
use crate::cli::OutputArgs;
use crate::failure::Failure;
use crate::output;
use anyhow::Context;
use outbox_store::Store;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Serialize)]
pub(super) struct Report {
    /// Events by final state.
    events: BTreeMap<String, u64>,
    deliveries: Vec<Channel>,
    /// Text messages by what Twilio has told of them since it took them.
    receipts: BTreeMap<String, u64>,
    attempts: Attempts,
    duration_seconds: f64,
    /// What is not as it should be; empty when all is well.
    surprises: Vec<String>,
}

#[derive(Serialize)]
struct Channel {
    channel: String,
    delivered: i64,
    dead: i64,
    /// Messages that the provider took.
    received: u64,
    /// Of those, how many it had not seen before.
    distinct: u64,
}

#[derive(Serialize)]
struct Attempts {
    made: i64,
    failed: i64,
}

impl Report {
    pub(super) async fn make(
        store: &Store,
        traffic: &Traffic,
        providers: &Providers,
        duration: Duration,
    ) -> Result<Self, Failure> {
        let ids: Vec<i64> = traffic.expected().keys().copied().collect();
        let statuses: BTreeMap<i64, String> =
            sqlx::query_as("SELECT id, status FROM outbox_event_status WHERE id = ANY ($1)")
                .bind(&ids)
                .fetch_all(store.pool())
                .await
                .context("cannot read how the events ended")?
                .into_iter()
                .collect();
        let deliveries = channels(store, &ids, providers).await?;
        let receipts = receipts(store, &ids, providers).await?;
        let failed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox_attempts WHERE event_id = ANY ($1)")
                .bind(&ids)
                .fetch_one(store.pool())
                .await
                .context("cannot count attempts")?;
        let delivered: i64 = deliveries.iter().map(|channel| channel.delivered).sum();
        let mut events = BTreeMap::new();
        for status in statuses.values() {
            *events.entry(status.clone()).or_default() += 1;
        }
        let mut surprises = surprises(traffic, &statuses, &deliveries, providers.forged());
        surprises.extend(surprising_receipts(&receipts, providers));
        Ok(Self {
            surprises,
            events,
            deliveries,
            receipts,
            attempts: Attempts {
                made: delivered + failed,
                failed,
            },
            duration_seconds: (duration.as_secs_f64() * 10.0).round() / 10.0,
        })
    }

    pub(super) fn is_as_it_should_be(&self) -> bool {
        self.surprises.is_empty()
    }

    pub(super) fn print(&self, format: OutputArgs) -> Result<(), Failure> {
        if format.json {
            output::json(self)?;
            return Ok(());
        }
        let events = self
            .events
            .iter()
            .map(|(state, count)| [state.clone(), count.to_string()]);
        output::table(["EVENTS", "COUNT"], events, "no events");
        output::line("");
        let rows = self.deliveries.iter().map(|row| {
            let (delivered, dead) = (row.delivered.to_string(), row.dead.to_string());
            [
                row.channel.clone(),
                delivered,
                dead,
                row.received.to_string(),
                row.distinct.to_string(),
            ]
        });
        let header = ["CHANNEL", "DELIVERED", "DEAD", "RECEIVED", "DISTINCT"];
        output::table(header, rows, "no deliveries");
        output::line("");
        let receipts = self
            .receipts
            .iter()
            .map(|(status, count)| [status.clone(), count.to_string()]);
        output::table(["TEXT MESSAGES", "COUNT"], receipts, "no text messages");
        output::line("");
        let Attempts { made, failed } = self.attempts;
        output::line(format_args!("attempts: {made}, of which {failed} failed"));
        output::line(format_args!("duration: {:.1} s", self.duration_seconds));
        for surprise in &self.surprises {
            output::line(format_args!("NOT AS IT SHOULD BE: {surprise}"));
        }
        if self.surprises.is_empty() {
            output::line("every event ended as it should");
        }
        Ok(())
    }
}

async fn channels(
    store: &Store,
    ids: &[i64],
    providers: &Providers,
) -> Result<Vec<Channel>, Failure> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT channel, count(*) FILTER (WHERE status = 'delivered'), \
                count(*) FILTER (WHERE status = 'dead') \
         FROM outbox_deliveries WHERE event_id = ANY ($1) AND channel <> '' \
         GROUP BY channel ORDER BY channel",
    )
    .bind(ids)
    .fetch_all(store.pool())
    .await
    .context("cannot count deliveries")?;
    let rows = rows.into_iter().map(|(channel, delivered, dead)| {
        let (received, distinct) = providers.received(&channel);
        Channel {
            channel,
            delivered,
            dead,
            received,
            distinct,
        }
    });
    Ok(rows.collect())
}

/// What Twilio has told, as soon as it has told of the last message, or should have.
async fn receipts(
    store: &Store,
    ids: &[i64],
    providers: &Providers,
) -> Result<BTreeMap<String, u64>, Failure> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let (told, _) = providers.received("sms");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT r.status, count(*) FROM outbox_deliveries d \
             JOIN outbox_receipts r ON r.provider_id = d.provider_id AND r.channel = d.channel \
             WHERE d.event_id = ANY ($1) GROUP BY r.status",
        )
        .bind(ids)
        .fetch_all(store.pool())
        .await
        .context("cannot count what Twilio has told")?;
        let count = |(status, count): (String, i64)| (status, count.unsigned_abs());
        let receipts: BTreeMap<String, u64> = rows.into_iter().map(count).collect();
        if arrived_or_not(&receipts) == told || Instant::now() > deadline {
            return Ok(receipts);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Messages of which it is known how they ended.
fn arrived_or_not(receipts: &BTreeMap<String, u64>) -> u64 {
    let ends = ["delivered", "undelivered"];
    ends.iter().filter_map(|end| receipts.get(*end)).sum()
}

fn surprising_receipts(receipts: &BTreeMap<String, u64>, providers: &Providers) -> Option<String> {
    let (taken, _) = providers.received("sms");
    let undelivered = receipts.get("undelivered").copied().unwrap_or_default();
    let expected = providers.undelivered();
    (arrived_or_not(receipts) != taken || undelivered != expected).then(|| {
        format!(
            "of {taken} text messages {expected} were not delivered, but the receipts are \
             {receipts:?}"
        )
    })
}

fn surprises(
    traffic: &Traffic,
    statuses: &BTreeMap<i64, String>,
    deliveries: &[Channel],
    forged: u64,
) -> Vec<String> {
    let mut surprises = Vec::new();
    for (id, expected) in traffic.expected() {
        match statuses.get(id).map(String::as_str) {
            Some(status) if status == *expected => {}
            Some(status) => surprises.push(format!("event {id} is {status}, not {expected}")),
            None => surprises.push(format!("event {id} is gone")),
        }
    }
    for row in deliveries {
        if u64::try_from(row.delivered) != Ok(row.distinct) {
            surprises.push(format!(
                "{} deliveries through {} are recorded, but its provider has {} messages",
                row.delivered, row.channel, row.distinct
            ));
        }
    }
    if forged > 0 {
        surprises.push(format!("{forged} webhooks had no valid signature"));
    }
    surprises
}
