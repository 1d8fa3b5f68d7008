//! What providers report later, in any order.

use crate::common::{Fixture, channel, fixture, run};
use crate::explain::{BEGIN, BEGIN_PLANNED, explain};
use crate::settle::delivered;
use outbox_channel::{Report, ReportedStatus};
use outbox_store::{EventResult, Recorded};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What the providers of `crate::settle` call their messages.
const SID: &str = "sms-id";

impl Fixture {
    async fn report(&self, sid: &str, status: ReportedStatus) -> Recorded {
        let report = Report::new(sid, status).with_code(format!("{status}-code"));
        let recorded = self.store.record_report(&channel("sms"), &report).await;
        recorded.unwrap()
    }

    /// The event with its messages taken by their providers.
    async fn taken(&self, channels: &[&str]) -> i64 {
        let worker = self.claimed(1).await;
        let event: i64 = self.one("SELECT max(id) FROM outbox_events").await;
        self.settle(worker, &[delivered(event, "", channels)]).await;
        event
    }

    async fn results(&self, event: i64) -> Vec<EventResult> {
        self.store
            .event(event, false)
            .await
            .unwrap()
            .unwrap()
            .results
    }

    async fn receipts(&self) -> String {
        let all = "SELECT coalesce(string_agg(concat_ws(' ', channel, provider_id, status, code), \
                   ', ' ORDER BY channel, provider_id), '') FROM outbox_receipts";
        self.one(all).await
    }
}

#[tokio::test]
async fn a_report_is_seen_with_the_event_that_it_is_about() {
    let f = fixture().await;
    let event = f.taken(&["email", "sms"]).await;
    let before = f.results(event).await;
    assert!(before.iter().all(|result| result.reported.is_none()));
    let recorded = f.report(SID, ReportedStatus::Undelivered).await;
    let news = Recorded {
        is_news: true,
        event_id: Some(event),
    };
    assert_eq!(recorded, news);
    let results = f.results(event).await;
    let reported = |name: &str| {
        let result = results
            .iter()
            .find(|result| result.channel == name)
            .unwrap();
        assert_eq!(
            result.status, "delivered",
            "the provider took it, whatever came then"
        );
        assert_eq!(result.reported.is_some(), result.reported_at.is_some());
        (result.reported.clone(), result.reported_code.clone())
    };
    let undelivered = (
        Some("undelivered".to_owned()),
        Some("undelivered-code".to_owned()),
    );
    assert_eq!(reported("sms"), undelivered);
    assert_eq!(reported("email"), (None, None));
    let counted = f.store.receipts().await.unwrap();
    assert_eq!(counted.len(), 1);
    assert_eq!(
        (&*counted[0].channel, &*counted[0].status, counted[0].count),
        ("sms", "undelivered", 1)
    );
}

#[tokio::test]
async fn a_report_may_come_before_the_result() {
    let f = fixture().await;
    let early = f.report(SID, ReportedStatus::Delivered).await;
    assert_eq!(
        early,
        Recorded {
            is_news: true,
            event_id: None
        }
    );
    let event = f.taken(&["sms"]).await;
    assert_eq!(
        f.results(event).await[0].reported.as_deref(),
        Some("delivered")
    );
    let late = f.report(SID, ReportedStatus::Sent).await;
    assert_eq!(
        late,
        Recorded {
            is_news: false,
            event_id: Some(event)
        }
    );
    assert_eq!(
        f.results(event).await[0].reported.as_deref(),
        Some("delivered")
    );
}

#[tokio::test]
async fn the_same_name_of_another_provider_is_another_message() {
    let f = fixture().await;
    let event = f.taken(&["sms"]).await;
    let report = Report::new(SID, ReportedStatus::Failed);
    let recorded = f
        .store
        .record_report(&channel("other"), &report)
        .await
        .unwrap();
    assert_eq!(recorded.event_id, None);
    assert_eq!(f.results(event).await[0].reported, None);
    f.report(SID, ReportedStatus::Sent).await;
    assert_eq!(
        f.receipts().await,
        "other sms-id failed, sms sms-id sent sent-code"
    );
}

