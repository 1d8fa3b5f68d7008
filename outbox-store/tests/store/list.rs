//! Lists of events, and one event with all that is known about it.

use crate::common::{Fixture, channel, fixture, run};
use crate::explain::{BEGIN, explain};
use crate::settle::{delivered, failed, left, outcome, settlement};
use outbox_store::{EventFilter, EventStatus, ResultStatus, Wait};
use std::time::Duration;

impl Fixture {
    async fn list(&self, filter: &EventFilter) -> Vec<i64> {
        let page = self.store.list_events(filter, None, 50).await.unwrap();
        page.events.iter().map(|event| event.id).collect()
    }

    /// 1 waits, 2 is held, 3 failed, 4 is delivered twice, 5 is cancelled, 6 waits in an hour.
    async fn one_of_each(&self) {
        let worker = self.claimed(4).await;
        self.enqueue(2).await;
        let mut held = settlement(2, "");
        held.left.push(left("sms", Wait::Held, false));
        held.failed.push(failed("sms", 1, "nobody knows"));
        let mut dead = settlement(3, "");
        dead.outcomes.push(outcome("email", ResultStatus::Dead));
        let both = delivered(4, "", &["email", "crm"]);
        self.settle(worker, &[held, dead, both]).await;
        self.store.cancel(&[5], None).await.unwrap();
        self.run(
            "UPDATE outbox_queue SET worker = NULL;
             UPDATE outbox_queue SET due_at = now() + interval '1 hour', key = 'k_1'
             WHERE event_id = 6;
             UPDATE outbox_events SET event_type = 'invoice.paid', key = 'k_1' WHERE id = 6;
             UPDATE outbox_events SET created_at = now() - interval '1 day' WHERE id <= 2",
        )
        .await;
    }
}

