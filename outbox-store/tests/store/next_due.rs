//! When somebody has to look again.

use crate::common::{Fixture, channel, fixture, lane};
use std::time::Duration;

impl Fixture {
    async fn next(&self, lanes: &[&str]) -> Option<Duration> {
        let lanes: Vec<_> = lanes.iter().map(|name| lane(name)).collect();
        self.store.next_due(&lanes).await.unwrap()
    }

    /// In so many minutes, or a little less by now.
    async fn assert_next(&self, lanes: &[&str], minutes: u64) {
        let next = self.next(lanes).await.unwrap();
        let expected = Duration::from_mins(minutes);
        assert!(
            next <= expected && next > expected - Duration::from_mins(1),
            "{next:?}"
        );
    }
}

#[tokio::test]
async fn nothing_waits_for_a_time() {
    let f = fixture().await;
    assert_eq!(f.next(&["", "email"]).await, None);
    f.enqueue(3).await;
    // Due already, held, or in a lane that nobody asks for.
    f.requeue(
        "(1, now(), '', 0), (2, 'infinity', '', 0), (3, now() + interval '1 hour', 'sms', 0)",
    )
    .await;
    assert_eq!(f.next(&["", "email"]).await, None);
    assert_eq!(f.next(&[]).await, None);
}

#[tokio::test]
async fn the_earliest_over_all_lanes_and_priorities() {
    let f = fixture().await;
    f.enqueue(5).await;
    f.requeue(
        "(1, now(), '', 0), (2, now() + interval '90 minutes', '', 0),
         (3, now() + interval '50 minutes', '', 9), (4, now() + interval '10 minutes', 'email', 1),
         (5, 'infinity', 'email', 0)",
    )
    .await;
    f.assert_next(&[""], 50).await;
    f.assert_next(&["", "email"], 10).await;
}

#[tokio::test]
async fn a_channel_that_is_down_waits_until_it_may_be_tried() {
    let f = fixture().await;
    f.enqueue(3).await;
    let email = channel("email");
    f.store.declare_channel(&email, "test", 5).await.unwrap();
    f.store
        .channel_down(&email, Duration::from_mins(20), "away")
        .await
        .unwrap();
    f.requeue("(1, 'infinity', 'email', 0)").await;
    assert_eq!(f.next(&["email"]).await, None);
    f.requeue("(1, now(), 'email', 0)").await;
    f.assert_next(&["email"], 20).await;
    // What is due after that does not put off what is due already.
    f.requeue("(1, now(), 'email', 0), (2, now() + interval '2 hours', 'email', 0)")
        .await;
    f.assert_next(&["email"], 20).await;
    f.requeue("(1, now() + interval '5 minutes', 'email', 0)")
        .await;
    f.assert_next(&["email"], 20).await;
    f.requeue("(1, now() + interval '2 hours', 'email', 0)")
        .await;
    f.assert_next(&["email"], 120).await;

    f.requeue("(1, now(), 'email', 0), (2, now() + interval '2 hours', 'email', 0)")
        .await;
    f.store.channel_up(&email).await.unwrap();
    f.assert_next(&["email"], 120).await;
}
