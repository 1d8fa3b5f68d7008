//! Whether events of one key came in the order of their ids, on each channel.

use super::Case;
use super::duplicates::{Cause, explain, is_belated, is_held_back, takeover};
use crate::channels::route;
use crate::database::StoredEvent;
use crate::journal::{Arrival, At, Refusal};
use std::collections::BTreeMap;

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    // By id, since the database was read in that order.
    let mut lanes: BTreeMap<(&str, &'static str), Vec<&StoredEvent>> = BTreeMap::new();
    for event in &case.evidence.stored.events {
        let Some(key) = event.key.as_deref() else {
            continue;
        };
        for &channel in route(&event.event_type) {
            lanes.entry((key, channel)).or_default().push(event);
        }
    }
    for ((key, channel), events) in lanes {
        let mut earlier: Option<(&StoredEvent, Vec<&Arrival>)> = None;
        for event in events {
            let arrivals = timely(case, event.id, channel);
            let Some(first) = arrivals.first() else {
                continue;
            };
            if let Some((head, before)) = &earlier
                && let Some(how) = overtakes(case, before, first)
                && !was_lost_with(case, head, before, first)
            {
                findings.push(format!(
                    "ORDER: of key {key}, event {} came through {channel} at {:?}, {how} event {}",
                    event.id, first.received, head.id
                ));
            }
            earlier = Some((event, arrivals));
        }
    }
}

/// The arrivals of an event. What was given up while it was held back on its way may come at any
/// time afterwards, and nobody can help that; what is replayed after it was given up may come after
/// others that were sent meanwhile.
fn timely<'a>(case: &Case<'a>, event_id: i64, channel: &'static str) -> Vec<&'a Arrival> {
    let results = case.results(event_id, channel);
    let taken_back = results.iter().find(|result| result.status.is_none());
    let taken_back = taken_back.map_or(At::MAX, |result| result.at);
    let mut statuses = results.iter().map(|result| result.status.as_deref());
    let was_given_up = statuses.any(|status| status != Some("delivered"));
    let mut arrivals = case.arrivals(event_id, channel).to_vec();
    arrivals.retain(|arrival| {
        arrival.received < taken_back && !(was_given_up && is_held_back(case, arrival))
    });
    arrivals
}

/// Whether `later`, an event's first arrival, came too early for what is known of the event
/// before it.
fn overtakes(case: &Case<'_>, before: &[&Arrival], later: &Arrival) -> Option<&'static str> {
    let accepted = before.iter().filter_map(|arrival| arrival.accepted).min();
    match accepted {
        Some(accepted) if later.received < accepted => return Some("before the receiver had"),
        // It was given up, and then must not be tried again.
        None if before
            .last()
            .is_some_and(|last| last.received > later.received) =>
        {
            return Some("between attempts at");
        }
        _ => {}
    }
    // The receiver had accepted it, and the worker could not know: then it had to wait too.
    let is_open = |pair: &[&Arrival]| {
        (pair[0].received..pair[1].received).contains(&later.received)
            && matches!(explain(case, pair[0], pair[1]), Some(Cause::AnswerLost))
            && pair[0].process == later.process
            // From a worker that had it before, and lost it.
            && (pair[1].process == later.process || !is_belated(case, pair[1], pair[0].received))
    };
    let went_on = before.windows(2).any(is_open);
    went_on.then_some("without waiting for the outcome of")
}

/// Whether a worker had given `head` up and gone on to `later`, and was lost before either was
/// written down: then the one that takes over sends `head` again.
fn was_lost_with(
    case: &Case<'_>,
    head: &StoredEvent,
    attempts: &[&Arrival],
    later: &Arrival,
) -> bool {
    let before = attempts.partition_point(|attempt| attempt.received <= later.received);
    let (Some(last), Some(next)) = (attempts[..before].last(), attempts.get(before)) else {
        return false;
    };
    let is_last_try = head.max_retries == Some(0) && last.accepted.is_none();
    let was_given_up = is_last_try || last.refused == Some(Refusal::ForGood);
    let worker = case.life(last.process);
    let was_lost = worker.and_then(|life| takeover(case, life, last.received, next.received));
    was_given_up && last.process == later.process && was_lost.is_some()
}