#[tokio::test]
async fn events_are_listed_by_what_they_are() {
    let f = fixture().await;
    f.one_of_each().await;
    let any = EventFilter::default;
    assert_eq!(f.list(&any()).await, [6, 5, 4, 3, 2, 1]);
    for (status, expected) in [
        (EventStatus::Pending, &[6, 1][..]),
        (EventStatus::Held, &[2]),
        (EventStatus::Failed, &[3]),
        (EventStatus::Processed, &[4]),
        (EventStatus::Cancelled, &[5]),
        (EventStatus::Expired, &[]),
        (EventStatus::Skipped, &[]),
    ] {
        let status = Some(status);
        assert_eq!(f.list(&EventFilter { status, ..any() }).await, expected);
    }
    for (pattern, expected) in [
        ("invoice.*", &[6][..]),
        ("invoice.pai?", &[6]),
        ("invoice_paid", &[]),
        ("t*", &[5, 4, 3, 2, 1]),
        ("te", &[]),
        ("%", &[]),
    ] {
        let event_type = Some(pattern.to_owned());
        let filter = EventFilter {
            event_type,
            ..any()
        };
        assert_eq!(f.list(&filter).await, expected, "{pattern}");
    }
    let crm = Some(channel("crm"));
    assert_eq!(
        f.list(&EventFilter {
            channel: crm,
            ..any()
        })
        .await,
        [4]
    );
    let key = Some("k_1".to_owned());
    assert_eq!(f.list(&EventFilter { key, ..any() }).await, [6]);
    let since = Some(chrono::Utc::now() - Duration::from_hours(1));
    assert_eq!(f.list(&EventFilter { since, ..any() }).await, [6, 5, 4, 3]);
    // All at once, in each kind of status.
    for (id, status, name) in [
        (6, EventStatus::Pending, ""),
        (3, EventStatus::Failed, "email"),
    ] {
        let filter = EventFilter {
            status: Some(status),
            event_type: Some("*".to_owned()),
            channel: (!name.is_empty()).then(|| channel(name)),
            since,
            key: (id == 6).then(|| "k_1".to_owned()),
        };
        assert_eq!(f.list(&filter).await, [id]);
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let f = fixture().await;
    f.one_of_each().await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let all = EventFilter::default();
        let page = f.store.list_events(&all, before, 2).await.unwrap();
        assert!(page.events.len() == 2);
        seen.extend(page.events.iter().map(|event| event.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1]);

    // Candidates that turn out not to match do not end the list: 3 and 8 are no longer failed.
    f.run(
        "DELETE FROM outbox_queue;
         INSERT INTO outbox_queue (event_id, due_at, channel) VALUES (3, now(), 'sms')",
    )
    .await;
    let worker = f.claimed(3).await;
    let dead = |id| {
        let mut dead = settlement(id, "");
        dead.outcomes.push(outcome("email", ResultStatus::Dead));
        dead
    };
    f.settle(worker, &[dead(7), dead(8), dead(9)]).await;
    f.run("INSERT INTO outbox_queue (event_id, due_at, channel) VALUES (8, now(), 'sms')")
        .await;
    let status = Some(EventStatus::Failed);
    let filter = EventFilter {
        status,
        ..EventFilter::default()
    };
    let page = f.store.list_events(&filter, None, 1).await.unwrap();
    assert_eq!((page.events[0].id, page.next), (9, Some(9)));
    let page = f.store.list_events(&filter, page.next, 1).await.unwrap();
    assert_eq!((page.events[0].id, page.next), (7, None));
    assert_eq!(f.store.event_ids(&filter).await.unwrap(), [9, 7]);
}

#[tokio::test]
async fn an_event_is_shown_with_all_that_is_known() {
    let f = fixture().await;
    let worker = f.claimed(2).await;
    let mut partly = delivered(1, "", &["crm"]);
    partly.left.push(left("sms", Wait::Held, false));
    partly.left[0].unknown = true;
    partly.failed.push(failed("sms", 1, "nobody knows"));
    f.settle(worker, &[partly]).await;

    let shown = f.store.event(1, false).await.unwrap().unwrap();
    assert_eq!(shown.event.status.as_deref(), Some("held"));
    assert!(shown.event.payload.is_none() && shown.event.headers.is_none());
    assert_eq!(shown.results[0].channel, "crm");
    assert_eq!(shown.results[0].provider_id.as_deref(), Some("crm-id"));
    let work = &shown.queue[0];
    assert!(work.held && work.due_at.is_none() && work.began_at.is_some());
    assert_eq!((work.attempts, work.worker.as_deref()), (1, None));
    assert_eq!(shown.attempts[0].answer.as_deref(), Some("busy"));

    let other = f.store.event(2, true).await.unwrap().unwrap();
    assert_eq!(other.event.payload, Some(serde_json::json!({})));
    assert_eq!(other.queue[0].worker.as_deref(), Some("test"));
    assert!(f.store.event(77, true).await.unwrap().is_none());
}

/// However much is settled, and however much waits.
#[tokio::test]
async fn a_page_reads_little_of_a_big_table() {
    let f = fixture().await;
    f.run(
        "ALTER TABLE outbox_events DISABLE TRIGGER USER;
         INSERT INTO outbox_events (event_type, payload)
         SELECT 'test', '{}' FROM generate_series(1, 100000);
         ALTER TABLE outbox_events ENABLE TRIGGER USER;
         INSERT INTO outbox_deliveries (event_id, channel, status, attempts)
         SELECT n, 'email', 'delivered', 1 FROM generate_series(1, 50000) n;
         INSERT INTO outbox_queue (event_id, due_at, channel)
         SELECT n, CASE WHEN n % 100 = 0 THEN 'infinity' ELSE now() END, ''
         FROM generate_series(50001, 100000) n;
         ANALYZE",
    )
    .await;
    let mut connection = f.connect().await;
    let sql = include_str!("../../sql/list_events.sql").replace("!\"", "\"");
    let types = "bool, text[], bool, text, text, timestamptz, text, bigint, bigint";
    run(
        &mut connection,
        &format!("SET jit = off; PREPARE list ({types}) AS {sql}"),
    )
    .await;
    for (status, pages) in [
        ("NULL, NULL, false", 1500),
        ("false, NULL, false", 1500),
        // Reads the queue, which has what is held in no order, and nothing else.
        ("false, NULL, true", 4000),
        ("true, '{delivered}', false", 1500),
    ] {
        let arguments = format!("{status}, NULL, NULL, NULL, NULL, 9223372036854775807, 51");
        let plan = explain(
            &mut connection,
            BEGIN,
            &format!("EXECUTE list ({arguments})"),
        )
        .await;
        assert!(plan.pages() < pages, "{status}: {}\n{plan}", plan.pages());
        for table in ["outbox_events", "outbox_deliveries"] {
            assert!(!plan.walks_over(table), "{status}: {table}\n{plan}");
        }
    }
}
