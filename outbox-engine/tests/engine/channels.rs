//! Channels that do as told.

use crate::common::PATIENCE;
use outbox_engine::{Channel, Delivery, MockChannel, Receipt, SendError, async_trait};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;

/// A mocked channel with one expectation.
pub(crate) fn mock(expect: impl FnOnce(&mut MockChannel)) -> MockChannel {
    let mut channel = MockChannel::new();
    expect(&mut channel);
    channel
}

/// Accepts everything.
pub(crate) fn accepting() -> MockChannel {
    mock(|channel| {
        channel.expect_send().returning(|_| Ok(Receipt::new()));
    })
}

pub(crate) type Outcome = Result<Receipt, SendError>;

/// Answers by a function of the delivery, and keeps every delivery.
#[derive(Clone)]
pub(crate) struct Recorder {
    answer: Arc<dyn Fn(&Delivery) -> Outcome + Send + Sync>,
    sent: Arc<Mutex<Vec<(Instant, Delivery)>>>,
}

impl Recorder {
    pub(crate) fn new(answer: impl Fn(&Delivery) -> Outcome + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
            sent: Arc::default(),
        }
    }

    pub(crate) fn accepting() -> Self {
        Self::new(|_| Ok(Receipt::new()))
    }

    /// What was sent so far, and when.
    pub(crate) fn sent(&self) -> Vec<(Instant, Delivery)> {
        self.sent.lock().unwrap().clone()
    }

    pub(crate) fn event_ids(&self) -> Vec<i64> {
        self.sent()
            .iter()
            .map(|(_, sent)| sent.event().id)
            .collect()
    }
}

#[async_trait]
impl Channel for Recorder {
    async fn send(&self, delivery: &Delivery) -> Outcome {
        self.sent
            .lock()
            .unwrap()
            .push((Instant::now(), delivery.clone()));
        (self.answer)(delivery)
    }
}

/// Holds every delivery until it is let go.
#[derive(Clone)]
pub(crate) struct Gate(Arc<State>);

struct State {
    arrived: Semaphore,
    leave: Semaphore,
    inside: AtomicUsize,
    most: AtomicUsize,
    answer: Box<dyn Fn(&Delivery) -> Outcome + Send + Sync>,
    attempts: Mutex<Vec<(i64, u32)>>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::answering(|_| Ok(Receipt::new()))
    }

    pub(crate) fn answering(answer: impl Fn(&Delivery) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            arrived: Semaphore::new(0),
            leave: Semaphore::new(0),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            answer: Box::new(answer),
            attempts: Mutex::default(),
        }))
    }

    /// Waits until so many more deliveries have come.
    pub(crate) async fn arrived(&self, count: u32) {
        let arrived = self.0.arrived.acquire_many(count);
        let arrived = tokio::time::timeout(PATIENCE, arrived).await;
        arrived.expect("nothing is sent").unwrap().forget();
    }

    /// How many have come that nobody has waited for.
    pub(crate) fn unexpected(&self) -> usize {
        self.0.arrived.available_permits()
    }

    /// Lets so many go.
    pub(crate) fn let_go(&self, count: usize) {
        self.0.leave.add_permits(count);
    }

    /// Lets all go, now and later.
    pub(crate) fn open(&self) {
        self.0.leave.add_permits(100_000);
    }

    /// How many are held now.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.load(Ordering::SeqCst)
    }

    /// How many were held at once, at most.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    /// Event and attempt of each delivery that came.
    pub(crate) fn attempts(&self) -> Vec<(i64, u32)> {
        self.0.attempts.lock().unwrap().clone()
    }
}

/// Counts a delivery as inside until it ends, however that is.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Channel for Gate {
    async fn send(&self, delivery: &Delivery) -> Outcome {
        let state = &self.0;
        let inside = state.inside.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(&state.inside);
        state.most.fetch_max(inside, Ordering::SeqCst);
        let attempt = (delivery.event().id, delivery.attempt());
        state.attempts.lock().unwrap().push(attempt);
        state.arrived.add_permits(1);
        state.leave.acquire().await.unwrap().forget();
        (state.answer)(delivery)
    }
}
