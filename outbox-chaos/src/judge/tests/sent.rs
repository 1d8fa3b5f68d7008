//! What was written and what arrived.

use super::*;
use crate::journal::Refusal;

#[test]
fn what_is_fine_is_found_fine() {
    let verdict = judge(&fine(&[1, 2, 3]));
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert!(verdict.repeats.is_empty());
}

#[test]
fn a_committed_event_that_is_not_stored_is_lost() {
    let mut evidence = fine(&[1, 2]);
    evidence.stored.events.pop();
    evidence.stored.results.pop();
    evidence.entries.arrivals.pop();
    evidence.entries.transactions[0].writes[1].id = None;
    assert!(finding(&evidence).starts_with("LOST"));
}

#[test]
fn an_event_without_a_result_is_lost() {
    let mut evidence = fine(&[1]);
    evidence.stored.results.clear();
    assert!(finding(&evidence).contains("no result"));
}

#[test]
fn a_delivery_that_nobody_accepted_is_lost() {
    let mut evidence = fine(&[1]);
    evidence.entries.arrivals[0].accepted = None;
    assert!(finding(&evidence).contains("never accepted"));
}

#[test]
fn what_is_given_up_needs_a_reason() {
    let mut evidence = fine(&[1]);
    evidence.entries.arrivals[0].accepted = None;
    evidence.stored.results[0].status = Some("dead".to_owned());
    assert!(finding(&evidence).contains("without a reason"));
    give_reason(&mut evidence);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn what_was_rolled_back_may_neither_be_stored_nor_arrive() {
    let mut evidence = fine(&[1]);
    evidence.entries.transactions[0].fate = Fate::RolledBack;
    assert!(finding(&evidence).contains("rolled back"));
    evidence.stored = Stored::default();
    assert!(finding(&evidence).starts_with("PHANTOM"));
}

#[test]
fn an_unknown_commit_is_whole_or_nothing() {
    let mut evidence = fine(&[1, 2]);
    evidence.entries.transactions[0].fate = Fate::Unknown;
    assert!(findings(&evidence).is_empty());
    evidence.stored.events.pop();
    evidence.stored.results.pop();
    evidence.entries.arrivals.pop();
    assert!(finding(&evidence).contains("1 of 2"));
}

#[test]
fn a_dedup_key_has_one_event_once_it_was_committed() {
    let mut evidence = fine(&[1, 2]);
    for write in &mut evidence.entries.transactions[0].writes {
        write.dedup_key = Some("d".to_owned());
    }
    for event in &mut evidence.stored.events {
        event.dedup_key = Some("d".to_owned());
    }
    evidence.stored.events[1].written = at(1_100);
    assert!(finding(&evidence).contains("at the same time"));
    // Retention has made it free again.
    evidence.stored.events[0].pruned = Some(at(1_050));
    assert!(findings(&evidence).is_empty());
    evidence.stored.events.pop();
    evidence.stored.results.pop();
    evidence.entries.arrivals.pop();
    // The second producer has to be told of the first one's.
    assert!(finding(&evidence).contains("was told 2"));
    evidence.entries.transactions[0].writes[1].id = Some(1);
    assert!(findings(&evidence).is_empty());
    evidence.stored = Stored::default();
    evidence.entries.arrivals.clear();
    evidence.entries.transactions[0]
        .writes
        .iter_mut()
        .for_each(|write| write.id = None);
    assert!(finding(&evidence).contains("no event has it"));
}

#[test]
fn a_duplicate_without_a_cause_is_found() {
    assert!(finding(&twice()).starts_with("DUPLICATE"));
    // A fault elsewhere, or at another time, is no cause; nor is one that the lease outlived.
    let mut evidence = twice();
    inflict(&mut evidence, Fault::Pause(1), 900, 2_000);
    inflict(&mut evidence, Fault::Pause(0), 3_000, 4_000);
    let link = Link::Database(0);
    inflict(
        &mut evidence,
        Fault::Damage(link, Damage::Cut),
        1_000,
        1_000,
    );
    assert!(finding(&evidence).starts_with("DUPLICATE"));
}

#[test]
fn what_was_not_accepted_may_come_again() {
    let mut evidence = twice();
    evidence.entries.arrivals[0].accepted = None;
    assert_eq!(causes(&evidence), [Cause::NotAccepted]);
}

#[test]
fn a_lease_that_ended_between_the_two_explains_a_duplicate() {
    let mut evidence = twice();
    lapse(&mut evidence, 4_000);
    assert_eq!(causes(&evidence), [Cause::LeaseTooShort]);
    inflict(&mut evidence, Fault::Server(Trouble::Crash), 1_500, 4_500);
    assert_eq!(causes(&evidence), [Cause::LostLease]);
    evidence.entries.lives[0].ended = Some((at(1_100), End::Killed));
    assert_eq!(causes(&evidence), [Cause::Crash]);
    evidence.stored.lapses[0].at = at(7_000);
    assert!(finding(&evidence).starts_with("DUPLICATE"));
}

#[test]
fn a_stop_explains_a_duplicate_only_without_the_database() {
    let mut evidence = twice();
    evidence.entries.lives[0].ended = Some((at(2_000), End::Terminated));
    assert!(finding(&evidence).starts_with("DUPLICATE"));
    inflict(&mut evidence, Fault::Server(Trouble::Crash), 1_100, 2_500);
    assert_eq!(causes(&evidence), [Cause::StoppedUnsettled]);
}

#[test]
fn a_broken_connection_to_the_receiver_explains_a_duplicate() {
    let link = |slot, damage| Fault::Damage(Link::Provider(slot), damage);
    let mut evidence = twice();
    inflict(&mut evidence, link(0, Damage::Cut), 1_005, 1_005);
    assert_eq!(causes(&evidence), [Cause::AnswerLost]);
    let mut evidence = twice();
    inflict(&mut evidence, link(1, Damage::Stall(None)), 4_000, 5_990);
    assert_eq!(causes(&evidence), [Cause::HeldBack]);
    let mut evidence = twice();
    inflict(&mut evidence, link(0, Damage::Refuse), 1_005, 1_005);
    assert!(finding(&evidence).starts_with("DUPLICATE"));
}

#[test]
fn a_worker_that_ends_by_itself_is_found_once_it_had_a_lease() {
    let mut evidence = fine(&[1]);
    evidence.entries.lives[0].ended = Some((at(5_000), End::ByItself));
    assert!(findings(&evidence).is_empty());
    lapse(&mut evidence, 7_000);
    assert!(finding(&evidence).contains("by itself"));
}

#[test]
fn one_id_bears_one_event() {
    let mut evidence = fine(&[1, 2]);
    evidence.entries.arrivals[1].delivery = "x-1-crm".to_owned();
    assert!(finding(&evidence).contains("the same id"));
    let mut evidence = twice();
    evidence.entries.arrivals[0].accepted = None;
    evidence.entries.arrivals[1].delivery = "y-1-crm".to_owned();
    assert!(finding(&evidence).contains("with the ids"));
}

#[test]
fn an_event_that_overtakes_another_of_its_key_is_found() {
    let mut evidence = fine(&[1, 2]);
    evidence.entries.arrivals[1].received = at(1_005);
    assert!(finding(&evidence).starts_with("ORDER"));
    evidence.stored.events[1].key = Some("another".to_owned());
    assert!(findings(&evidence).is_empty());
}

#[test]
fn an_event_between_two_attempts_at_an_earlier_one_is_found() {
    let mut evidence = fine(&[1, 2]);
    let mut retry = evidence.entries.arrivals[0].clone();
    evidence.entries.arrivals[0].accepted = None;
    retry.received = at(3_000);
    retry.accepted = Some(at(3_001));
    evidence.entries.arrivals.push(retry);
    assert!(finding(&evidence).starts_with("ORDER"));
    // Given up without ever having been accepted: the same.
    evidence.entries.arrivals[2].accepted = None;
    give_reason(&mut evidence);
    evidence.stored.results[0].at = at(3_010);
    assert!(finding(&evidence).starts_with("ORDER"));
}

#[test]
fn what_was_given_up_by_a_worker_that_was_lost_may_come_again() {
    let mut evidence = fine(&[1, 2]);
    let mut again = evidence.entries.arrivals[0].clone();
    evidence.entries.arrivals[0].accepted = None;
    evidence.entries.arrivals[0].refused = Some(Refusal::ForGood);
    (again.received, again.accepted) = (at(6_000), Some(at(6_010)));
    again.process = ProcessId(1);
    evidence.entries.arrivals.push(again);
    evidence.stored.results[0].at = at(6_020);
    assert!(finding(&evidence).starts_with("ORDER"));
    lapse(&mut evidence, 4_000);
    assert!(findings(&evidence).is_empty());
    // It had to be tried again, and the later one to wait.
    evidence.entries.arrivals[0].refused = Some(Refusal::NotNow);
    assert!(finding(&evidence).starts_with("ORDER"));
    evidence.stored.events[0].max_retries = Some(0);
    assert!(findings(&evidence).is_empty());
}

#[test]
fn an_event_that_did_not_wait_for_a_lost_answer_is_found() {
    let mut evidence = fine(&[1, 2]);
    let mut retry = evidence.entries.arrivals[0].clone();
    retry.received = at(3_000);
    evidence.entries.arrivals.push(retry);
    let cut = Fault::Damage(Link::Provider(0), Damage::Cut);
    inflict(&mut evidence, cut, 1_005, 1_005);
    assert!(finding(&evidence).contains("without waiting"));
    // Another worker had sent it, which then lost its lease.
    evidence.entries.arrivals[2].process = ProcessId(1);
    evidence.stored.lapses.push(Lapse {
        pid: 101,
        at: at(900),
    });
    assert!(findings(&evidence).is_empty());
}
