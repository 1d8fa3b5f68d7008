//! Who sleeps is called when a channel is resumed.

use crate::common::{PATIENCE, fixture};
use futures_util::FutureExt;

#[tokio::test]
async fn resuming_a_channel_calls_who_sleeps_and_pausing_does_not() {
    let f = fixture().await;
    let store = &f.store;
    let channel = "email".parse().unwrap();
    store.declare_channel(&channel, "test", 3).await.unwrap();
    let mut listener = store.listen().await.unwrap();
    listener.set_asleep(true).await.unwrap();
    assert!(store.pause_channel(&channel, true).await.unwrap());
    assert!(listener.heard().now_or_never().is_none());
    assert!(store.pause_channel(&channel, false).await.unwrap());
    tokio::time::timeout(PATIENCE, listener.heard())
        .await
        .unwrap()
        .unwrap();
    let unknown = "unknown".parse().unwrap();
    assert!(!store.pause_channel(&unknown, false).await.unwrap());
}
