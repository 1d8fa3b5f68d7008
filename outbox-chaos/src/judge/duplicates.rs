//! Whether each repeated arrival is explained by something that was done.

use super::{CLOCKS, Case, Verdict, is_between_database_and, is_between_receiver_and};
use crate::journal::{Arrival, At, End, Life};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Why a message came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The receiver had not accepted it before: no duplicate at all.
    NotAccepted,
    /// The worker was killed, and its lease ended.
    Crash,
    /// The worker was paused, or kept from the database, until its lease ended.
    LostLease,
    /// As [`LostLease`](Self::LostLease), and nothing was being done to it: the machine is too
    /// slow for so short a lease.
    LeaseTooShort,
    /// The worker was stopped while it was kept from the database.
    StoppedUnsettled,
    /// The connection to the receiver was broken, or the worker paused, before the answer was
    /// there.
    AnswerLost,
    /// The connection held an earlier attempt back.
    HeldBack,
    /// An operator wanted it.
    Replayed,
}

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    for ((event_id, channel), arrivals) in &case.arrivals {
        for pair in arrivals.windows(2) {
            match explain(case, pair[0], pair[1]) {
                Some(cause) => *verdict.repeats.entry(cause).or_default() += 1,
                None => verdict.findings.push(format!(
                    "DUPLICATE: event {event_id} came through {channel} at {:?} from process {} \
                     and, though accepted at {:?}, again at {:?} from process {}, and nothing \
                     explains it",
                    pair[0].received,
                    pair[0].process.0,
                    pair[0].accepted.unwrap_or_default(),
                    pair[1].received,
                    pair[1].process.0,
                )),
            }
        }
    }
}

/// How far apart what belongs together may be.
const SLACK: Duration = Duration::from_millis(500);
/// How long an answer may be on its way, on a busy machine.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Why `again` came after `first`, of the same delivery.
pub(super) fn explain(case: &Case<'_>, first: &Arrival, again: &Arrival) -> Option<Cause> {
    if first.accepted.is_none() {
        return Some(Cause::NotAccepted);
    }
    let between = first.received..=again.received + CLOCKS;
    let mut replays = case.replays(first.event_id, &first.channel);
    if replays.any(|replay| between.contains(&replay)) {
        return Some(Cause::Replayed);
    }
    drop(replays);
    why_unknown(case, first, again.received)
        .or_else(|| is_held_back(case, again).then_some(Cause::HeldBack))
}

/// Why it could not be known at `until` that `arrival` had been accepted.
pub(super) fn why_unknown(case: &Case<'_>, arrival: &Arrival, until: At) -> Option<Cause> {
    let accepted = arrival.accepted?;
    let life = case.life(arrival.process)?;
    if let Some(cause) = takeover(case, life, arrival.received, until) {
        return Some(cause);
    }
    let (from, until) = (
        arrival.received.saturating_sub(SLACK),
        accepted + ON_ITS_WAY,
    );
    let was_lost = case.was_inflicted(from, until, is_between_receiver_and(life.slot));
    was_lost.then_some(Cause::AnswerLost)
}

/// Whether something may have kept the message on its way from its sender.
pub(super) fn is_held_back(case: &Case<'_>, arrival: &Arrival) -> bool {
    was_held_back_since(case, arrival, arrival.received)
}

/// Whether something may have kept the message on its way, or its sender from knowing that it had
/// better not send it, from `since` on.
pub(super) fn is_belated(case: &Case<'_>, arrival: &Arrival, since: At) -> bool {
    let lease = case.evidence.lease;
    let has_lapsed = case.life(arrival.process).is_some_and(|sender| {
        case.has_lapsed(
            sender.pid,
            since.saturating_sub(lease),
            arrival.received + lease,
        )
    });
    has_lapsed || was_held_back_since(case, arrival, since.saturating_sub(lease))
}

fn was_held_back_since(case: &Case<'_>, arrival: &Arrival, since: At) -> bool {
    case.life(arrival.process).is_some_and(|sender| {
        let from = since.saturating_sub(SLACK);
        case.was_inflicted(from, arrival.received, is_between_receiver_and(sender.slot))
    })
}

/// The worker lost what it had between the two moments, and others took it.
pub(super) fn takeover(case: &Case<'_>, life: &Life, from: At, until: At) -> Option<Cause> {
    let lease = case.evidence.lease;
    let is_blamed = is_between_database_and(life.slot);
    // What was sent with the last of a lease may arrive a little after it.
    let between = from.saturating_sub(SLACK)..=until;
    let mut lapses = case.evidence.stored.lapses.iter();
    if let Some(lapse) = lapses.find(|lapse| lapse.pid == life.pid && between.contains(&lapse.at)) {
        let began = lapse.at.saturating_sub(lease + ON_ITS_WAY);
        return Some(match life.ended {
            Some((ended, End::Killed)) if ended <= lapse.at + SLACK => Cause::Crash,
            _ if case.was_inflicted(began, lapse.at, is_blamed) => Cause::LostLease,
            _ => Cause::LeaseTooShort,
        });
    }
    let (ended, _) = life.ended.filter(|(_, end)| *end == End::Terminated)?;
    let is_time = (from..=until + SLACK).contains(&ended);
    let was_cut_off = case.was_inflicted(from.saturating_sub(lease), ended, is_blamed);
    (is_time && was_cut_off).then_some(Cause::StoppedUnsettled)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAccepted => "not accepted before",
            Self::Crash => "after a crash",
            Self::LostLease => "after a lost lease",
            Self::LeaseTooShort => "after a lease that was too short for this machine",
            Self::StoppedUnsettled => "after a stop without the database",
            Self::AnswerLost => "after a lost answer",
            Self::HeldBack => "held back on the way",
            Self::Replayed => "replayed",
        })
    }
}
