//! What operators asked for, what was held, what had its time, what was removed.

use super::*;
use crate::journal::{Answer, Deed, Operation, Refusal};

fn operate(evidence: &mut Evidence, deed: Deed, from: u64, until: u64, answer: Answer) {
    evidence.entries.operations.push(Operation {
        deed,
        from: at(from),
        until: at(until),
        answer,
    });
}

/// Event 1 is cancelled at 500, and nothing arrives.
fn cancelled() -> Evidence {
    let mut evidence = fine(&[1]);
    evidence.entries.arrivals.clear();
    evidence.stored.results = vec![result(1, Some("cancelled"), 500)];
    operate(&mut evidence, Deed::Cancel(1), 400, 600, Answer::Done);
    evidence
}

/// As [`fine`], through the channel that never sends twice by itself.
fn kept() -> Evidence {
    through(fine(&[1]), "vault", "kept.written")
}

fn through(mut evidence: Evidence, channel: &str, event_type: &str) -> Evidence {
    for arrival in &mut evidence.entries.arrivals {
        arrival.channel = channel.to_owned();
    }
    for event in &mut evidence.stored.events {
        event.event_type = event_type.to_owned();
    }
    for result in &mut evidence.stored.results {
        result.channel = channel.to_owned();
    }
    evidence
}

fn hold(evidence: &mut Evidence, is_held: bool, millis: u64) {
    let channel = evidence.entries.arrivals[0].channel.clone();
    evidence.stored.holds.push(Hold {
        event_id: 1,
        channel,
        is_held,
        at: at(millis),
    });
}

#[test]
fn a_cancel_ends_in_one_truth() {
    let mut evidence = cancelled();
    assert!(findings(&evidence).is_empty());
    evidence.entries.operations[0].answer = Answer::NothingToDo;
    assert!(finding(&evidence).contains("nothing to cancel"));
    evidence.entries.operations.clear();
    assert!(finding(&evidence).contains("nobody asked for it"));
    let mut evidence = fine(&[1]);
    operate(&mut evidence, Deed::Cancel(1), 400, 600, Answer::Done);
    assert!(finding(&evidence).contains("no result says so"));
    evidence.entries.operations[0].answer = Answer::InFlight;
    assert!(findings(&evidence).is_empty());
}

