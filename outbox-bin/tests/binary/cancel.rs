//! `events cancel` while workers deliver.

use crate::support::{Providers, Shop};
use outbox_sandbox::webhook::WebhookReceiver;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const EVENTS: i64 = 400;

/// How often each event came.
fn came(receiver: &WebhookReceiver) -> BTreeMap<i64, u64> {
    let times = receiver.times_by_id().into_iter();
    times
        .map(|(id, times)| (id.split('-').nth(1).unwrap().parse().unwrap(), times))
        .collect()
}

fn ids(list: &Value) -> BTreeSet<i64> {
    let ids = list.as_array().unwrap().iter();
    ids.map(|id| {
        id.as_i64()
            .unwrap_or_else(|| id["event_id"].as_i64().unwrap())
    })
    .collect()
}

/// Each event is sent once, or was taken back and is never sent, and all who ask are told the
/// same.
#[tokio::test]
async fn a_cancel_that_races_a_send_ends_in_one_truth() {
    let shop = Shop::migrated().await;
    let providers = Providers::start().await;
    let scene = providers
        .scene(&shop)
        .set("OUTBOX_CHANNELS__WEBHOOK__CONCURRENCY", "4");
    sqlx::query(
        "INSERT INTO outbox_events (event_type, payload, key)
         SELECT 'a', '{\"channels\": [\"webhook\"]}', CASE WHEN n % 3 = 0 THEN 'k' || n % 7 END
         FROM generate_series(1, $1) n",
    )
    .bind(EVENTS)
    .execute(&shop.pool)
    .await
    .unwrap();
    let mut taken_back: BTreeSet<i64> = BTreeSet::new();
    let mut too_late: BTreeSet<i64> = BTreeSet::new();
    let mut workers = Vec::new();
    // Every other event, from the last on: workers come towards it.
    let even: Vec<String> = (1..=EVENTS / 2)
        .rev()
        .map(|n| (2 * n).to_string())
        .collect();
    for some in even.chunks(8) {
        let command = ["events", "cancel", "--json"];
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let done = scene.outbox(&[&command, &*some].concat()).await;
        let report: Value = serde_json::from_str(&done.out).unwrap();
        let named: BTreeSet<i64> = some.iter().map(|id| id.parse().unwrap()).collect();
        let in_flight = ids(&report["in_flight"]);
        let settled = ids(&report["nothing_to_do"]);
        assert_eq!(ids(&report["not_found"]), BTreeSet::new());
        assert_eq!(
            done.code,
            Some(i32::from(!in_flight.is_empty() || !settled.is_empty()))
        );
        let refused: BTreeSet<i64> = in_flight.union(&settled).copied().collect();
        taken_back.extend(named.difference(&refused));
        too_late.extend(refused);
        if workers.is_empty() {
            workers.extend([scene.worker().await, scene.worker().await]);
        }
    }
    for id in 1..=EVENTS {
        shop.settled(id).await;
    }
    for worker in workers {
        worker.stop().await;
    }

    let came = came(&providers.webhook);
    assert!(came.values().all(|times| *times == 1), "{came:?}");
    assert!(taken_back.len() >= 8 && !came.is_empty());
    for id in 1..=EVENTS {
        let expected = if taken_back.contains(&id) {
            ("cancelled", false)
        } else {
            ("processed", true)
        };
        let truth = (&*shop.status(id).await, came.contains_key(&id));
        assert_eq!(
            truth,
            expected,
            "event {id}, refused: {}",
            too_late.contains(&id)
        );
    }
    assert_eq!(taken_back.len() + too_late.len(), even.len());
}
