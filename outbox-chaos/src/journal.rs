//! The ledger outside the system: what was written, what arrived, what was broken, when.

use crate::fault::Fault;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A moment, as time since the run began.
pub(crate) type At = Duration;

/// One event that a producer wrote. The token is in its payload: ids are no identity, since a
/// crash of the database can give the id of what was rolled back to somebody else.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) token: String,
    pub(crate) dedup_key: Option<String>,
    /// What the producer was told: with a dedup key, another's event may have it.
    pub(crate) id: Option<i64>,
}

/// What became of a producer's transaction, as the producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    RolledBack,
    /// The connection broke during the commit.
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) fate: Fate,
    pub(crate) writes: Vec<Write>,
}

/// One start of a worker, counted over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessId(pub(crate) usize);

/// One request that the receiver has read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The `webhook-id`.
    pub(crate) delivery: String,
    pub(crate) event_id: i64,
    pub(crate) channel: String,
    pub(crate) token: String,
    pub(crate) process: ProcessId,
    pub(crate) received: At,
    /// When a whole 2xx answer was given to the connection; never for what was refused, torn,
    /// left without an answer, or abandoned by the sender.
    pub(crate) accepted: Option<At>,
    /// A whole answer that says no was given.
    pub(crate) refused: Option<Refusal>,
}

/// How the receiver says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotNow,
    ForGood,
}

/// What an operator asks for, by the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Cancel(i64),
    /// Held deliveries of a channel.
    Replay(&'static str, Vec<i64>),
    /// All dead letters.
    ReplayFailed,
    /// Held deliveries of a channel, which have arrived.
    Delivered(&'static str, Vec<i64>),
    Pause(&'static str),
    Resume(&'static str),
    Prune,
}

/// What the command answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Done,
    /// Of some of it, or of all: a worker has it.
    InFlight,
    NothingToDo,
    /// It failed, or did not end: nobody knows whether it was done, or is yet to be.
    Unknown,
}

/// One command of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) deed: Deed,
    pub(crate) from: At,
    pub(crate) until: At,
    pub(crate) answer: Answer,
}

/// What was done to the system, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Inflicted {
    pub(crate) fault: Fault,
    pub(crate) from: At,
    pub(crate) until: At,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    Terminated,
    /// Before it had begun to work: there was no database, as a rule.
    NotStarted,
    /// Nobody asked it to. That is fine for one that never had a lease: it could not start.
    ByItself,
}

/// One process of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) slot: usize,
    pub(crate) pid: u32,
    pub(crate) ended: Option<(At, End)>,
    /// The last line of its log.
    pub(crate) last_words: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) faults: Vec<Inflicted>,
    /// By [`ProcessId`].
    pub(crate) lives: Vec<Life>,
    /// What was seen to be wrong while it happened.
    pub(crate) wrongs: Vec<String>,
}

impl Entries {
    /// For people who look for the cause of what was found; one entry a line.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fn all(out: &mut impl io::Write, entries: &[impl fmt::Debug]) -> io::Result<()> {
            let mut entries = entries.iter();
            entries.try_for_each(|entry| writeln!(out, "{entry:?}"))
        }
        let mut out = BufWriter::new(File::create(path)?);
        all(&mut out, &self.transactions)?;
        all(&mut out, &self.arrivals)?;
        all(&mut out, &self.operations)?;
        all(&mut out, &self.faults)?;
        all(&mut out, &self.lives)?;
        all(&mut out, &self.wrongs)?;
        out.flush()
    }
}

/// Written by all parts of the run.
#[derive(Debug)]
pub(crate) struct Journal {
    begun: (Instant, SystemTime),
    entries: Mutex<Entries>,
}

impl Journal {
    pub(crate) fn begin() -> Self {
        Self {
            begun: (Instant::now(), SystemTime::now()),
            entries: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> At {
        self.begun.0.elapsed()
    }

    /// What the database's clock tells, which is this machine's; the beginning for what was
    /// before it.
    pub(crate) fn at(&self, time: SystemTime) -> At {
        time.duration_since(self.begun.1).unwrap_or_default()
    }

    pub(crate) fn wrote(&self, transaction: Transaction) {
        self.entries().transactions.push(transaction);
    }

    /// Returns the place to give to [`accepted`](Self::accepted).
    pub(crate) fn arrived(&self, arrival: Arrival) -> usize {
        let mut entries = self.entries();
        entries.arrivals.push(arrival);
        entries.arrivals.len() - 1
    }

    pub(crate) fn accepted(&self, place: usize) {
        let now = self.now();
        if let Some(arrival) = self.entries().arrivals.get_mut(place) {
            arrival.accepted = Some(now);
        }
    }

    pub(crate) fn refused(&self, place: usize, refusal: Refusal) {
        if let Some(arrival) = self.entries().arrivals.get_mut(place) {
            arrival.refused = Some(refusal);
        }
    }

    pub(crate) fn operated(&self, operation: Operation) {
        self.entries().operations.push(operation);
    }

    pub(crate) fn inflicted(&self, fault: Fault, from: At, until: At) {
        let inflicted = Inflicted { fault, from, until };
        self.entries().faults.push(inflicted);
    }

    pub(crate) fn starts(&self, slot: usize) -> ProcessId {
        let mut entries = self.entries();
        entries.lives.push(Life {
            slot,
            pid: 0,
            ended: None,
            last_words: String::new(),
        });
        ProcessId(entries.lives.len() - 1)
    }

    pub(crate) fn started(&self, process: ProcessId, pid: u32) {
        if let Some(life) = self.entries().lives.get_mut(process.0) {
            life.pid = pid;
        }
    }

    pub(crate) fn ended(&self, process: ProcessId, end: End, last_words: String) {
        let now = self.now();
        if let Some(life) = self.entries().lives.get_mut(process.0) {
            life.ended = Some((now, end));
            life.last_words = last_words;
        }
    }

    pub(crate) fn wrong(&self, what: String) {
        self.entries().wrongs.push(what);
    }

    /// The ids of events that were committed lately, and so many transactions ago at most.
    pub(crate) fn recent(&self, transactions: usize) -> Vec<i64> {
        let entries = self.entries();
        let latest = entries.transactions.iter().rev().take(transactions);
        let committed = latest.filter(|transaction| transaction.fate == Fate::Committed);
        let writes = committed.flat_map(|transaction| &transaction.writes);
        writes.filter_map(|write| write.id).collect()
    }

    /// Which of these events the receiver has accepted through `channel`.
    pub(crate) fn have_arrived(&self, channel: &str, ids: &[i64]) -> HashSet<i64> {
        let entries = self.entries();
        let accepted = entries.arrivals.iter().filter(|arrival| {
            arrival.accepted.is_some()
                && arrival.channel == channel
                && ids.contains(&arrival.event_id)
        });
        accepted.map(|arrival| arrival.event_id).collect()
    }

    /// The pids of those that have not ended.
    pub(crate) fn living(&self) -> Vec<u32> {
        let entries = self.entries();
        let living = entries.lives.iter().filter(|life| life.ended.is_none());
        living.map(|life| life.pid).collect()
    }

    /// All that has been written down.
    pub(crate) fn read(&self) -> Entries {
        self.entries().clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
