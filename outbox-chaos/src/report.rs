//! What a run amounted to.

use crate::database::Stored;
use crate::journal::{End, Entries, Fate};
use crate::judge::{Cause, Verdict};
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
    /// Events that are stored.
    pub events: usize,
    /// Results by status; what was given up with its code: `dead: 503`.
    pub results: BTreeMap<String, usize>,
    /// Requests that reached the receiver.
    pub arrivals: usize,
    /// Repeated arrivals by cause.
    repeats: BTreeMap<Cause, usize>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Worker processes by how they ended.
    pub processes: BTreeMap<&'static str, usize>,
    /// Seconds from the last fault until the queue was empty; `None`: it never was.
    pub drained_in: Option<f64>,
    /// What should not be. Empty: the guarantees held.
    pub findings: Vec<String>,
    /// Where the workers' logs are, if they are kept.
    pub logs: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(
        seed: u64,
        duration: Duration,
        drained_in: Option<Duration>,
        (entries, stored): (&Entries, &Stored),
        verdict: Verdict,
    ) -> Self {
        let results = stored.results.iter().map(|result| match &result.code {
            Some(code) if result.status == "dead" => format!("dead: {code}"),
            _ => result.status.clone(),
        });
        let ends = entries.lives.iter().map(|life| match life.ended {
            Some((_, End::Killed)) => "killed",
            Some((_, End::Terminated)) => "terminated",
            Some((_, End::NotStarted | End::ByItself)) => "could not start",
            None => "still there",
        });
        Self {
            seed,
            duration: duration.as_secs_f64(),
            written: written(entries),
            events: stored.events.len(),
            results: count(results),
            arrivals: entries.arrivals.len(),
            repeats: verdict.repeats,
            faults: count(entries.faults.iter().map(|fault| fault.fault.kind())),
            processes: count(ends),
            drained_in: drained_in.map(|time| time.as_secs_f64()),
            findings: verdict.findings,
            logs: None,
        }
    }

    /// Whether all guarantees held.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.findings.is_empty()
    }
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<String>| match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        };
        let named = |counts: &BTreeMap<&'static str, usize>| {
            list(
                counts
                    .iter()
                    .map(|(name, n)| format!("{n} {name}"))
                    .collect(),
            )
        };
        let results = self.results.iter().map(|(name, n)| format!("{n} {name}"));
        let repeats = self.repeats.iter().map(|(cause, n)| format!("{n} {cause}"));
        writeln!(f, "seed       {}", self.seed)?;
        writeln!(f, "duration   {:.0} s", self.duration)?;
        writeln!(f, "written    {}", named(&self.written))?;
        writeln!(f, "stored     {} events", self.events)?;
        writeln!(f, "results    {}", list(results.collect()))?;
        writeln!(f, "arrivals   {}", self.arrivals)?;
        writeln!(f, "repeated   {}", list(repeats.collect()))?;
        writeln!(f, "faults     {}", named(&self.faults))?;
        writeln!(f, "processes  {}", named(&self.processes))?;
        match self.drained_in {
            Some(time) => writeln!(f, "drained    in {time:.1} s")?,
            None => writeln!(f, "drained    not in time")?,
        }
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "WRONG      {finding}")?;
        }
        if self.findings.len() > SHOWN {
            writeln!(f, "WRONG      and {} more", self.findings.len() - SHOWN)?;
        }
        if let Some(logs) = &self.logs {
            writeln!(f, "logs       {}", logs.display())?;
        }
        if self.is_fine() {
            return f.write_str("all guarantees held");
        }
        write!(
            f,
            "FAILED: {} findings, seed {}",
            self.findings.len(),
            self.seed
        )
    }
}
