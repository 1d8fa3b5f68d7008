//! Whether the database holds what was committed, all of it and nothing else.

use super::Case;
use crate::journal::{Fate, Transaction};
use std::collections::{BTreeMap, HashMap, HashSet};

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    let transactions = &case.evidence.entries.transactions;
    for transaction in transactions {
        check_transaction(case, transaction, findings);
    }
    check_dedup(case, transactions, findings);
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
    let mut stored: HashMap<&str, usize> = HashMap::new();
    let events = case.evidence.stored.events.iter();
    for key in events.filter_map(|event| event.dedup_key.as_deref()) {
        *stored.entry(key).or_default() += 1;
    }
    for (key, times) in committed {
        match stored.get(key).copied().unwrap_or_default() {
            0 if times > 0 => findings.push(format!(
                "LOST: dedup key {key} was committed {times} times, and no event has it"
            )),
            0 | 1 => {}
            events => findings.push(format!("{events} events have the dedup key {key}")),
        }
    }
}
