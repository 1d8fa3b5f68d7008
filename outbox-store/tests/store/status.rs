//! What people see of an event.

use crate::common::{Fixture, channel, fixture};
use crate::settle::{delivered, failed, left, outcome, settlement};
use outbox_store::{Outcome, ResultStatus, Settlement, Wait};
use std::time::Duration;

impl Fixture {
    /// The view's row of an event, which stands in it once.
    async fn status(&self, id: i64) -> String {
        let count = format!("SELECT count(*) FROM outbox_event_status WHERE id = {id}");
        assert_eq!(self.one::<i64>(&count).await, 1, "event {id}");
        self.one(&format!(
            "SELECT concat_ws(' ', status, retry_count, coalesce(max_retries::text, '-'),
                 CASE WHEN next_retry_at > now() THEN 'later' END,
                 CASE WHEN processed_at IS NULL THEN 'open' ELSE 'closed' END, last_error)
             FROM outbox_event_status WHERE id = {id}"
        ))
        .await
    }
}

fn ended(id: i64, outcomes: &[(&str, ResultStatus)]) -> Settlement {
    let outcomes = outcomes
        .iter()
        .map(|(name, status)| outcome(name, *status))
        .collect();
    Settlement {
        outcomes,
        ..settlement(id, "")
    }
}

#[tokio::test]
async fn before_the_end() {
    let f = fixture().await;
    f.store
        .declare_channel(&channel("email"), "test", 5)
        .await
        .unwrap();
    let worker = f.claimed(5).await;
    assert_eq!(f.status(1).await, "pending 0 - open");

    let waits = Wait::For(Duration::from_mins(5));
    let mut retry = settlement(1, "");
    retry.left.push(left("email", waits, false));
    retry.left[0].attempts = 2;
    retry.failed = vec![failed("email", 1, "first"), failed("email", 2, "second")];
    let mut held = settlement(2, "");
    held.left.push(left("email", Wait::Held, false));
    let mut both = settlement(3, "");
    both.left = vec![left("email", Wait::Held, false), left("crm", waits, false)];
    let mut partly = delivered(4, "", &["crm"]);
    partly.left.push(left("email", waits, false));
    f.settle(worker, &[retry, held, both, partly]).await;
    assert_eq!(f.status(1).await, "pending 2 5 later open second");
    assert_eq!(f.status(2).await, "held 1 5 open");
    assert_eq!(f.status(3).await, "pending 1 - later open");
    assert_eq!(f.status(4).await, "pending 1 5 later open");
    f.run("UPDATE outbox_events SET max_retries = 9").await;
    assert_eq!(f.status(3).await, "pending 1 9 later open");
}

#[tokio::test]
async fn after_the_end() {
    use ResultStatus::{Cancelled, Dead, Delivered, Expired, Skipped, Suppressed};
    let f = fixture().await;
    let cases: &[(&[(&str, ResultStatus)], &str)] = &[
        (&[("email", Delivered)], "processed 0 - closed"),
        (
            &[("email", Delivered), ("sms", Delivered), ("crm", Delivered)],
            "processed 0 - closed",
        ),
        (
            &[("email", Delivered), ("sms", Dead)],
            "failed 0 - closed sms was dead",
        ),
        (
            &[("email", Dead), ("sms", Cancelled), ("crm", Expired)],
            "failed 0 - closed",
        ),
        (&[("", Skipped)], "skipped 0 - closed  was skipped"),
        (&[("", Cancelled)], "cancelled 0 - closed  was cancelled"),
        (
            &[("email", Delivered), ("sms", Cancelled)],
            "cancelled 0 - closed sms was cancelled",
        ),
        (&[("", Expired)], "expired 0 - closed  was expired"),
        (
            &[("email", Delivered), ("sms", Expired)],
            "expired 0 - closed sms was expired",
        ),
        (
            &[("email", Suppressed)],
            "skipped 0 - closed email was suppressed",
        ),
        (
            &[("email", Suppressed), ("sms", Delivered)],
            "processed 0 - closed email was suppressed",
        ),
    ];
    let worker = f.claimed(cases.len()).await;
    let settlements: Vec<_> = (1..)
        .zip(cases)
        .map(|(id, case)| ended(id, case.0))
        .collect();
    f.settle(worker, &settlements).await;
    for (id, (outcomes, expected)) in (1..).zip(cases) {
        let status = f.status(id).await;
        assert!(
            status.starts_with(expected),
            "{outcomes:?}: {status}, not {expected}"
        );
    }
    let count = "SELECT count(*) FROM outbox_event_status";
    assert_eq!(
        f.one::<i64>(count).await,
        i64::try_from(cases.len()).unwrap()
    );
}

#[tokio::test]
async fn a_fallback_that_succeeds_makes_good() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let gave_up = |attempts| Outcome {
        fell_back_to: Some(channel("email")),
        attempts,
        ..outcome("sms", ResultStatus::Dead)
    };
    let mut good = delivered(1, "", &["email"]);
    good.outcomes.push(gave_up(3));
    let mut bad = ended(2, &[("email", ResultStatus::Dead)]);
    bad.outcomes.push(gave_up(4));
    f.settle(worker, &[good, bad]).await;
    assert_eq!(f.status(1).await, "processed 2 - closed sms was dead");
    assert!(f.status(2).await.starts_with("failed 3 - closed"));
}

#[tokio::test]
async fn an_event_stands_in_the_view_once_however_it_is_mixed() {
    let f = fixture().await;
    let worker = f.claimed(4).await;
    let mut three_left = settlement(1, "");
    three_left.left = ["a", "b", "c"]
        .map(|name| left(name, Wait::Unchanged, true))
        .into();
    let mut two_left = delivered(2, "", &["a", "b"]);
    two_left.left = ["c", "d"].map(|name| left(name, Wait::Held, false)).into();
    f.settle(
        worker,
        &[three_left, two_left, delivered(3, "", &["a", "b", "c"])],
    )
    .await;
    // The same channels at different times.
    f.settle(worker, &[delivered(1, "b", &["b"])]).await;
    let distinct = "SELECT string_agg(id || status, ' ' ORDER BY id) FROM outbox_event_status";
    assert_eq!(
        f.one::<String>(distinct).await,
        "1pending 2held 3processed 4pending"
    );
    f.settle(
        worker,
        &[delivered(1, "a", &["a"]), delivered(1, "c", &["c"])],
    )
    .await;
    assert_eq!(
        f.one::<String>(distinct).await,
        "1processed 2held 3processed 4pending"
    );
    let by_status = f.store.events_by_status().await.unwrap();
    let expected = [("held", 1), ("pending", 1), ("processed", 2)];
    assert_eq!(
        by_status,
        expected.map(|(status, count)| (status.to_owned(), count))
    );
}
