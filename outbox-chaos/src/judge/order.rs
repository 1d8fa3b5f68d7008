//! Whether events of one key came in the order of their ids, on each channel.

use super::duplicates::{Cause, explain, is_held_back};
use super::{Case, channels};
use crate::database::StoredEvent;
use crate::journal::Arrival;
use std::collections::BTreeMap;

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    // By id, since the database was read in that order.
    let mut lanes: BTreeMap<(&str, &'static str), Vec<&StoredEvent>> = BTreeMap::new();
    for event in &case.evidence.stored.events {
        let Some(key) = event.key.as_deref() else {
            continue;
        };
        for &channel in channels(&event.event_type) {
            lanes.entry((key, channel)).or_default().push(event);
        }
    }
    for ((key, channel), events) in lanes {
        let mut earlier: Option<(i64, Vec<&Arrival>)> = None;
        for event in events {
            let arrivals = timely(case, event.id, channel);
            let Some(first) = arrivals.first() else {
                continue;
            };
            if let Some((id, before)) = &earlier
                && let Some(how) = overtakes(case, before, first)
            {
                findings.push(format!(
                    "ORDER: of key {key}, event {} came through {channel} at {:?}, {how} event \
                     {id}",
                    event.id, first.received
                ));
            }
            earlier = Some((event.id, arrivals));
        }
    }
}

/// The arrivals of an event. What was given up while it was held back on its way may come at any
/// time afterwards, and nobody can help that.
fn timely<'a>(case: &Case<'a>, event_id: i64, channel: &'static str) -> Vec<&'a Arrival> {
    let was_given_up = case.status(event_id, channel) == Some("dead");
    let mut arrivals = case.arrivals(event_id, channel).to_vec();
    arrivals.retain(|arrival| !(was_given_up && is_held_back(case, arrival)));
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
    };
    let went_on = before.windows(2).any(is_open);
    went_on.then_some("without waiting for the outcome of")
}
