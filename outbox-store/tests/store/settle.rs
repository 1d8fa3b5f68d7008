//! Writing down what became of leased rows.

use crate::common::{Fixture, channel, fixture, ids, lane, run, want};
use outbox_channel::ErrorClass;
use outbox_store::{
    ClaimId, FailedAttempt, Lane, Leased, Left, Outcome, ResultStatus, Settlement, Wait, WorkerId,
};
use sqlx::postgres::PgConnection;
use std::time::{Duration, Instant};

pub(crate) fn outcome(name: &str, status: ResultStatus) -> Outcome {
    let delivered = status == ResultStatus::Delivered;
    Outcome {
        channel: (!name.is_empty()).then(|| channel(name)),
        status,
        attempts: 1,
        code: (!delivered).then(|| "503".to_owned()),
        message: (!delivered).then(|| format!("{name} was {}", status.as_str())),
        // Not every provider has a name for it.
        provider_id: (delivered && name != "null").then(|| format!("{name}-id")),
        fell_back_to: None,
    }
}

pub(crate) fn left(name: &str, wait: Wait, keep: bool) -> Left {
    Left {
        channel: Some(channel(name)),
        attempts: 1,
        wait,
        keep,
        unknown: false,
    }
}

pub(crate) fn failed(name: &str, attempt: u32, message: &str) -> FailedAttempt {
    FailedAttempt {
        channel: channel(name),
        attempt,
        duration: Duration::from_millis(1234),
        finished: Instant::now(),
        class: ErrorClass::Transient,
        code: "503".to_owned(),
        message: message.to_owned(),
        answer: Some("busy".to_owned()),
    }
}

pub(crate) fn settlement(event_id: i64, name: &str) -> Settlement {
    Settlement {
        event_id,
        lane: lane(name),
        claim: ClaimId::FIRST,
        is_keyed: false,
        outcomes: Vec::new(),
        left: Vec::new(),
        failed: Vec::new(),
    }
}

/// Of a row that was not claimed for the first time.
pub(crate) fn claimed_as(row: &Leased, settlement: Settlement) -> Settlement {
    Settlement {
        claim: row.claim,
        ..settlement
    }
}

pub(crate) fn delivered(event_id: i64, name: &str, channels: &[&str]) -> Settlement {
    let outcomes = channels
        .iter()
        .map(|name| outcome(name, ResultStatus::Delivered))
        .collect();
    Settlement {
        outcomes,
        ..settlement(event_id, name)
    }
}

const QUEUE: &str = "SELECT coalesce(string_agg(concat_ws(' ', event_id, channel, attempt, \
                     coalesce(worker::text, 'free')), ', ' ORDER BY event_id, channel), '') \
                     FROM outbox_queue";
const RESULTS: &str = "SELECT coalesce(string_agg(concat_ws(' ', event_id, channel, status, \
                       attempts, code, provider_id), ', ' ORDER BY event_id, channel), '') \
                       FROM outbox_deliveries";
const ATTEMPTS: &str = "SELECT count(*) FROM outbox_attempts";

impl Fixture {
    /// Events of one worker, all claimed.
    pub(crate) async fn claimed(&self, events: usize) -> WorkerId {
        self.enqueue(events).await;
        let worker = self.worker().await;
        assert_eq!(
            self.claim(worker, &want(&[("", events)])).await.len(),
            events
        );
        worker
    }

    pub(crate) async fn settle(&self, worker: WorkerId, settlements: &[Settlement]) {
        let settled = self.store.settle(worker, settlements, false).await;
        let lost = settled.unwrap().lost;
        assert_eq!(lost, []);
    }

    /// Settles what `other` has changed in an open transaction, which it commits once the settle
    /// waits for it. Returns what was lost.
    pub(crate) async fn settle_while_others_commit(
        &self,
        worker: WorkerId,
        settlements: &[Settlement],
        other: &mut PgConnection,
    ) -> Vec<(i64, Lane)> {
        let commit = async {
            self.until_a_session_waits().await;
            run(other, "COMMIT").await;
        };
        let (settled, ()) = tokio::join!(self.store.settle(worker, settlements, false), commit);
        settled.unwrap().lost
    }
}

