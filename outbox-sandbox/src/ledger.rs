//! What a stand-in was given.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The latest entries up to a cap, and the count of all, which can be waited for.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    latest: Mutex<VecDeque<T>>,
    capacity: usize,
    total: watch::Sender<u64>,
}

impl<T: Clone> Ledger<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            latest: Mutex::default(),
            capacity,
            total: watch::Sender::new(0),
        }
    }

    pub(crate) fn add(&self, entry: T) {
        let mut latest = self.latest();
        if latest.len() == self.capacity {
            latest.pop_front();
        }
        latest.push_back(entry);
        self.total.send_modify(|total| *total += 1);
    }

    /// The latest entries, oldest first.
    pub(crate) fn entries(&self) -> Vec<T> {
        self.latest().iter().cloned().collect()
    }

    pub(crate) fn total(&self) -> u64 {
        *self.total.borrow()
    }

    pub(crate) async fn wait_for(&self, total: u64) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self
            .total
            .subscribe()
            .wait_for(|so_far| *so_far >= total)
            .await;
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
