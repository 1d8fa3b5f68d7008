//! For tests that read what is logged on their own thread.

use std::sync::LazyLock;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

/// Lets a subscriber set for one thread hear all that is logged there, whatever other threads do.
/// Every test of a process in which one test listens calls it first.
///
/// As long as a process has no more than one subscriber, `tracing-core` asks only the thread that
/// first comes to a line whether anybody listens, and keeps its answer for all threads. With two
/// that nobody uses, it asks all subscribers, always.
pub fn every_thread_is_heard() {
    static UNUSED: LazyLock<[Dispatch; 2]> =
        LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::new())));
    LazyLock::force(&UNUSED);
}