#[tokio::test]
async fn delivered_is_a_result_and_no_work() {
    let f = fixture().await;
    let worker = f.claimed(3).await;
    f.settle(
        worker,
        &[delivered(1, "", &["email"]), delivered(3, "", &["sms"])],
    )
    .await;
    assert_eq!(f.one::<String>(QUEUE).await, "2  0 1");
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "1 email delivered 1 email-id, 3 sms delivered 1 sms-id"
    );
    f.settle(worker, &[]).await;
}

#[tokio::test]
async fn one_event_may_have_many_results() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut fan_out = delivered(1, "", &["email", "crm", "null"]);
    fan_out.outcomes.push(outcome("sms", ResultStatus::Dead));
    fan_out.failed.push(failed("sms", 1, "no such number"));
    f.settle(worker, &[fan_out]).await;
    assert_eq!(f.one::<String>(QUEUE).await, "");
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "1 crm delivered 1 crm-id, 1 email delivered 1 email-id, 1 null delivered 1, 1 sms dead 1 503"
    );
    let attempt = "SELECT concat_ws(' ', event_id, channel, attempt, duration_ms, class, code, \
                   message, answer, finished_at <= now()) FROM outbox_attempts";
    assert_eq!(
        f.one::<String>(attempt).await,
        "1 sms 1 1234 transient 503 no such number busy t"
    );
}

#[tokio::test]
async fn an_event_without_a_route_has_a_result_without_a_channel() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut skipped = settlement(1, "");
    skipped.outcomes.push(outcome("", ResultStatus::Skipped));
    f.settle(worker, &[skipped]).await;
    assert_eq!(f.one::<String>(RESULTS).await, "1  skipped 1 503");
}

#[tokio::test]
async fn what_is_left_comes_back_as_rows_of_its_own() {
    let f = fixture().await;
    f.run(
        "INSERT INTO outbox_events (event_type, payload, key, priority, deliver_at)
         VALUES ('a', '{}', 'k', 4, now() - interval '1 hour')",
    )
    .await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 1)])).await.len(), 1);
    let mut partly = delivered(1, "", &["email"]);
    partly.left = vec![
        left("crm", Wait::For(Duration::from_mins(10)), false),
        left("sms", Wait::Unchanged, true),
        left("fax", Wait::Held, false),
    ];
    f.settle(worker, &[partly]).await;
    assert_eq!(
        f.one::<String>(QUEUE).await,
        "1 crm 1 free, 1 fax 1 free, 1 sms 1 1"
    );
    let due = "SELECT string_agg(concat_ws(' ', channel, key, priority, \
               CASE WHEN due_at = 'infinity' THEN 'held' \
               ELSE round(extract(epoch FROM due_at - now()) / 600)::text END), ', ' \
               ORDER BY channel) FROM outbox_queue";
    assert_eq!(
        f.one::<String>(due).await,
        "crm k 4 1, fax k 4 held, sms k 4 -6"
    );

    // What it kept it may settle without another claim; nobody else gets it meanwhile.
    let other = f.worker().await;
    assert!(
        f.claim(other, &want(&[("crm", 9), ("sms", 9), ("fax", 9)]))
            .await
            .is_empty()
    );
    f.settle(worker, &[delivered(1, "sms", &["sms"])]).await;
    assert_eq!(f.one::<String>(QUEUE).await, "1 crm 1 free, 1 fax 1 free");
}

#[tokio::test]
async fn a_retry_replaces_the_row_of_its_channel() {
    let f = fixture().await;
    f.enqueue(2).await;
    f.requeue("(1, now(), 'email', 0), (2, now(), 'email', 0)")
        .await;
    let worker = f.worker().await;
    for attempt in 1..=3 {
        let rows = f.claim(worker, &want(&[("email", 5)])).await;
        assert_eq!(ids(&rows), [1, 2]);
        let retry = |id, keep| {
            let mut retry = settlement(id, "email");
            retry
                .left
                .push(left("email", Wait::For(Duration::from_mins(1)), keep));
            retry.left[0].attempts = attempt;
            retry.failed.push(failed("email", attempt, "busy"));
            claimed_as(&rows[0], retry)
        };
        f.settle(worker, &[retry(1, false), retry(2, attempt == 3)])
            .await;
        assert!(f.claim(worker, &want(&[("email", 5)])).await.is_empty());
        f.run("UPDATE outbox_queue SET due_at = now()").await;
    }
    assert_eq!(f.one::<String>(QUEUE).await, "1 email 3 free, 2 email 3 1");
    assert_eq!(f.one::<i64>(ATTEMPTS).await, 6);
    assert_eq!(f.claim(worker, &want(&[("email", 5)])).await[0].attempts, 3);
}

