//! Whether everything that was committed went where it should, or was given up with a reason,
//! and nothing else went out.

use super::{Case, channels};
use crate::database::{StoredEvent, StoredResult};
use std::collections::{HashMap, HashSet};

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    let mut expected = HashSet::new();
    for event in &case.evidence.stored.events {
        for &channel in channels(&event.event_type) {
            expected.insert((event.id, channel));
            let result = case.results.get(&(event.id, channel)).copied();
            findings.extend(check_delivery(case, event, channel, result));
        }
    }
    for (event_id, channel) in case
        .results
        .keys()
        .filter(|delivery| !expected.contains(*delivery))
    {
        findings.push(format!(
            "event {event_id} has a result for {channel:?}, where nothing leads"
        ));
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

fn check_delivery(
    case: &Case<'_>,
    event: &StoredEvent,
    channel: &'static str,
    result: Option<&StoredResult>,
) -> Option<String> {
    let (id, token) = (event.id, &event.token);
    let Some(result) = result else {
        return Some(format!(
            "LOST: event {id} ({token}) has no result for {channel}"
        ));
    };
    let arrivals = case.arrivals(id, channel);
    let has_arrived = arrivals.iter().any(|arrival| arrival.accepted.is_some());
    match result.status.as_str() {
        "delivered" if has_arrived => None,
        "delivered" => Some(format!(
            "LOST: event {id} ({token}) is said to be delivered through {channel}, and was never \
             accepted there"
        )),
        "dead" if result.code.is_some() && result.message.is_some() => None,
        "dead" => Some(format!(
            "event {id} ({token}) was given up by {channel} without a reason"
        )),
        status => Some(format!(
            "event {id} ({token}) ended as {status} at {channel}"
        )),
    }
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
