//! Channels that send nothing.

use outbox_engine::async_trait;
use outbox_engine::{
    Channel, ChannelSpec, Delivery, OnAmbiguous, OnDead, Receipt, RetryPolicy, SendError,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Accepts everything, as the `null` channel does, and counts.
#[derive(Clone, Default)]
pub(crate) struct Null(Arc<Counts>);

#[derive(Default)]
struct Counts {
    all: AtomicU64,
    unkeyed: AtomicU64,
}

impl Null {
    /// Deliveries so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Deliveries of events without a key so far.
    pub(crate) fn unkeyed(&self) -> u64 {
        self.0.unkeyed.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Channel for Null {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        if delivery.event().key.is_none() {
            self.0.unkeyed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Receipt::new())
    }
}

/// Accepts everything and notes when each event arrived.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<Vec<(i64, Instant)>>>);

impl Arrivals {
    /// Event ids and times so far; forgotten here.
    pub(crate) fn take(&self) -> Vec<(i64, Instant)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many have arrived.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl Channel for Arrivals {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let arrival = (delivery.event().id, Instant::now());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(arrival);
        Ok(Receipt::new())
    }
}

/// Cannot deliver anything.
pub(crate) struct Down;

#[async_trait]
impl Channel for Down {
    async fn send(&self, _: &Delivery) -> Result<Receipt, SendError> {
        Err(SendError::unavailable("down", "the provider is down"))
    }
}

/// A channel with room for `concurrency` deliveries at once.
pub(crate) fn spec(
    name: &str,
    channel: impl Channel,
    concurrency: usize,
) -> anyhow::Result<ChannelSpec> {
    Ok(ChannelSpec {
        name: name.parse()?,
        kind: "bench".to_owned(),
        channel: Box::new(channel),
        concurrency,
        timeout: Duration::from_secs(10),
        retry: RetryPolicy::default(),
        on_ambiguous: OnAmbiguous::Retry,
        on_dead: OnDead::Skip,
        rate_limit: None,
    })
}
