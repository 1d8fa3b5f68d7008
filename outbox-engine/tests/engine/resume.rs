//! A channel that is resumed while everybody sleeps.

use crate::channels::accepting;
use crate::common::{ASLEEP, DELIVERED, Fixture, Running, name, spec, without_polling};

#[tokio::test]
async fn resuming_a_channel_wakes_who_sleeps() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker_with(without_polling(), vec![spec("email", accepting())]);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    let (store, email) = (&fixture.store, name("email"));
    assert!(store.pause_channel(&email, true).await.unwrap());
    fixture.enqueue("email", 20).await;
    fixture
        .until(
            "SELECT count(*) FILTER (WHERE channel = 'email' AND worker IS NULL) = 20
             FROM outbox_queue",
        )
        .await;
    // Longer than it puts off a sweep: it sleeps until it is called, or a minute has passed.
    fixture
        .until(
            "SELECT max(state_change) < now() - interval '6 seconds' FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'outbox'",
        )
        .await;
    assert_eq!(fixture.count(DELIVERED).await, 0);
    assert!(store.pause_channel(&email, false).await.unwrap());
    // It looks by itself once a minute only.
    fixture.until_settled().await;
    running.stop().await;
    assert_eq!(fixture.count(DELIVERED).await, 20);
}
