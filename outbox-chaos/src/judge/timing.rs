//! Whether anything was sent before its time, or after it.

use super::duplicates::is_belated;
use super::{CLOCKS, Case, is_between_database_and};
use crate::channels::route;
use crate::database::StoredEvent;
use crate::journal::{Arrival, At};
use std::time::Duration;

/// From the last look at the clock until a message has arrived, on a busy machine.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    for event in &case.evidence.stored.events {
        for &channel in route(&event.event_type) {
            for arrival in case.arrivals(event.id, channel) {
                findings.extend(check_arrival(case, event, arrival));
            }
            for result in case.results(event.id, channel) {
                let is_early = event.expires_at.is_none_or(|at| result.at + CLOCKS < at);
                if result.status.as_deref() == Some("expired") && is_early {
                    let (id, at) = (event.id, result.at);
                    findings.push(format!(
                        "event {id} expired at {channel} at {at:?}, too early"
                    ));
                }
            }
        }
    }
}

fn check_arrival(case: &Case<'_>, event: &StoredEvent, arrival: &Arrival) -> Option<String> {
    let (received, channel, process) = (arrival.received, &arrival.channel, arrival.process.0);
    let what = format!("event {} came through {channel} at {received:?}", event.id);
    if received + CLOCKS < event.deliver_at {
        let due = event.deliver_at;
        return Some(format!(
            "EARLY: {what} from process {process}, and was due at {due:?}"
        ));
    }
    let expires_at = event.expires_at?;
    let is_late = received > expires_at + ON_ITS_WAY && !is_excused(case, arrival, expires_at);
    is_late
        .then(|| format!("LATE: {what} from process {process}, and had expired at {expires_at:?}"))
}

/// What was sent in time may be kept on its way. What time it is a worker learns with each
/// heartbeat, which may take a third of a lease.
fn is_excused(case: &Case<'_>, arrival: &Arrival, expires_at: At) -> bool {
    let lease = case.evidence.lease;
    let is_cut_off = case.life(arrival.process).is_some_and(|sender| {
        let from = expires_at.saturating_sub(lease * 2);
        let is_it = is_between_database_and(sender.slot);
        case.was_inflicted(from, arrival.received, is_it)
    });
    let is_little = arrival.received <= expires_at + lease / 3 + ON_ITS_WAY;
    is_cut_off && is_little || is_belated(case, arrival, expires_at)
}