#[tokio::test]
async fn an_absurd_wait_fails_nobody() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut absurd = settlement(1, "");
    absurd
        .left
        .push(left("email", Wait::For(Duration::MAX), false));
    f.settle(worker, &[absurd, delivered(2, "", &["email"])])
        .await;
    let far =
        "SELECT due_at > now() + interval '300 days' AND due_at < 'infinity' FROM outbox_queue";
    assert!(f.one::<bool>(far).await);
}

#[tokio::test]
async fn a_held_row_waits_for_a_human() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut held = settlement(1, "");
    held.left.push(left("sms", Wait::Held, false));
    held.failed.push(failed("sms", 1, "nobody knows"));
    f.settle(worker, &[held]).await;
    assert!(f.claim(worker, &want(&[("sms", 5)])).await.is_empty());
    let status = "SELECT concat_ws(' ', status, last_error) FROM outbox_event_status";
    assert_eq!(f.one::<String>(status).await, "held nobody knows");
}

#[tokio::test]
async fn who_lost_the_lease_writes_only_what_failed() {
    let f = fixture().await;
    let old = f.claimed(3).await;
    f.expire(old).await;
    let new = f.worker().await;
    let taken_over = f.claim(new, &want(&[("", 2)])).await;
    assert_eq!(taken_over.len(), 2);

    // The third row is still its own: nobody came for it.
    let mut second = delivered(2, "", &["email"]);
    second.left.push(left("crm", Wait::Unchanged, true));
    second.failed.push(failed("crm", 1, "busy"));
    let batch = [
        delivered(1, "", &["email"]),
        second,
        delivered(3, "", &["email"]),
    ];
    let settled = f.store.settle(old, &batch, false).await;
    let lost = settled.unwrap().lost;
    assert_eq!(lost, [(1, lane("")), (2, lane(""))]);
    assert_eq!(f.one::<String>(QUEUE).await, "1  0 2, 2  0 2");
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "3 email delivered 1 email-id"
    );
    assert_eq!(f.one::<i64>(ATTEMPTS).await, 1);

    f.settle(
        new,
        &[1, 2].map(|id| claimed_as(&taken_over[0], delivered(id, "", &["sms"]))),
    )
    .await;
    assert_eq!(
        f.one::<i64>("SELECT count(*) FROM outbox_deliveries").await,
        3
    );
}

#[tokio::test]
async fn settling_again_changes_nothing() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut partly = delivered(2, "", &["email"]);
    partly.left.push(left("crm", Wait::Unchanged, false));
    partly.failed.push(failed("crm", 1, "busy"));
    let batch = [delivered(1, "", &["email", "sms"]), partly];
    f.settle(worker, &batch).await;
    let (queue, results): (String, String) = (f.one(QUEUE).await, f.one(RESULTS).await);
    let settled = f.store.settle(worker, &batch, true).await;
    let lost = settled.unwrap().lost;
    assert_eq!(lost, [(1, lane("")), (2, lane(""))]);
    assert_eq!(f.one::<i64>(ATTEMPTS).await, 1);
    assert_eq!(f.one::<String>(QUEUE).await, queue);
    assert_eq!(f.one::<String>(RESULTS).await, results);
}

#[tokio::test]
async fn a_row_that_somebody_is_changing_is_settled_all_the_same() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut other = f.connect().await;
    run(
        &mut other,
        "BEGIN; UPDATE outbox_queue SET blocked = false WHERE event_id = 1",
    )
    .await;
    let mut first = delivered(1, "", &["null"]);
    first.failed.push(failed("null", 1, "busy"));
    let batch = [first, delivered(2, "", &["null"])];
    let lost = f
        .settle_while_others_commit(worker, &batch, &mut other)
        .await;
    assert_eq!(lost, []);
    assert_eq!(f.one::<String>(QUEUE).await, "");
    let results: String = f.one(RESULTS).await;
    assert_eq!(results, "1 null delivered 1, 2 null delivered 1");
    assert_eq!(f.one::<i64>(ATTEMPTS).await, 1);
}

