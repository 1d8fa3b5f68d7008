//! Whether only those deliveries were held whose outcome nobody could know, or which hold up their
//! key, and none of them was sent again by itself.

use super::duplicates::is_held_back;
use super::{CLOCKS, Case};
use crate::channels::{CHANNELS, Channel, channel};
use crate::database::Hold;
use crate::fault::{Fault, Link};
use crate::journal::{Arrival, At};
use std::collections::HashMap;
use std::time::Duration;

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    let events = case.evidence.stored.events.iter();
    let written: HashMap<i64, At> = events.map(|event| (event.id, event.written)).collect();
    for hold in case
        .evidence
        .stored
        .holds
        .iter()
        .filter(|hold| hold.is_held)
    {
        let (id, name, at) = (hold.event_id, &hold.channel, hold.at);
        match channel(name).filter(|channel| channel.holds || channel.blocks) {
            None => findings.push(format!(
                "event {id} was held at {name:?}, which never holds"
            )),
            Some(channel) => {
                let written = written.get(&id).copied().unwrap_or_default();
                if !is_explained(case, hold, channel, written) {
                    findings.push(format!(
                        "event {id} was held at {name} at {at:?}, and nothing explains it"
                    ));
                }
            }
        }
    }
    for channel in CHANNELS.iter().filter(|channel| channel.holds) {
        check_repeats(case, channel, findings);
    }
}

/// An answer that did not come, or a worker that was lost with the delivery; where dead letters
/// are held, an answer that says no.
fn is_explained(case: &Case<'_>, hold: &Hold, channel: &Channel, written: At) -> bool {
    let until = hold.at + CLOCKS;
    let arrivals = case.arrivals(hold.event_id, channel.name);
    let had_no_luck = arrivals.iter().any(|arrival| {
        let was_refused = arrival.refused.is_some();
        arrival.received <= until && arrival.accepted.is_none() && (!was_refused || channel.blocks)
    });
    let entries = &case.evidence.entries;
    let lost_its_worker = case.evidence.stored.lapses.iter().map(|lapse| lapse.at);
    let ended = entries.lives.iter().filter_map(|life| Some(life.ended?.0));
    let mut losses = lost_its_worker.chain(ended);
    let from = hold.at.saturating_sub(case.evidence.lease * 2 + ON_ITS_WAY);
    had_no_luck
        || losses.any(|at| (written..=until).contains(&at))
        || case.was_inflicted(from, until, |fault| {
            matches!(fault, Fault::Pause(_) | Fault::Damage(Link::Provider(_), _))
        })
}

/// How long an attempt's end may take to be written down.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// After an attempt that was not refused for certain, only an operator sends again.
fn check_repeats(case: &Case<'_>, channel: &Channel, findings: &mut Vec<String>) {
    let arrivals = case.arrivals.iter();
    for ((event_id, _), arrivals) in arrivals.filter(|((_, name), _)| *name == channel.name) {
        for pair in arrivals.windows(2) {
            if pair[0].refused.is_none() && !was_replayed(case, *event_id, channel, pair) {
                findings.push(format!(
                    "TWICE: event {event_id} came through {} at {:?} from process {} and again at \
                     {:?} from process {}, and nobody had it replayed",
                    channel.name,
                    pair[0].received,
                    pair[0].process.0,
                    pair[1].received,
                    pair[1].process.0,
                ));
            }
        }
    }
}

/// Between the two; or before, when the second was on its way all the time.
fn was_replayed(case: &Case<'_>, event_id: i64, channel: &Channel, pair: &[&Arrival]) -> bool {
    let from = match is_held_back(case, pair[1]) {
        true => At::ZERO,
        false => pair[0].received,
    };
    let mut replays = case.replays(event_id, channel.name);
    replays.any(|replay| (from..=pair[1].received + CLOCKS).contains(&replay))
}
