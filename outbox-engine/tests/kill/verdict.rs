//! What became of each delivery, by the ledger and the database.

use crate::ledger::{Arrival, counts};
use crate::scene::Kind;
use sqlx::postgres::PgPool;
use std::collections::{BTreeMap, BTreeSet};

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Once,
    Twice,
    /// It arrived, and waits for a human.
    Held,
    /// It never arrived, and waits for a human.
    HeldUnsent,
    /// An operator took it back, and it never arrived.
    Cancelled,
    /// It had been given up, and still is.
    Dead,
    /// Neither did it arrive nor does anybody know of it.
    Lost,
}

/// The fate of each delivery of a run in which nothing may be lost, come out of order or bear
/// two ids.
pub(crate) async fn judge(pool: &PgPool, kind: Kind, taken: &[Arrival], name: &str) -> Vec<Fate> {
    let ids: BTreeSet<_> = taken.iter().map(|a| (&a.channel, a.event, &a.id)).collect();
    let arrivals = counts(taken);
    assert_eq!(
        ids.len(),
        arrivals.len(),
        "{name}: one delivery, several ids: {taken:?}"
    );
    assert_in_order(taken, name);
    let (delivered, held) = (results(pool, "delivered").await, held(pool).await);
    let (cancelled, dead) = (
        results(pool, "cancelled").await,
        results(pool, "dead").await,
    );
    let expected = kind.deliveries();
    let of_another =
        |(event, channel): &&(i64, String)| !expected.contains(&(*event, channel.as_str()));
    let of_another = delivered.iter().chain(&held).find(of_another);
    assert_eq!(of_another, None, "{name}: nobody committed that");
    let fate = |(event, channel): (i64, &'static str)| {
        let times = arrivals.get(&(channel, event)).copied().unwrap_or_default();
        let row = (event, channel.to_owned());
        // What is cancelled before it is routed is so for all channels.
        if times == 0 && (cancelled.contains(&(event, String::new())) || cancelled.contains(&row)) {
            return Fate::Cancelled;
        }
        if times == 0 && dead.contains(&row) {
            return Fate::Dead;
        }
        match (times, delivered.contains(&row), held.contains(&row)) {
            (0, false, true) => Fate::HeldUnsent,
            (1, false, true) => Fate::Held,
            (1, true, false) => Fate::Once,
            (2, true, false) => Fate::Twice,
            (0, ..) | (_, false, false) => Fate::Lost,
            _ => panic!("{name}: event {event} came to {channel} {times} times: {taken:?}"),
        }
    };
    expected.into_iter().map(fate).collect()
}

/// Each first arrival comes after those of the events before it: all events here have one key,
/// if any. A receiver that drops what it has had sees nothing else.
fn assert_in_order(taken: &[Arrival], name: &str) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for arrival in taken {
        if seen.insert((&arrival.channel, arrival.event)) {
            let before = last
                .insert(&arrival.channel, arrival.event)
                .unwrap_or_default();
            assert!(before < arrival.event, "{name}: out of order: {taken:?}");
        }
    }
}

async fn results(pool: &PgPool, status: &str) -> BTreeSet<(i64, String)> {
    sqlx::query_as("SELECT event_id, channel FROM outbox_deliveries WHERE status = $1")
        .bind(status)
        .fetch_all(pool)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

/// Held, with a reason.
async fn held(pool: &PgPool) -> BTreeSet<(i64, String)> {
    let held = "SELECT event_id, channel FROM outbox_queue q WHERE due_at = 'infinity'
                AND EXISTS (SELECT FROM outbox_attempts a WHERE a.event_id = q.event_id
                            AND a.channel = q.channel AND a.message <> '')";
    sqlx::query_as(held)
        .fetch_all(pool)
        .await
        .unwrap()
        .into_iter()
        .collect()
}
