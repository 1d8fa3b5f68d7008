//! Attempts of which nobody knows how they ended, and a provider that is asked.

use crate::channels::Recorder;
use crate::common::{Fixture, PATIENCE, Running, any, spec};
use chrono::{DateTime, Utc};
use outbox_engine::{
    Channel, ChannelSpec, Delivery, OnAmbiguous, Receipt, RetryPolicy, SendError, Verdict,
    async_trait,
};
use outbox_store::NewEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Never says how a send ended; asked for the n-th time, it answers by a function of n.
struct Silent {
    answer: fn(u32) -> Result<Verdict, SendError>,
    sent: Arc<AtomicU32>,
    asked: AtomicU32,
}

#[async_trait]
impl Channel for Silent {
    async fn send(&self, _: &Delivery) -> Result<Receipt, SendError> {
        self.sent.fetch_add(1, Ordering::SeqCst);
        Err(SendError::ambiguous("timeout", "no answer"))
    }

    fn can_verify(&self) -> bool {
        true
    }

    async fn verify(&self, _: &Delivery, _: DateTime<Utc>) -> Result<Verdict, SendError> {
        (self.answer)(self.asked.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// What became of an event, and how often it was sent, through a channel with one retry.
async fn end(answer: fn(u32) -> Result<Verdict, SendError>) -> (Fixture, i64, u32) {
    let fixture = Fixture::new().await;
    let event = fixture.event("sms", any()).await;
    let sent = Arc::new(AtomicU32::new(0));
    let silent = Silent {
        answer,
        sent: Arc::clone(&sent),
        asked: AtomicU32::new(0),
    };
    let asking = ChannelSpec {
        on_ambiguous: OnAmbiguous::Verify,
        retry: RetryPolicy {
            max_retries: 1,
            ..RetryPolicy::default()
        },
        ..spec("sms", silent)
    };
    let running = Running::start(fixture.worker(vec![asking]));
    let ending = async {
        // It is given some seconds before it is asked, and again before the next time.
        while fixture.status(event).await.status == "pending" {
            fixture
                .execute(
                    "UPDATE outbox_queue SET due_at = now()
                     WHERE worker IS NULL AND due_at BETWEEN now() AND now() + interval '1 day'",
                )
                .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.unwrap();
    running.stop().await;
    let sent = sent.load(Ordering::SeqCst);
    (fixture, event, sent)
}

#[tokio::test]
async fn what_the_provider_cannot_tell_is_held() {
    let (fixture, event, sent) = end(|_| Ok(Verdict::Unknown)).await;
    let status = fixture.status(event).await;
    assert_eq!(
        (status.status.as_str(), status.retry_count),
        ("held", Some(1))
    );
    assert_eq!(status.last_error.as_deref(), Some("no answer"));
    let began = "SELECT count(*) FROM outbox_queue WHERE began_at <= now()";
    assert_eq!((sent, fixture.count(began).await), (1, 1));
}

#[tokio::test]
async fn what_the_provider_has_is_delivered() {
    let (fixture, event, sent) = end(|_| Ok(Verdict::Delivered(Receipt::new()))).await;
    assert_eq!(
        (fixture.status(event).await.status.as_str(), sent),
        ("processed", 1)
    );
}

#[tokio::test]
async fn what_the_provider_never_had_is_sent_until_no_attempt_is_left() {
    let (fixture, event, sent) = end(|_| Ok(Verdict::NotDelivered)).await;
    assert_eq!(
        (fixture.status(event).await.status.as_str(), sent),
        ("failed", 2)
    );
    let result = fixture.results().await.remove(0);
    assert_eq!(
        (result.code.as_deref(), result.attempts),
        (Some("not_delivered"), 2)
    );
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_asked_again_and_nothing_is_sent() {
    let (fixture, event, sent) = end(|nth| match nth {
        1 => panic!("on purpose"),
        2 => Err(SendError::transient("503", "busy")),
        3 => Err(SendError::unavailable("401", "who are you")),
        _ => Ok(Verdict::Delivered(Receipt::new())),
    })
    .await;
    assert_eq!(
        (fixture.status(event).await.status.as_str(), sent),
        ("processed", 1)
    );
    // To be told, because it does not pass by itself.
    let attempts = fixture.attempts().await;
    let codes: Vec<_> = attempts.iter().map(|a| a.code.as_str()).collect();
    assert_eq!(codes, ["timeout", "401"]);
}

/// Writing down that the attempt begins takes until it is too late.
#[tokio::test]
async fn what_expires_while_its_attempt_is_written_down_is_not_sent() {
    let fixture = Fixture::new().await;
    let soon = Utc::now() + Duration::from_secs(5);
    let event = NewEvent::new("sms", any()).expires_at(soon);
    let event = fixture.write(&event).await;
    for slow in [
        "CREATE TABLE begun (event_id bigint)",
        "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO begun VALUES (new.event_id);
             PERFORM pg_sleep(1 + extract(epoch FROM expires_at - clock_timestamp()))
             FROM outbox_events WHERE id = new.event_id;
             RETURN new;
         END $$",
        "CREATE TRIGGER take_long BEFORE UPDATE OF began_at ON outbox_queue
         FOR EACH ROW EXECUTE FUNCTION take_long()",
    ] {
        fixture.execute(slow).await;
    }
    let sms = Recorder::accepting();
    let holding = ChannelSpec {
        on_ambiguous: OnAmbiguous::Hold,
        ..spec("sms", sms.clone())
    };
    let running = Running::start(fixture.worker(vec![holding]));
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count("SELECT count(*) FROM begun").await, 1);
    assert!(sms.sent().is_empty());
    assert_eq!(fixture.status(event).await.status, "expired");
}
