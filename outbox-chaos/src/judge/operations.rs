//! Whether what operators were told is what happened, and nothing happened that they had not asked
//! for.

use super::duplicates::is_belated;
use super::{CLOCKS, Case};
use crate::journal::{Answer, At, Deed, Operation};
use std::collections::HashMap;
use std::time::Duration;

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    check_cancels(case, findings);
    check_replays(case, findings);
    check_pauses(case, findings);
}

/// Whether it may have been done by this command.
fn may_have_done(operation: &Operation, at: At) -> bool {
    let is_over = operation.answer != Answer::Unknown && at > operation.until + CLOCKS;
    at + CLOCKS >= operation.from && !is_over
}

fn check_cancels(case: &Case<'_>, findings: &mut Vec<String>) {
    let mut commands: HashMap<i64, Vec<&Operation>> = HashMap::new();
    for operation in &case.evidence.entries.operations {
        if let Deed::Cancel(id) = operation.deed {
            commands.entry(id).or_default().push(operation);
        }
    }
    let mut cancelled: HashMap<i64, Vec<At>> = HashMap::new();
    for result in &case.evidence.stored.results {
        if result.status.as_deref() == Some("cancelled") {
            cancelled
                .entry(result.event_id)
                .or_default()
                .push(result.at);
        }
    }
    for (id, operations) in &commands {
        let results = cancelled.get(id).map(Vec::as_slice).unwrap_or_default();
        for operation in operations {
            findings.extend(check_cancel(*id, operation, operations, results));
        }
    }
    for (id, times) in cancelled {
        let operations = commands.get(&id).map(Vec::as_slice).unwrap_or_default();
        for at in times {
            if !operations
                .iter()
                .any(|operation| may_have_done(operation, at))
            {
                findings.push(format!(
                    "event {id} was cancelled at {at:?}, and nobody asked for it"
                ));
            }
        }
    }
}

/// `results` are when the event was cancelled, by this of all `operations` or by another.
fn check_cancel(
    id: i64,
    operation: &Operation,
    operations: &[&Operation],
    results: &[At],
) -> Option<String> {
    let until = operation.until;
    let mut mine = results.iter().filter(|at| may_have_done(operation, **at));
    match operation.answer {
        Answer::Done => mine.next().is_none().then(|| {
            format!("event {id} was said to be cancelled at {until:?}, and no result says so")
        }),
        Answer::NothingToDo => {
            let is_others = |at: &At| {
                let mut others = operations.iter().filter(|other| **other != operation);
                others.any(|other| may_have_done(other, *at))
            };
            mine.any(|at| !is_others(at)).then(|| {
                format!(
                    "event {id} was cancelled, and the operator was told at {until:?} that there \
                     was nothing to cancel"
                )
            })
        }
        Answer::InFlight | Answer::Unknown => None,
    }
}

fn check_replays(case: &Case<'_>, findings: &mut Vec<String>) {
    let operations = &case.evidence.entries.operations;
    let was_asked_for = |event_id: i64, channel: &str, at: At| {
        operations.iter().any(|operation| {
            let is_it = match &operation.deed {
                Deed::ReplayFailed => true,
                Deed::Replay(name, ids) => *name == channel && ids.contains(&event_id),
                _ => false,
            };
            is_it && may_have_done(operation, at)
        })
    };
    let stored = &case.evidence.stored;
    let taken_back = stored
        .results
        .iter()
        .filter(|result| result.status.is_none());
    let taken_back = taken_back.map(|result| (result.event_id, &result.channel, result.at));
    let released = stored.holds.iter().filter(|hold| !hold.is_held);
    let released = released.map(|hold| (hold.event_id, &hold.channel, hold.at));
    for (event_id, channel, at) in taken_back.chain(released) {
        if !was_asked_for(event_id, channel, at) {
            findings.push(format!(
                "event {event_id} was put to work again for {channel:?} at {at:?}, and nobody asked \
                 for it"
            ));
        }
    }
}

/// What has been claimed may still go out.
const CLAIMED: Duration = Duration::from_secs(1);

fn check_pauses(case: &Case<'_>, findings: &mut Vec<String>) {
    let operations = &case.evidence.entries.operations;
    for (place, operation) in operations.iter().enumerate() {
        let Deed::Pause(channel) = operation.deed else {
            continue;
        };
        let is_resume = |other: &&Operation| other.deed == Deed::Resume(channel);
        let before = operations[..place].iter().rev().find(is_resume);
        let is_unsure = before.is_some_and(|resume| resume.answer == Answer::Unknown);
        if operation.answer != Answer::Done || is_unsure {
            continue;
        }
        let resume = operations[place..].iter().find(is_resume);
        let until = resume.map_or(At::MAX, |resume| resume.from);
        // Whoever cannot reach the database learns of it when the lease is over.
        let from = operation.until + case.evidence.lease + CLAIMED;
        let arrivals = case.evidence.entries.arrivals.iter();
        for arrival in arrivals.filter(|arrival| arrival.channel == channel) {
            let is_in_pause = (from..until).contains(&arrival.received);
            if is_in_pause && !is_belated(case, arrival, from) {
                findings.push(format!(
                    "event {} came through {channel} at {:?} from process {}, which was paused at \
                     {:?}",
                    arrival.event_id, arrival.received, arrival.process.0, operation.until
                ));
            }
        }
    }
}
