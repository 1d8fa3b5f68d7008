//! Whether everything that was committed went where it should, or was given up with a reason,
//! and nothing else went out.

use super::duplicates::{is_belated, why_unknown};
use super::{CLOCKS, Case};
use crate::channels::{channel, route};
use crate::database::{StoredEvent, StoredResult};
use crate::journal::At;
use std::collections::{HashMap, HashSet};

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    let mut expected = HashSet::new();
    for event in &case.evidence.stored.events {
        expected.insert((event.id, ""));
        for &channel in route(&event.event_type) {
            expected.insert((event.id, channel));
            findings.extend(check_delivery(case, event, channel));
            check_given_up(case, event, channel, findings);
        }
    }
    for (event_id, channel) in case.results.keys() {
        if !expected.contains(&(*event_id, *channel)) {
            findings.push(format!(
                "event {event_id} has a result for {channel:?}, where nothing leads"
            ));
        }
    }
    for (delivery, arrivals) in &case.arrivals {
        if !expected.contains(delivery) {
            let (event_id, channel) = delivery;
            findings.push(format!(
                "PHANTOM: {} arrived through {channel} as event {event_id}, which is not stored",
                arrivals.first().map_or("", |arrival| &arrival.token)
            ));
        }
    }
    check_identity(case, findings);
}

fn check_delivery(case: &Case<'_>, event: &StoredEvent, name: &'static str) -> Option<String> {
    let (id, token) = (event.id, &event.token);
    let last = case.results(id, name).last();
    let Some((result, status)) = last.and_then(|last| Some((last, last.status.as_deref()?))) else {
        return Some(format!(
            "LOST: event {id} ({token}) has no result for {name}"
        ));
    };
    let arrivals = case.arrivals(id, name);
    let has_arrived = arrivals.iter().any(|arrival| arrival.accepted.is_some());
    match status {
        "delivered" if has_arrived => None,
        "delivered" => Some(format!(
            "LOST: event {id} ({token}) is said to be delivered through {name}, and was never \
             accepted there"
        )),
        "dead" if event.key.is_some() && channel(name).is_some_and(|channel| channel.blocks) => {
            Some(format!(
                "event {id} ({token}) has a key, and was given up by {name} instead of held"
            ))
        }
        "dead" if result.code.is_some() && result.message.is_some() => None,
        "dead" => Some(format!(
            "event {id} ({token}) was given up by {name} without a reason"
        )),
        // Who asked for it, and whether it was time: see `operations` and `timing`.
        "cancelled" | "expired" => None,
        status => Some(format!("event {id} ({token}) ended as {status} at {name}")),
    }
}

/// Of what is dead, cancelled or expired nobody could know that it had arrived, and it does not
/// arrive afterwards.
fn check_given_up(
    case: &Case<'_>,
    event: &StoredEvent,
    channel: &'static str,
    findings: &mut Vec<String>,
) {
    let results = case.results(event.id, channel);
    let mut begun = At::ZERO;
    for (place, result) in results.iter().enumerate() {
        let over = results.get(place + 1).map_or(At::MAX, |next| next.at);
        if let Some(status) = result.status.as_deref()
            && status != "delivered"
        {
            let period = (begun, *result, over);
            findings.extend(contradictions(case, event, channel, period).map(|how| {
                format!(
                    "event {}, {status} at {channel} at {:?}, {how}",
                    event.id, result.at
                )
            }));
        }
        begun = result.at;
    }
}

/// Between two moments, and a result between them that says that it did not arrive.
fn contradictions(
    case: &Case<'_>,
    event: &StoredEvent,
    channel: &'static str,
    (begun, result, over): (At, &StoredResult, At),
) -> impl Iterator<Item = String> {
    let arrivals = case.arrivals(event.id, channel).iter();
    arrivals.filter_map(move |arrival| {
        let (received, process) = (arrival.received, arrival.process.0);
        let is_after = received > result.at + CLOCKS && received < over;
        if is_after && !is_belated(case, arrival, result.at) {
            return Some(format!(
                "was sent afterwards at {received:?} by process {process}"
            ));
        }
        let accepted = arrival.accepted?;
        let is_before = received >= begun && accepted < result.at;
        let is_wrong = is_before && why_unknown(case, arrival, result.at).is_none();
        is_wrong.then(|| format!("had been accepted at {accepted:?} from process {process}"))
    })
}

/// One delivery has one id, and one id one event.
fn check_identity(case: &Case<'_>, findings: &mut Vec<String>) {
    let mut tokens: HashMap<&str, &str> = HashMap::new();
    let mut ids: HashMap<(&str, &str), &str> = HashMap::new();
    for arrival in case.arrivals.values().flatten() {
        let (id, token) = (arrival.delivery.as_str(), arrival.token.as_str());
        let other = *tokens.entry(id).or_insert(token);
        if other != token {
            findings.push(format!("{token} and {other} arrived with the same id {id}"));
        }
        let other = *ids.entry((token, &arrival.channel)).or_insert(id);
        if other != id {
            findings.push(format!("{token} arrived with the ids {id} and {other}"));
        }
        if case
            .events
            .get(token)
            .is_some_and(|event| event.id != arrival.event_id)
        {
            findings.push(format!(
                "{token} arrived as event {}, which it is not",
                arrival.event_id
            ));
        }
    }
}
