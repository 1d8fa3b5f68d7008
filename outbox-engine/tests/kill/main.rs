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
use std::path::Path;
use std::sync::{Arc, Mutex};
use table::{Docs, Entry, Row};

/// So many runs at once.
const STAGES: usize = 3;
/// How often a row is played whose runs a busy machine has disturbed.
const ROUNDS: usize = 3;

/// In which scenes the process dies at a step, and the how manieth time that it comes there. A
/// step without a run does not compile.
fn runs(step: Step) -> Vec<(Kind, u32)> {
    use Kind::{
        Asked, Broken, Cancel, Confirm, Fan, Hold, Idle, Keyed, Large, Old, Orphan, Replay, Run,
        Slow, Verify,
    };
    match step {
        Step::Declare | Step::Installation | Step::Register | Step::Channels => vec![(Fan, 1)],
        Step::Claim | Step::ReadEvents => {
            vec![(Fan, 1), (Keyed, 1), (Run, 1), (Hold, 2), (Verify, 2)]
        }
        Step::DropOrphans => vec![(Orphan, 1)],
        Step::Begin | Step::Commit => vec![
            (Orphan, 1),
            (Old, 1),
            (Cancel, 1),
            (Replay, 1),
            (Confirm, 1),
        ],
        Step::Unblock => vec![(Orphan, 1), (Cancel, 1)],
        Step::NamedChannels => vec![(Large, 1)],
        // Twice for each channel: what is compressed is only measured the first time.
        Step::Contents => vec![(Large, 1), (Large, 2), (Large, 3)],
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
        Step::Asleep | Step::Listen | Step::NextDue => vec![(Idle, 1)],
        Step::Deregister => vec![(Fan, 1)],
        Step::Heartbeat => vec![(Idle, 1), (Slow, 2)],
        Step::ForgetReceipts | Step::Prune | Step::Forget => vec![(Old, 1)],
        Step::LockUndelivered | Step::SettleByHand | Step::Undelivered => {
            vec![(Cancel, 1), (Confirm, 1)]
        }
        Step::LockEvents | Step::Replay => vec![(Replay, 1)],
        Step::WakeWorkers => vec![(Cancel, 1), (Replay, 1), (Confirm, 1)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_loses_nothing() {
    let mut docs = Docs::read();
    let mut rows: Vec<Row> = (0..Step::ALL.len())
        .flat_map(|number| [false, true].map(|is_after| Row { number, is_after }))
        .collect();
    for _ in 0..ROUNDS {
        docs.show(play(&rows).await);
        rows = docs.differing();
        if rows.is_empty() {
            return;
        }
    }
    docs.fail();
}

async fn play(rows: &[Row]) -> Vec<Entry> {
    let plan = rows.iter().flat_map(|row| {
        let runs = runs(row.step()).into_iter();
        runs.map(|(kind, pass)| (*row, kind, pass))
    });
    let plan = Arc::new(Mutex::new(plan.collect::<VecDeque<_>>()));
    let entries = Arc::new(Mutex::new(Vec::new()));
    let mut stages = tokio::task::JoinSet::new();
    for _ in 0..STAGES {
        let (plan, entries) = (Arc::clone(&plan), Arc::clone(&entries));
        stages.spawn(async move {
            let stage = Stage::build().await;
            loop {
                let Some((row, kind, pass)) = plan.lock().unwrap().pop_front() else {
                    return;
                };
                let fates = stage.play(kind, row, pass).await;
                entries.lock().unwrap().push(Entry { row, kind, fates });
            }
        });
    }
    while let Some(ended) = stages.join_next().await {
        ended.unwrap();
    }
    std::mem::take(&mut *entries.lock().unwrap())
}

/// A statement that nobody thought of when it was added.
#[test]
fn every_statement_on_the_way_has_its_points() {
    // An operator's, in one statement.
    const WITHOUT: &str = "sql/pause_channel.sql";
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../outbox-store/src");
    for module in [
        "channels",
        "claim",
        "claim/facts",
        "contents",
        "listen",
        "operate",
        "retention",
        "settle",
        "worker",
    ] {
        let text = std::fs::read_to_string(sources.join(module).with_extension("rs")).unwrap();
        for (at, _) in text.match_indices("sqlx::query") {
            let rest = &text[at..];
            // Up to the next statement, or the end of the function.
            let ends = ["sqlx::query", "\n}\n", "\n    }\n"].map(|end| rest[1..].find(end));
            let until = ends.into_iter().flatten().min().unwrap_or(rest.len());
            let statement = &rest[..until];
            assert!(
                statement.contains("around(Step::") || statement.contains(WITHOUT),
                "{module}.rs: no point at which the process dies: {statement}"
            );
        }
    }
}

/// Not a test: the process that is killed, and the one that takes over.
#[tokio::test]
#[ignore = "the worker process of the other test"]
async fn worker_process() {
    life::live().await;
}
