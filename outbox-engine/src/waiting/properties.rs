//! However batches overlap, what belongs together is written one after the other.

use super::*;
use crate::lease::Lease;
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{ClaimId, Lane, Store, StoreOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::HashMap;
use std::time::Duration;

/// A settlement that comes, or the end of one of the batches under way.
#[derive(Debug, Clone)]
enum Step {
    Comes(Option<u64>, bool, usize),
    Ends(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let sequence = prop::option::weighted(0.7, 0..4_u64);
    prop_oneof![
        3 => (sequence, any::<bool>(), 0..2_usize)
            .prop_map(|(sequence, is_sequel, tenure)| Step::Comes(sequence, is_sequel, tenure)),
        1 => any::<usize>().prop_map(Step::Ends),
    ]
}

fn ready(event_id: i64, sequence: Option<u64>, is_sequel: bool, tenure: &Arc<Tenure>) -> Ready {
    Ready {
        tenure: Arc::clone(tenure),
        sequence,
        is_sequel: is_sequel && sequence.is_some(),
        settlement: Settlement {
            event_id,
            lane: Lane::Unrouted,
            claim: ClaimId::FIRST,
            is_keyed: false,
            outcomes: Vec::new(),
            left: Vec::new(),
            failed: Vec::new(),
        },
    }
}

#[derive(Default)]
struct Check {
    /// Sequence, whether it is a sequel, and lease, by event.
    came: Vec<(Option<u64>, bool, usize)>,
    under_way: Vec<Batch>,
    /// The last event of each sequence that was let go.
    last: HashMap<u64, i64>,
    let_go: usize,
}

impl Check {
    fn of(&self, event_id: i64) -> (Option<u64>, bool, usize) {
        self.came[usize::try_from(event_id).unwrap()]
    }

    fn take(&mut self, batch: Batch) {
        let mut in_it = HashSet::new();
        for row in &batch.rows {
            let (sequence, is_sequel, tenure) = self.of(row.event_id);
            assert_eq!(
                tenure,
                self.of(batch.rows[0].event_id).2,
                "leases are mixed"
            );
            let Some(sequence) = sequence else { continue };
            let others = self.under_way.iter().flat_map(|other| &other.rows);
            let overlaps = others
                .into_iter()
                .any(|row| self.of(row.event_id).0 == Some(sequence));
            assert!(!overlaps, "two batches of one sequence");
            let last = self.last.insert(sequence, row.event_id);
            assert!(last.is_none_or(|last| last < row.event_id), "out of order");
            assert!(
                in_it.insert(sequence) || !is_sequel,
                "before its row exists"
            );
        }
        self.let_go += batch.rows.len();
        self.under_way.push(batch);
    }
}

fn check(steps: Vec<Step>, tenures: &[Arc<Tenure>]) {
    let (mut waiting, mut check) = (Waiting::default(), Check::default());
    let rest = std::iter::repeat_n(Step::Ends(0), steps.len());
    let number = steps.len();
    for step in steps.into_iter().chain(rest) {
        match step {
            Step::Comes(sequence, is_sequel, tenure) => {
                let event_id = i64::try_from(check.came.len()).unwrap();
                check.came.push((sequence, is_sequel, tenure));
                let ready = ready(event_id, sequence, is_sequel, &tenures[tenure]);
                waiting.ready.push_back(ready);
            }
            Step::Ends(which) if !check.under_way.is_empty() => {
                let which = which % check.under_way.len();
                let batch = check.under_way.swap_remove(which);
                waiting.is_over(&batch.sequences);
            }
            Step::Ends(_) => {}
        }
        if check.under_way.len() < 3
            && let Some(batch) = waiting.next_batch(3)
        {
            check.take(batch);
        }
        let is_stuck = check.under_way.is_empty() && !waiting.ready.is_empty();
        assert!(!is_stuck, "nothing can be written");
    }
    assert!(check.let_go + waiting.ready.len() == check.came.len() && check.let_go <= number);
}

#[tokio::test]
async fn a_sequence_is_written_in_its_order() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let options = StoreOptions::new(database.url());
    let store = Store::connect(&options).await.unwrap();
    store.migrate().await.unwrap();
    let lease = Lease::begin(store, "test", Duration::from_secs(60));
    let lease = lease.await.unwrap();
    let first = lease.current();
    lease.replace().await.unwrap();
    let tenures = [first, lease.current()];
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        check(steps, &tenures);
        Ok(())
    });
    ran.unwrap();
}
