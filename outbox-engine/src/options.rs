//! How a worker works.

use crate::retention::Retention;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How a worker works. What lies outside of its range counts as the nearest value within.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Its name for people.
    pub name: String,
    /// How long it sleeps at most when nothing wakes it; from 10 ms to a day.
    pub poll_interval: Duration,
    /// Rows per claim, from 1 to 1,000.
    pub batch_size: usize,
    /// Sends under way at once, over all channels; at least 1.
    pub concurrency: usize,
    /// After so long without a heartbeat its work goes to others; from a second to a day.
    pub lease: Duration,
    /// How long a stopping worker waits for sends under way; at most a day. Writing down what
    /// became of them may take up to [`LAST_WRITES`](Self::LAST_WRITES) more.
    pub shutdown_grace: Duration,
    /// What is forgotten when.
    pub retention: Retention,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            name: "outbox".to_owned(),
            poll_interval: Duration::from_secs(2),
            batch_size: 100,
            concurrency: 256,
            lease: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(20),
            retention: Retention {
                days: 30.0,
                limit: 10_000,
                every_cycles: 1_000,
            },
        }
    }
}

impl WorkerOptions {
    /// How long a worker that stops while the database is in trouble tries to write down its
    /// last outcomes, after the [`shutdown_grace`](Self::shutdown_grace).
    pub const LAST_WRITES: Duration = Duration::from_secs(5);

    pub(crate) fn within_range(mut self) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        self.poll_interval = self.poll_interval.clamp(Duration::from_millis(10), DAY);
        self.batch_size = self.batch_size.clamp(1, 1_000);
        self.concurrency = self.concurrency.clamp(1, Semaphore::MAX_PERMITS / 2);
        self.lease = self.lease.clamp(Duration::from_secs(1), DAY);
        self.shutdown_grace = self.shutdown_grace.min(DAY);
        self
    }
}