/// Whatever the order and however often each comes.
#[test]
fn the_greatest_status_holds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let f = runtime.block_on(fixture());
    let statuses =
        proptest::collection::vec(proptest::sample::select(&ReportedStatus::ALL[..]), 1..8);
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let mut messages = 0;
    let mut runner = TestRunner::new(config);
    let (f, runtime, messages) = (&f, &runtime, std::cell::RefCell::new(&mut messages));
    let outcome = runner.run(&statuses, |statuses| {
        **messages.borrow_mut() += 1;
        let sid = format!("SM{}", messages.borrow());
        runtime.block_on(async {
            let mut greatest = None;
            for status in statuses {
                let recorded = f.report(&sid, status).await;
                prop_assert_eq!(recorded.is_news, Some(status) > greatest);
                greatest = greatest.max(Some(status));
                let kept: String = f
                    .one(&format!("SELECT status || ' ' || code FROM outbox_receipts WHERE provider_id = '{sid}'"))
                    .await;
                let greatest = greatest.map(ReportedStatus::as_str).unwrap_or_default();
                prop_assert_eq!(kept, format!("{greatest} {greatest}-code"));
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

#[tokio::test]
async fn many_at_once_come_to_the_same() {
    let f = fixture().await;
    let mut tasks = tokio::task::JoinSet::new();
    for status in ReportedStatus::ALL.into_iter().cycle().take(50) {
        let store = f.store.clone();
        tasks.spawn(async move {
            let report = Report::new(SID, status);
            store
                .record_report(&channel("sms"), &report)
                .await
                .unwrap()
                .is_news
        });
    }
    let news = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|is_news| *is_news);
    assert!((1..=5).contains(&news.count()));
    assert_eq!(f.receipts().await, "sms sms-id delivered");
}

#[tokio::test]
async fn a_receipt_goes_with_its_event() {
    let f = fixture().await;
    f.taken(&["sms"]).await;
    f.run(
        "UPDATE outbox_events SET created_at = now() - interval '10 days';
         UPDATE outbox_deliveries SET finished_at = now() - interval '10 days'",
    )
    .await;
    f.report(SID, ReportedStatus::Delivered).await;
    f.report("SM-of-nobody", ReportedStatus::Delivered).await;
    assert_eq!(f.store.prune(7.0, 100, 0).await.unwrap().removed, 1);
    assert_eq!(
        f.receipts().await,
        "sms SM-of-nobody delivered delivered-code"
    );
}

#[tokio::test]
async fn a_receipt_of_nobody_goes_when_it_is_old() {
    let f = fixture().await;
    let event = f.taken(&["sms"]).await;
    for sid in [SID, "SM-old", "SM-young"] {
        f.report(sid, ReportedStatus::Sent).await;
    }
    f.run(
        "UPDATE outbox_receipts SET reported_at = now() - interval '10 days'
         WHERE provider_id <> 'SM-young'",
    )
    .await;
    assert_eq!(f.store.prune(11.0, 100, 0).await.unwrap().removed, 0);
    assert_eq!(
        f.receipts().await.matches("SM-").count(),
        2,
        "not old enough"
    );
    f.store.prune(7.0, 100, 1).await.unwrap();
    assert_eq!(
        f.receipts().await.matches("SM-").count(),
        2,
        "not the first batch"
    );
    assert_eq!(f.store.prune(7.0, 100, 0).await.unwrap().removed, 0);
    assert_eq!(
        f.receipts().await,
        "sms SM-young sent sent-code, sms sms-id sent sent-code"
    );
    assert_eq!(f.results(event).await[0].reported.as_deref(), Some("sent"));
}

/// Also when the plan was made while the tables were small, and PostgreSQL does not know yet
/// that they have grown.
#[tokio::test]
async fn nothing_is_read_but_what_is_asked_for() {
    let f = fixture().await;
    let names = |sql: &str| sql.replace("!\"", "\"").replace("?\"", "\"");
    let record = names(include_str!("../../sql/record_report.sql"));
    let forget = names(include_str!("../../sql/forget.sql"));
    let forget_receipts = names(include_str!("../../sql/forget_receipts.sql"));
    let results = names(include_str!("../../sql/event_results.sql"));
    let statements = [
        (BEGIN, "EXECUTE record ('sms', 'SM4711', 'delivered', NULL)"),
        (BEGIN, "EXECUTE results (4711)"),
        (BEGIN_PLANNED, "EXECUTE forget (ARRAY[1, 2, 3])"),
        (BEGIN_PLANNED, "EXECUTE forget_receipts (20, 100)"),
    ];
    f.run(
        "ALTER TABLE outbox_receipts SET (autovacuum_enabled = off);
         ALTER TABLE outbox_deliveries SET (autovacuum_enabled = off);
         ANALYZE",
    )
    .await;
    let mut connection = f.connect_as_the_store().await;
    for prepare in [
        format!("PREPARE record (text, text, text, text) AS {record}"),
        format!("PREPARE forget (bigint[]) AS {forget}"),
        format!("PREPARE forget_receipts (float8, bigint) AS {forget_receipts}"),
        format!("PREPARE results (bigint) AS {results}"),
    ] {
        run(&mut connection, &prepare).await;
    }
    for (begin, statement) in statements {
        let ten_times = [statement; 10].join(";");
        let small = format!("{begin}; {ten_times}; ROLLBACK");
        run(&mut connection, &small).await;
    }
    f.run(
        "INSERT INTO outbox_deliveries (event_id, channel, status, attempts, provider_id)
         SELECT n, 'sms', 'delivered', 1, 'SM' || n FROM generate_series(1, 200000) n;
         INSERT INTO outbox_receipts (channel, provider_id, status, reported_at)
         SELECT 'sms', 'SM' || n, 'sent', now() - n % 30 * interval '1 day'
         FROM generate_series(1, 200000) n",
    )
    .await;
    for (begin, statement) in statements {
        let plan = explain(&mut connection, begin, statement).await;
        for table in ["outbox_receipts", "outbox_deliveries"] {
            assert!(!plan.walks_over(table), "{statement}\n{plan}");
        }
        assert!(
            plan.pages() < 3000 && !plan.has_jit(),
            "{statement}\n{plan}"
        );
    }
}
