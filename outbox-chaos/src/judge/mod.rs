//! The verdict: pure functions of what the ledger and the database say.

mod delivery;
mod duplicates;
mod facts;
mod held;
mod operations;
mod order;
mod retention;
#[cfg(test)]
mod tests;
mod timing;

pub(crate) use duplicates::Cause;

use crate::database::{Hold, Stored, StoredEvent, StoredResult};
use crate::fault::{Damage, Fault, Link, Trouble};
use crate::journal::{Arrival, At, End, Entries, Life, ProcessId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// All that there is to judge by.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) entries: Entries,
    pub(crate) stored: Stored,
    pub(crate) lease: Duration,
}

/// What came out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// What should not be, each in a sentence.
    pub(crate) findings: Vec<String>,
    /// Repeated arrivals, by what explains each.
    pub(crate) repeats: BTreeMap<Cause, usize>,
}

pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let case = Case::new(evidence);
    let mut verdict = Verdict {
        findings: evidence.entries.wrongs.clone(),
        ..Verdict::default()
    };
    check_ends(&case, &mut verdict.findings);
    facts::check(&case, &mut verdict.findings);
    delivery::check(&case, &mut verdict.findings);
    duplicates::check(&case, &mut verdict);
    order::check(&case, &mut verdict.findings);
    timing::check(&case, &mut verdict.findings);
    held::check(&case, &mut verdict.findings);
    operations::check(&case, &mut verdict.findings);
    retention::check(&case, &mut verdict.findings);
    verdict
}

/// How far apart the moments of one machine's clocks may be.
const CLOCKS: Duration = Duration::from_millis(50);

/// A worker that has a lease does not end unless it is asked to.
fn check_ends(case: &Case<'_>, findings: &mut Vec<String>) {
    for life in &case.evidence.entries.lives {
        let mut lapses = case.evidence.stored.lapses.iter();
        let ended_by_itself = matches!(life.ended, Some((_, End::ByItself)));
        if ended_by_itself && lapses.any(|lapse| lapse.pid == life.pid) {
            let (slot, words) = (life.slot, &life.last_words);
            findings.push(format!(
                "worker {slot} ended by itself; its last words: {words}"
            ));
        }
    }
}

/// The evidence, sorted.
struct Case<'a> {
    evidence: &'a Evidence,
    /// By token.
    events: HashMap<&'a str, &'a StoredEvent>,
    /// By event and channel, in the order in which they came.
    results: HashMap<(i64, &'a str), Vec<&'a StoredResult>>,
    /// By event and channel, in the order in which they came.
    holds: HashMap<(i64, &'a str), Vec<&'a Hold>>,
    /// By event and channel, in the order of arrival.
    arrivals: BTreeMap<(i64, &'a str), Vec<&'a Arrival>>,
}

impl<'a> Case<'a> {
    fn new(evidence: &'a Evidence) -> Self {
        let mut arrivals: BTreeMap<_, Vec<&Arrival>> = BTreeMap::new();
        for arrival in &evidence.entries.arrivals {
            let delivery = (arrival.event_id, arrival.channel.as_str());
            arrivals.entry(delivery).or_default().push(arrival);
        }
        for arrivals in arrivals.values_mut() {
            arrivals.sort_by_key(|arrival| arrival.received);
        }
        let events = evidence.stored.events.iter();
        let mut results: HashMap<_, Vec<&StoredResult>> = HashMap::new();
        for result in &evidence.stored.results {
            let delivery = (result.event_id, result.channel.as_str());
            results.entry(delivery).or_default().push(result);
        }
        let mut holds: HashMap<_, Vec<&Hold>> = HashMap::new();
        for hold in &evidence.stored.holds {
            let delivery = (hold.event_id, hold.channel.as_str());
            holds.entry(delivery).or_default().push(hold);
        }
        Self {
            evidence,
            results,
            holds,
            events: events.map(|event| (event.token.as_str(), event)).collect(),
            arrivals,
        }
    }

    fn arrivals(&self, event_id: i64, channel: &'a str) -> &[&'a Arrival] {
        self.arrivals
            .get(&(event_id, channel))
            .map_or(&[], Vec::as_slice)
    }

    fn life(&self, process: ProcessId) -> Option<&'a Life> {
        self.evidence.entries.lives.get(process.0)
    }

    /// What became of a delivery, from first to last; of an event that was settled before it was
    /// routed, what became of the event.
    fn results(&self, event_id: i64, channel: &'a str) -> &[&'a StoredResult] {
        let of = |channel| self.results.get(&(event_id, channel)).map(Vec::as_slice);
        of(channel).or_else(|| of("")).unwrap_or_default()
    }

    /// When a delivery that had been given up, or was held, was made again by an operator.
    fn replays(&self, event_id: i64, channel: &'a str) -> impl Iterator<Item = At> {
        let taken_back = self.results(event_id, channel).iter();
        let taken_back = taken_back.filter(|result| result.status.is_none());
        let holds = self.holds.get(&(event_id, channel));
        let released = holds.into_iter().flatten().filter(|hold| !hold.is_held);
        taken_back
            .map(|result| result.at)
            .chain(released.map(|hold| hold.at))
    }

    /// Whether worker process `pid` lost its lease at some time from `from` to `until`.
    fn has_lapsed(&self, pid: u32, from: At, until: At) -> bool {
        let mut lapses = self.evidence.stored.lapses.iter();
        lapses.any(|lapse| lapse.pid == pid && (from..=until).contains(&lapse.at))
    }

    /// Whether any fault that `is_it` holds for was at work at some time from `from` to `until`.
    fn was_inflicted(&self, from: At, until: At, is_it: impl Fn(Fault) -> bool) -> bool {
        self.evidence.entries.faults.iter().any(|inflicted| {
            inflicted.from <= until && inflicted.until >= from && is_it(inflicted.fault)
        })
    }
}

/// Whether it keeps worker `slot` from the database for a while. A connection that is closed does
/// not: there is another at once.
fn is_between_database_and(slot: usize) -> impl Fn(Fault) -> bool {
    move |fault| match fault {
        Fault::Server(trouble) => trouble != Trouble::Disconnect,
        Fault::Pause(it) => it == slot,
        Fault::Damage(Link::Database(it), damage) => {
            it == slot && !matches!(damage, Damage::Cut | Damage::HalfClose(_))
        }
        _ => false,
    }
}

/// Whether it can lose or delay what worker `slot` sends, or the answer.
fn is_between_receiver_and(slot: usize) -> impl Fn(Fault) -> bool {
    move |fault| match fault {
        Fault::Pause(it) => it == slot,
        // Refusing hurts only what has not been sent.
        Fault::Damage(Link::Provider(it), damage) => it == slot && damage != Damage::Refuse,
        _ => false,
    }
}
