//! Settlements that wait for somebody to write them, and which of them may be written together.

use crate::assembly::Ready;
use crate::lease::Tenure;
use outbox_store::Settlement;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// What is written in one statement.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) rows: Vec<Settlement>,
    /// Nothing else of these may be written until this is.
    pub(crate) sequences: Vec<u64>,
}

/// Settlements in the order in which they came. Several batches of them may be under way at once,
/// but only one that holds anything of the same sequence.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) ready: VecDeque<Ready>,
    under_way: HashSet<u64>,
}

impl Waiting {
    /// Up to `limit` that may be written now, under the same lease.
    pub(crate) fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let mut rows = Vec::with_capacity(limit.min(self.ready.len()));
        let (mut tenure, mut taken) = (None::<Arc<Tenure>>, HashSet::new());
        let (mut left, mut passed_over) = (Vec::new(), HashSet::new());
        while rows.len() < limit
            && let Some(next) = self.ready.pop_front()
        {
            let is_others = tenure
                .as_ref()
                .is_some_and(|tenure| tenure.worker != next.tenure.worker);
            let must_wait = next.sequence.is_some_and(|sequence| {
                self.under_way.contains(&sequence)
                    || passed_over.contains(&sequence)
                    || next.is_sequel && taken.contains(&sequence)
            });
            if must_wait || is_others {
                passed_over.extend(next.sequence);
                left.push(next);
            } else {
                tenure.get_or_insert(next.tenure);
                taken.extend(next.sequence);
                rows.push(next.settlement);
            }
        }
        for next in left.into_iter().rev() {
            self.ready.push_front(next);
        }
        self.under_way.extend(&taken);
        Some(Batch {
            tenure: tenure?,
            rows,
            sequences: taken.into_iter().collect(),
        })
    }

    /// That batch is written, or given up.
    pub(crate) fn is_over(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            self.under_way.remove(sequence);
        }
    }
}

#[cfg(test)]
mod properties;
