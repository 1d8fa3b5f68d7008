//! A worker, a real database, mocked channels.

mod common;

use common::{Fixture, mock, spec};
use outbox_engine::{Receipt, SendError, Summary};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn one_batch_delivers_and_settles() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 25).await;
    let channel = mock(|channel| {
        channel
            .expect_send()
            .times(10)
            .returning(|_| Ok(Receipt::new()));
    });
    let worker = fixture.worker(vec![spec("email", channel)]);
    let summary = worker.dispatch(10).await.unwrap();
    assert_eq!(
        summary,
        Summary {
            processed: 10,
            ..Summary::default()
        }
    );
    assert_eq!(fixture.count("SELECT count(*) FROM outbox_queue").await, 15);
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'")
            .await,
        10
    );
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        0
    );
}

#[tokio::test]
async fn a_running_worker_drains_retries_and_stops() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 500).await;
    let channel = mock(|channel| {
        channel.expect_send().returning(|delivery| {
            if delivery.event().id % 10 == 0 && delivery.attempt() < 3 {
                return Err(SendError::transient("503", "busy"));
            }
            Ok(Receipt::new().with_provider_id("p"))
        });
    });
    let worker = Arc::new(fixture.worker(vec![spec("email", channel)]));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, stop) = (Arc::clone(&worker), stop.clone());
        async move { worker.run(stop.cancelled()).await }
    });
    fixture.until_settled().await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM outbox_deliveries WHERE status = 'delivered'")
            .await,
        500
    );
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM outbox_deliveries WHERE attempts = 3")
            .await,
        50
    );
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_attempts").await,
        100
    );
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_workers").await,
        0
    );
}
