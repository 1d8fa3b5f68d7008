//! What a run amounted to.

use crate::database::Stored;
use crate::journal::{Answer, Deed, End, Entries, Fate, Operation};
use crate::judge::{Cause, Verdict};
use crate::options::Options;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The counts of a run, and what was found.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What decided the run.
    pub seed: u64,
    /// How long faults and traffic lasted, in seconds.
    pub duration: f64,
    /// Events by what their producer knows: `committed`, `rolled_back`, `unknown`.
    pub written: BTreeMap<&'static str, usize>,
    /// Events that were stored.
    pub events: usize,
    /// Of these, those that retention has removed.
    pub pruned: usize,
    /// Results by status; what was given up with its code: `dead: 503`.
    pub results: BTreeMap<String, usize>,
    /// Requests that reached the receiver.
    pub arrivals: usize,
    /// Repeated arrivals by cause.
    repeats: BTreeMap<Cause, usize>,
    /// How often a delivery was held for a human, by channel.
    pub held: BTreeMap<String, usize>,
    /// What operators asked for, by what the answer was: `cancel: in flight`.
    pub operations: BTreeMap<String, usize>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Worker processes by how they ended.
    pub processes: BTreeMap<&'static str, usize>,
    /// Seconds from the last fault until the queue was empty; `None`: it never was.
    pub drained_in: Option<f64>,
    /// What should not be. Empty: the guarantees held.
    pub findings: Vec<String>,
    /// Kinds of faults that cannot be made here, each with the reason.
    pub left_out: Vec<String>,
    /// The command that repeats the run.
    pub again: String,
    /// Where the logs are, if they are kept.
    pub logs: Option<PathBuf>,
    /// Where the database's data are, if they are kept.
    pub database: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(
        seed: u64,
        options: &Options,
        drained_in: Option<Duration>,
        (entries, stored): (&Entries, &Stored),
        verdict: Verdict,
    ) -> Self {
        let ends = entries.lives.iter().map(|life| match life.ended {
            Some((_, End::Killed)) => "killed",
            Some((_, End::Terminated)) => "terminated",
            Some((_, End::NotStarted | End::ByItself)) => "could not start",
            None => "still there",
        });
        let held = stored.holds.iter().filter(|hold| hold.is_held);
        Self {
            seed,
            duration: options.duration.as_secs_f64(),
            written: written(entries),
            events: stored.events.len(),
            pruned: stored
                .events
                .iter()
                .filter(|event| event.pruned.is_some())
                .count(),
            results: results(stored),
            arrivals: entries.arrivals.len(),
            repeats: verdict.repeats,
            held: count(held.map(|hold| hold.channel.clone())),
            operations: count(entries.operations.iter().map(operation)),
            faults: count(entries.faults.iter().map(|fault| fault.fault.kind())),
            processes: count(ends),
            drained_in: drained_in.map(|time| time.as_secs_f64()),
            findings: verdict.findings,
            left_out: Vec::new(),
            again: options.again(seed),
            logs: None,
            database: None,
        }
    }

    pub(crate) fn with_logs(self, logs: Option<PathBuf>) -> Self {
        Self { logs, ..self }
    }

    pub(crate) fn with_database(self, database: Option<PathBuf>) -> Self {
        Self { database, ..self }
    }

    /// Whether all guarantees held.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What became of each delivery in the end; how often it was made again is counted as `replayed`.
fn results(stored: &Stored) -> BTreeMap<String, usize> {
    let last: BTreeMap<_, _> = stored
        .results
        .iter()
        .map(|result| ((result.event_id, &result.channel), result))
        .collect();
    let mut counts =
        count(
            last.into_values()
                .map(|result| match (result.status.as_deref(), &result.code) {
                    (Some(status @ "dead"), Some(code)) => format!("{status}: {code}"),
                    (Some("delivered"), Some(code)) => format!("delivered: {code}"),
                    (status, _) => status.unwrap_or("none").to_owned(),
                }),
        );
    let replayed = stored
        .results
        .iter()
        .filter(|result| result.status.is_none());
    counts.insert("replayed".to_owned(), replayed.count());
    counts
}

fn operation(operation: &Operation) -> String {
    let deed = match operation.deed {
        Deed::Cancel(_) => "cancel",
        Deed::Replay(..) => "replay held",
        Deed::ReplayFailed => "replay failed",
        Deed::Delivered(..) => "delivered",
        Deed::Pause(_) => "pause",
        Deed::Resume(_) => "resume",
        Deed::Prune => "prune",
    };
    let answer = match operation.answer {
        Answer::Done => "done",
        Answer::InFlight => "in flight",
        Answer::NothingToDo => "nothing to do",
        Answer::Unknown => "unknown",
    };
    format!("{deed}: {answer}")
}

fn written(entries: &Entries) -> BTreeMap<&'static str, usize> {
    let mut written = BTreeMap::new();
    for transaction in &entries.transactions {
        let fate = match transaction.fate {
            Fate::Committed => "committed",
            Fate::RolledBack => "rolled_back",
            Fate::Unknown => "unknown",
        };
        *written.entry(fate).or_default() += transaction.writes.len();
    }
    written
}

fn count<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}

/// More findings than these say the same.
const SHOWN: usize = 30;

fn list<N: fmt::Display>(counts: &BTreeMap<N, usize>) -> String {
    let named = counts.iter().map(|(name, n)| format!("{n} {name}"));
    match counts.is_empty() {
        true => "none".to_owned(),
        false => named.collect::<Vec<_>>().join(", "),
    }
}

impl Report {
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "WRONG      {finding}")?;
        }
        if self.findings.len() > SHOWN {
            writeln!(f, "WRONG      and {} more", self.findings.len() - SHOWN)?;
        }
        if let Some(logs) = &self.logs {
            writeln!(f, "logs       {}", logs.display())?;
        }
        if let Some(database) = &self.database {
            writeln!(f, "database   {}", database.display())?;
        }
        if self.is_fine() {
            return f.write_str("all guarantees held");
        }
        writeln!(f, "again      {}", self.again)?;
        let findings = self.findings.len();
        write!(f, "FAILED: {findings} findings, seed {}", self.seed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed       {}", self.seed)?;
        writeln!(f, "duration   {:.0} s", self.duration)?;
        writeln!(f, "written    {}", list(&self.written))?;
        writeln!(
            f,
            "stored     {} events, {} of them pruned",
            self.events, self.pruned
        )?;
        writeln!(f, "results    {}", list(&self.results))?;
        writeln!(f, "arrivals   {}", self.arrivals)?;
        writeln!(f, "repeated   {}", list(&self.repeats))?;
        writeln!(f, "held       {}", list(&self.held))?;
        writeln!(f, "operators  {}", list(&self.operations))?;
        writeln!(f, "faults     {}", list(&self.faults))?;
        for left_out in &self.left_out {
            writeln!(f, "left out   {left_out}")?;
        }
        writeln!(f, "processes  {}", list(&self.processes))?;
        match self.drained_in {
            Some(time) => writeln!(f, "drained    in {time:.1} s")?,
            None => writeln!(f, "drained    not in time")?,
        }
        self.write_verdict(f)
    }
}
