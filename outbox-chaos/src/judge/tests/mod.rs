//! A judge is worth what it finds: every kind of wrong, made by hand.

mod operated;
mod sent;

use super::*;
use crate::database::{Lapse, StoredResult};
use crate::journal::{Fate, Inflicted, Transaction, Write};

fn at(millis: u64) -> At {
    Duration::from_millis(millis)
}

/// One worker, one event of key `k` per id, delivered once each.
fn fine(ids: &[i64]) -> Evidence {
    let token = |id: &i64| format!("p-{id}");
    let arrival = |id: &i64| Arrival {
        delivery: format!("x-{id}-crm"),
        event_id: *id,
        channel: "crm".to_owned(),
        token: token(id),
        process: ProcessId(0),
        received: at(id.unsigned_abs() * 1_000),
        accepted: Some(at(id.unsigned_abs() * 1_000 + 10)),
        refused: None,
    };
    let event = |id: &i64| StoredEvent {
        id: *id,
        token: token(id),
        event_type: "one.written".to_owned(),
        key: Some("k".to_owned()),
        dedup_key: None,
        deliver_at: At::ZERO,
        expires_at: None,
        max_retries: None,
        written: at(id.unsigned_abs()),
        pruned: None,
        pruned_early: false,
    };
    let write = |id: &i64| Write {
        token: token(id),
        dedup_key: None,
        id: Some(*id),
    };
    let life = |slot| Life {
        slot,
        pid: 100 + u32::try_from(slot).unwrap(),
        ended: None,
        last_words: String::new(),
    };
    Evidence {
        entries: Entries {
            transactions: vec![Transaction {
                fate: Fate::Committed,
                writes: ids.iter().map(write).collect(),
            }],
            arrivals: ids.iter().map(arrival).collect(),
            lives: vec![life(0), life(1)],
            ..Entries::default()
        },
        stored: Stored {
            events: ids.iter().map(event).collect(),
            results: ids
                .iter()
                .map(|id| result(*id, Some("delivered"), id.unsigned_abs() * 1_000 + 20))
                .collect(),
            ..Stored::default()
        },
        lease: at(3_000),
    }
}

fn result(event_id: i64, status: Option<&str>, millis: u64) -> StoredResult {
    StoredResult {
        event_id,
        channel: "crm".to_owned(),
        status: status.map(str::to_owned),
        code: None,
        message: None,
        at: at(millis),
    }
}

fn findings(evidence: &Evidence) -> Vec<String> {
    judge(evidence).findings
}

/// The one finding there is.
fn finding(evidence: &Evidence) -> String {
    let mut findings = findings(evidence);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

fn causes(evidence: &Evidence) -> Vec<Cause> {
    let verdict = judge(evidence);
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    verdict.repeats.into_keys().collect()
}

/// The first event comes again, from the other worker.
fn twice() -> Evidence {
    let mut evidence = fine(&[1]);
    let mut again = evidence.entries.arrivals[0].clone();
    again.received = at(6_000);
    again.process = ProcessId(1);
    evidence.entries.arrivals.push(again);
    evidence
}

fn inflict(evidence: &mut Evidence, fault: Fault, from: u64, until: u64) {
    let (from, until) = (at(from), at(until));
    let inflicted = Inflicted { fault, from, until };
    evidence.entries.faults.push(inflicted);
}

fn lapse(evidence: &mut Evidence, millis: u64) {
    let (pid, at) = (100, at(millis));
    evidence.stored.lapses.push(Lapse { pid, at });
}

fn give_reason(evidence: &mut Evidence) {
    let result = &mut evidence.stored.results[0];
    result.status = Some("dead".to_owned());
    result.code = Some("503".to_owned());
    result.message = Some("not now".to_owned());
}