#[test]
fn what_was_cancelled_is_not_sent_afterwards() {
    let mut evidence = cancelled();
    evidence.entries.arrivals = fine(&[1]).entries.arrivals;
    assert!(finding(&evidence).contains("was sent afterwards"));
    // Its worker counted as gone.
    lapse(&mut evidence, 300);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn what_was_cancelled_had_not_arrived_as_far_as_anybody_knew() {
    let mut evidence = fine(&[1]);
    evidence.stored.results = vec![result(1, Some("cancelled"), 1_500)];
    operate(&mut evidence, Deed::Cancel(1), 1_400, 1_600, Answer::Done);
    assert!(finding(&evidence).contains("had been accepted"));
    let cut = Fault::Damage(Link::Provider(0), Damage::Cut);
    inflict(&mut evidence, cut, 1_005, 1_005);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn a_cancel_before_the_event_was_routed_counts_for_all_channels() {
    let mut evidence = cancelled();
    evidence.stored.results[0].channel = String::new();
    assert!(findings(&evidence).is_empty());
}

#[test]
fn nothing_is_put_to_work_again_by_itself() {
    let mut evidence = fine(&[1]);
    let mut first = evidence.entries.arrivals[0].clone();
    first.accepted = None;
    first.received = at(500);
    evidence.entries.arrivals.insert(0, first);
    give_reason(&mut evidence);
    evidence.stored.results[0].at = at(600);
    evidence.stored.results.push(result(1, None, 900));
    evidence
        .stored
        .results
        .push(result(1, Some("delivered"), 1_020));
    assert!(finding(&evidence).contains("put to work again"));
    operate(&mut evidence, Deed::ReplayFailed, 800, 1_000, Answer::Done);
    assert!(findings(&evidence).is_empty());
    // What comes of a replay may come after others of its key.
    evidence
        .stored
        .events
        .push(fine(&[2]).stored.events.remove(0));
    evidence
        .stored
        .results
        .push(result(2, Some("delivered"), 720));
    let mut other = fine(&[2]).entries.arrivals.remove(0);
    (other.received, other.accepted) = (at(700), Some(at(710)));
    evidence.entries.arrivals.push(other);
    let transaction = fine(&[2]).entries.transactions.remove(0);
    evidence.entries.transactions.push(transaction);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn nothing_goes_through_a_paused_channel() {
    // A lease of 3 s, and a second for what was claimed.
    let mut evidence = fine(&[1, 9]);
    operate(
        &mut evidence,
        Deed::Pause("crm"),
        4_000,
        4_500,
        Answer::Done,
    );
    assert!(finding(&evidence).contains("which was paused"));
    operate(
        &mut evidence,
        Deed::Resume("crm"),
        8_800,
        8_900,
        Answer::Done,
    );
    assert!(findings(&evidence).is_empty());
    evidence.entries.operations[1].from = at(9_500);
    assert!(finding(&evidence).contains("which was paused"));
    // Whether an earlier command to go on came through later, nobody knows.
    let resume = Deed::Resume("crm");
    operate(&mut evidence, resume, 3_000, 3_500, Answer::Unknown);
    evidence.entries.operations.rotate_right(1);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn what_is_held_has_a_reason() {
    let mut evidence = kept();
    hold(&mut evidence, true, 1_200);
    assert!(finding(&evidence).contains("nothing explains it"));
    evidence.entries.lives[1].ended = Some((at(1_100), End::Killed));
    assert!(findings(&evidence).is_empty());
    let mut evidence = fine(&[1]);
    hold(&mut evidence, true, 1_200);
    assert!(finding(&evidence).contains("never holds"));
}

#[test]
fn where_dead_letters_block_they_are_held() {
    let mut evidence = through(fine(&[1]), "chain", "chained.written");
    evidence.entries.arrivals[0].accepted = None;
    evidence.entries.arrivals[0].refused = Some(Refusal::ForGood);
    give_reason(&mut evidence);
    assert!(finding(&evidence).contains("instead of held"));
    evidence.stored.events[0].key = None;
    assert!(findings(&evidence).is_empty());
    hold(&mut evidence, true, 1_020);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn what_may_have_arrived_is_not_sent_again_by_itself() {
    let mut evidence = kept();
    let mut again = evidence.entries.arrivals[0].clone();
    evidence.entries.arrivals[0].accepted = None;
    again.received = at(3_000);
    again.accepted = Some(at(3_010));
    evidence.entries.arrivals.push(again);
    evidence.stored.results[0].at = at(3_020);
    assert!(finding(&evidence).starts_with("TWICE"));
    // It was refused for certain.
    evidence.entries.arrivals[0].refused = Some(Refusal::NotNow);
    assert!(findings(&evidence).is_empty());
    evidence.entries.arrivals[0].refused = None;
    hold(&mut evidence, true, 1_200);
    hold(&mut evidence, false, 2_900);
    assert!(finding(&evidence).contains("put to work again"));
    let replay = Deed::Replay("vault", vec![1]);
    operate(&mut evidence, replay, 2_800, 2_950, Answer::Done);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn nothing_is_sent_before_its_time() {
    let mut evidence = fine(&[1]);
    evidence.stored.events[0].deliver_at = at(1_000);
    assert!(findings(&evidence).is_empty());
    evidence.stored.events[0].deliver_at = at(1_200);
    assert!(finding(&evidence).starts_with("EARLY"));
}

#[test]
fn nothing_is_sent_after_it_has_expired() {
    let mut evidence = fine(&[5]);
    evidence.stored.events[0].expires_at = Some(at(5_100));
    assert!(findings(&evidence).is_empty());
    evidence.stored.events[0].expires_at = Some(at(2_000));
    assert!(finding(&evidence).starts_with("LATE"));
    // A worker's clock may be wrong by a third of a lease when the database is slow.
    inflict(&mut evidence, Fault::Server(Trouble::Crash), 1_000, 4_000);
    assert!(finding(&evidence).starts_with("LATE"));
    evidence.stored.events[0].expires_at = Some(at(3_100));
    assert!(findings(&evidence).is_empty());
    evidence.stored.events[0].expires_at = Some(at(2_000));
    assert!(finding(&evidence).starts_with("LATE"));
    let stall = Fault::Damage(Link::Provider(0), Damage::Stall(None));
    inflict(&mut evidence, stall, 1_900, 4_990);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn nothing_expires_before_its_time() {
    let mut evidence = fine(&[1]);
    evidence.entries.arrivals.clear();
    evidence.stored.results = vec![result(1, Some("expired"), 500)];
    assert!(finding(&evidence).contains("too early"));
    evidence.stored.events[0].expires_at = Some(at(700));
    assert!(finding(&evidence).contains("too early"));
    evidence.stored.events[0].expires_at = Some(at(450));
    assert!(findings(&evidence).is_empty());
}

#[test]
fn retention_removes_nothing_that_is_unsettled() {
    let mut evidence = fine(&[1]);
    evidence.stored.events[0].pruned = Some(at(1_500));
    assert!(findings(&evidence).is_empty());
    evidence.stored.events[0].pruned_early = true;
    assert!(finding(&evidence).contains("while it was in the queue"));
    evidence.stored.events[0].pruned_early = false;
    evidence.stored.events[0].pruned = Some(at(1_015));
    assert!(finding(&evidence).contains("without a result"));
}
