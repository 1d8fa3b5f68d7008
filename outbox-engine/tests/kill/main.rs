//! A worker process is killed at every step from claim to settle, and another one takes over: a
//! ledger outside of both says what arrived.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod ledger;
mod life;
mod scene;
mod table;
mod verdict;

use outbox_store::fault::Step;
use scene::{Kind, Stage};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use table::Entry;

/// So many runs at once: each mostly waits for a lease to end.
const STAGES: usize = 6;

/// In which scenes the process dies at a step, and the how manieth time that it comes there. A
/// step without a run does not compile.
fn runs(step: Step) -> Vec<(Kind, u32)> {
    use Kind::{Asked, Broken, Fan, Hold, Idle, Keyed, Orphan, Run, Slow, Verify};
    match step {
        Step::Declare | Step::Installation | Step::Register | Step::Channels => vec![(Fan, 1)],
        Step::Claim => vec![(Fan, 1), (Keyed, 1), (Run, 1), (Hold, 2), (Verify, 2)],
        Step::DropOrphans => vec![(Orphan, 1)],
        Step::Begin | Step::Unblock | Step::Commit => {
            vec![(Keyed, 1), (Keyed, 2), (Run, 1), (Orphan, 1)]
        }
        Step::BeginAttempts => vec![(Hold, 1), (Verify, 1)],
        Step::Send => vec![
            (Fan, 1),
            (Fan, 2),
            (Keyed, 1),
            (Run, 4),
            (Hold, 1),
            (Verify, 1),
        ],
        Step::Verify => vec![(Asked, 1), (Asked, 2)],
        Step::ChannelDown | Step::ChannelUp => vec![(Broken, 1)],
        // The first time, the row only comes to the lane of its channel.
        Step::Settle => vec![
            (Fan, 1),
            (Keyed, 1),
            (Keyed, 2),
            (Run, 1),
            (Hold, 1),
            (Hold, 2),
            (Verify, 1),
            (Verify, 2),
        ],
        Step::Asleep | Step::NextDue => vec![(Idle, 1)],
        Step::Deregister => vec![(Fan, 1)],
        Step::Heartbeat => vec![(Idle, 1), (Slow, 2)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_loses_nothing() {
    let mut plan = VecDeque::new();
    for (number, step) in Step::ALL.iter().enumerate() {
        for side in ["before", "after"] {
            let of_this = runs(*step).into_iter();
            plan.extend(of_this.map(|(kind, pass)| (number, *step, side, kind, pass)));
        }
    }
    let plan = Arc::new(Mutex::new(plan));
    let entries = Arc::new(Mutex::new(Vec::new()));
    let mut stages = tokio::task::JoinSet::new();
    for _ in 0..STAGES {
        let (plan, entries) = (Arc::clone(&plan), Arc::clone(&entries));
        stages.spawn(async move {
            let stage = Stage::build().await;
            loop {
                let Some((number, step, side, kind, pass)) = plan.lock().unwrap().pop_front()
                else {
                    return;
                };
                let fates = stage.play(kind, step, side, pass).await;
                let entry = Entry {
                    number,
                    step,
                    side,
                    kind,
                    pass,
                    fates,
                };
                entries.lock().unwrap().push(entry);
            }
        });
    }
    while let Some(ended) = stages.join_next().await {
        ended.unwrap();
    }
    let entries = std::mem::take(&mut *entries.lock().unwrap());
    table::check(&entries);
}

/// Not a test: the process that is killed, and the one that takes over.
#[tokio::test]
#[ignore = "the worker process of the other test"]
async fn worker_process() {
    life::live().await;
}
