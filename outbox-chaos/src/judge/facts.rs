//! Whether the database holds what was committed, all of it and nothing else.

use super::Case;
use crate::database::StoredEvent;
use crate::journal::{Fate, Transaction};
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    let transactions = &case.evidence.entries.transactions;
    for transaction in transactions {
        check_transaction(case, transaction, findings);
    }
    check_dedup(case, transactions, findings);
    check_ids(case, transactions, findings);
    let known: HashSet<&str> = transactions
        .iter()
        .flat_map(|transaction| &transaction.writes)
        .map(|write| write.token.as_str())
        .collect();
    for token in case.events.keys().filter(|token| !known.contains(*token)) {
        findings.push(format!("{token} is stored, and nobody wrote it"));
    }
    let (rows, tokens) = (case.evidence.stored.events.len(), case.events.len());
    if rows != tokens {
        findings.push(format!(
            "{rows} events are stored for {tokens} that were written"
        ));
    }
}

/// Events with a dedup key may be there in another's place; see [`check_dedup`].
fn check_transaction(case: &Case<'_>, transaction: &Transaction, findings: &mut Vec<String>) {
    let is_stored = |token: &str| case.events.contains_key(token);
    let (plain, deduped): (Vec<_>, Vec<_>) = transaction
        .writes
        .iter()
        .partition(|write| write.dedup_key.is_none());
    let stored = plain.iter().filter(|write| is_stored(&write.token)).count();
    let first = transaction.writes.first().map_or("", |write| &write.token);
    let all = plain.len();
    match transaction.fate {
        Fate::Committed if stored < all => findings.push(format!(
            "LOST: of the transaction that began with {first}, committed, {stored} of {all} \
             events are stored"
        )),
        Fate::Unknown if stored != 0 && stored != all => findings.push(format!(
            "of the transaction that began with {first}, whose commit was cut off, {stored} of \
             {all} events are stored"
        )),
        Fate::RolledBack if stored > 0 || deduped.iter().any(|write| is_stored(&write.token)) => {
            findings.push(format!(
                "of the transaction that began with {first}, rolled back, events are stored"
            ));
        }
        _ => {}
    }
}

fn check_dedup(case: &Case<'_>, transactions: &[Transaction], findings: &mut Vec<String>) {
    let mut committed: BTreeMap<&str, usize> = BTreeMap::new();
    for transaction in transactions {
        let writes = transaction.writes.iter();
        for key in writes.filter_map(|write| write.dedup_key.as_deref()) {
            *committed.entry(key).or_default() += usize::from(transaction.fate == Fate::Committed);
        }
    }
    let mut stored: HashMap<&str, Vec<&StoredEvent>> = HashMap::new();
    for event in &case.evidence.stored.events {
        if let Some(key) = event.dedup_key.as_deref() {
            stored.entry(key).or_default().push(event);
        }
    }
    for (key, times) in committed {
        let events = stored.entry(key).or_default();
        if events.is_empty() && times > 0 {
            findings.push(format!(
                "LOST: dedup key {key} was committed {times} times, and no event has it"
            ));
        }
        events.sort_by_key(|event| event.written);
        for pair in events.windows(2) {
            // Free again once the first is gone.
            if pair[0].pruned.is_none_or(|pruned| pruned > pair[1].written) {
                let (first, second) = (pair[0].id, pair[1].id);
                findings.push(format!(
                    "the events {first} and {second} had the dedup key {key} at the same time"
                ));
            }
        }
    }
}

/// What producers were told is the id of what they wrote, or of what was there in its place.
fn check_ids(case: &Case<'_>, transactions: &[Transaction], findings: &mut Vec<String>) {
    let events = case.evidence.stored.events.iter();
    let by_id: HashMap<i64, &StoredEvent> = events.map(|event| (event.id, event)).collect();
    let committed = transactions
        .iter()
        .filter(|transaction| transaction.fate == Fate::Committed);
    for write in committed.flat_map(|transaction| &transaction.writes) {
        let Some(id) = write.id else { continue };
        let is_right = by_id.get(&id).is_some_and(|event| {
            let is_same_key = event.dedup_key.is_some() && event.dedup_key == write.dedup_key;
            event.token == write.token || is_same_key
        });
        if !is_right {
            let token = &write.token;
            findings.push(format!(
                "the producer of {token} was told {id}, which is not its event"
            ));
        }
    }
}