/// What is left of the second goes to another lane, where nothing holds it back.
#[tokio::test]
async fn rows_of_a_key_that_somebody_is_changing_are_settled_all_the_same() {
    let f = fixture().await;
    f.run("INSERT INTO outbox_events (event_type, payload, key) VALUES ('t', '{}', 'k'), ('t', '{}', 'k')")
        .await;
    let worker = f.worker().await;
    assert_eq!(f.claim(worker, &want(&[("", 2)])).await.len(), 2);
    let mut other = f.connect().await;
    run(&mut other, "BEGIN; UPDATE outbox_queue SET blocked = true").await;
    let keyed = |settlement| Settlement {
        is_keyed: true,
        ..settlement
    };
    let mut moves = keyed(settlement(2, ""));
    moves.left.push(left("crm", Wait::Unchanged, false));
    let batch = [keyed(delivered(1, "", &["null"])), moves];
    let lost = f
        .settle_while_others_commit(worker, &batch, &mut other)
        .await;
    assert_eq!(lost, []);
    assert_eq!(f.one::<String>(QUEUE).await, "2 crm 1 free");
    assert_eq!(f.one::<String>(RESULTS).await, "1 null delivered 1");
}

#[tokio::test]
async fn a_row_that_somebody_is_taking_over_is_lost() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut other = f.connect().await;
    let take = "BEGIN; UPDATE outbox_queue SET worker = 77, claims = 2 WHERE event_id = 1";
    run(&mut other, take).await;
    let batch = [1, 2].map(|event| delivered(event, "", &["null"]));
    let lost = f
        .settle_while_others_commit(worker, &batch, &mut other)
        .await;
    assert_eq!(lost, [(1, lane(""))]);
    assert_eq!(f.one::<String>(QUEUE).await, "1  0 77");
    assert_eq!(f.one::<String>(RESULTS).await, "2 null delivered 1");
}

/// The first try was written and its answer lost; before the second, the same worker has claimed
/// the row again.
#[tokio::test]
async fn settling_again_does_not_touch_what_was_claimed_again() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut given_back = settlement(1, "");
    given_back.left.push(left("email", Wait::Unchanged, false));
    f.settle(worker, std::slice::from_ref(&given_back)).await;
    let claimed = f.claim(worker, &want(&[("email", 1)])).await;
    let mut first = delivered(1, "email", &["email"]);
    first.claim = ClaimId::FIRST;
    let lost = f.store.settle(worker, &[first.clone()], true).await;
    assert_eq!(lost.unwrap().lost, [(1, lane("email"))]);
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 1);
    first.claim = claimed[0].claim;
    f.settle(worker, &[first]).await;
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 0);
}

#[tokio::test]
async fn a_settlement_that_fails_writes_nothing() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut bad = delivered(2, "", &["email"]);
    bad.outcomes[0].message = Some("text cannot hold \0".to_owned());
    bad.failed.push(failed("email", 1, "busy"));
    let error = f
        .store
        .settle(worker, &[delivered(1, "", &["email"]), bad], false)
        .await
        .unwrap_err();
    assert!(!error.is_transient(), "{}", error.sentence());
    assert_eq!(f.one::<String>(QUEUE).await, "1  0 1, 2  0 1");
    assert_eq!(f.one::<String>(RESULTS).await, "");
    assert_eq!(f.one::<i64>(ATTEMPTS).await, 0);
}

/// After a replay a channel has a result already.
#[tokio::test]
async fn a_later_result_replaces_the_earlier() {
    let f = fixture().await;
    let worker = f.claimed(1).await;
    let mut dead = settlement(1, "");
    dead.outcomes.push(outcome("email", ResultStatus::Dead));
    f.settle(worker, &[dead]).await;
    f.requeue("(1, now(), 'email', 0)").await;
    assert_eq!(f.claim(worker, &want(&[("email", 1)])).await.len(), 1);
    f.settle(worker, &[delivered(1, "email", &["email"])]).await;
    assert_eq!(
        f.one::<String>(RESULTS).await,
        "1 email delivered 1 email-id"
    );
}
