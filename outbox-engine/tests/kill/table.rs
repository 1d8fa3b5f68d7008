//! What a crash at each point leads to, as `docs/guarantees.md` has it.

use crate::scene::Kind;
use crate::verdict::Fate;
use outbox_store::fault::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A row of the table: a point at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// The step's place among all.
    pub(crate) number: usize,
    pub(crate) is_after: bool,
}

impl Row {
    pub(crate) fn step(self) -> Step {
        Step::ALL[self.number]
    }

    pub(crate) fn point(self) -> String {
        let side = if self.is_after { "after" } else { "before" };
        format!("{}.{side}", self.step().name())
    }
}

/// What one run showed.
pub(crate) struct Entry {
    pub(crate) row: Row,
    pub(crate) kind: Kind,
    pub(crate) fates: Vec<Fate>,
}

const BEGIN: &str = "<!-- from the runs of outbox-engine/tests/kill, begin -->\n";
const END: &str = "<!-- from the runs of outbox-engine/tests/kill, end -->\n";
const SEPARATOR: &str = " · ";
/// Set to write the table instead of comparing it.
const WRITE: &str = "OUTBOX_WRITE_DOCS";

/// What is told in a column of its own: how events wait for each other, and what the channel does
/// when nobody knows.
fn column(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Fan
        | Kind::Large
        | Kind::Broken
        | Kind::Slow
        | Kind::Idle
        | Kind::Old
        | Kind::Replay => Some(0),
        Kind::Keyed | Kind::Orphan | Kind::Cancel => Some(1),
        Kind::Hold | Kind::Confirm => Some(2),
        Kind::Verify | Kind::Asked => Some(3),
        // How many of them have been sent when one is settled is left to chance.
        Kind::Run => None,
    }
}

fn cell(entries: &[&Entry]) -> String {
    let fates: BTreeSet<Fate> = entries.iter().flat_map(|e| &e.fates).copied().collect();
    let words = fates.iter().map(|fate| match fate {
        Fate::Once => "once",
        Fate::Twice => "**twice**",
        Fate::Held => "held, had arrived",
        Fate::HeldUnsent => "held, had not been sent",
        Fate::Cancelled => "cancelled",
        Fate::Dead => "still failed",
        Fate::Lost => "**lost**",
    });
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        "–".to_owned()
    } else {
        words.join(SEPARATOR)
    }
}

const HEAD: &str = "| a crash | lost | `retry`, no key | `retry`, with a key | `hold` | `verify` |\n\
                    |---|---|---|---|---|---|\n";

fn render(row: Row, entries: &[Entry]) -> String {
    let fates = entries.iter().flat_map(|run| &run.fates);
    let lost = fates.filter(|fate| **fate == Fate::Lost).count();
    let mut line = format!("| `{}` | {lost} |", row.point());
    for at in 0..4 {
        let of_column = entries.iter().filter(|run| column(run.kind) == Some(at));
        write!(line, " {} |", cell(&of_column.collect::<Vec<_>>())).unwrap();
    }
    line.push('\n');
    line
}

/// The table in the docs, and what the runs have shown.
pub(crate) struct Docs {
    path: PathBuf,
    head: String,
    told: String,
    tail: String,
    shown: BTreeMap<Row, String>,
}

impl Docs {
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guarantees.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once(BEGIN).expect("where the table begins");
        let (told, tail) = rest.split_once(END).expect("where the table ends");
        Self {
            path,
            head: head.to_owned(),
            told: told.to_owned(),
            tail: tail.to_owned(),
            shown: BTreeMap::new(),
        }
    }

    /// What rows have shown, in place of what they showed before.
    pub(crate) fn show(&mut self, entries: Vec<Entry>) {
        let mut rows: BTreeMap<Row, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            let (point, kind, fates) = (entry.row.point(), entry.kind, &entry.fates);
            assert!(!fates.contains(&Fate::Lost), "{point} {kind:?} {fates:?}");
            rows.entry(entry.row).or_default().push(entry);
        }
        for (row, entries) in rows {
            self.shown.insert(row, render(row, &entries));
        }
    }

    /// The rows that the docs tell otherwise. On a machine that stands still for half a second
    /// a worker settles one channel of an event before the other has been tried, or loses its
    /// breath elsewhere, and a run shows something else: so they are played once more.
    pub(crate) fn differing(&self) -> Vec<Row> {
        if std::env::var_os(WRITE).is_some() {
            let (head, tail, table) = (&self.head, &self.tail, self.table());
            std::fs::write(&self.path, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
            return Vec::new();
        }
        let rows = self.shown.iter();
        let differing = rows.filter(|(_, line)| !self.told.contains(line.as_str()));
        let rows: Vec<Row> = differing.map(|(row, _)| *row).collect();
        if rows.is_empty() {
            // The same rows, and no other.
            assert_eq!(self.told, self.table());
        }
        rows
    }

    pub(crate) fn fail(&self) -> ! {
        panic!(
            "the table in docs/guarantees.md is not what the runs show: if it should be, run this \
             test with {WRITE}=1\n{}",
            self.table()
        );
    }

    fn table(&self) -> String {
        let rows = self.shown.values().map(String::as_str);
        std::iter::once(HEAD).chain(rows).collect()
    }
}
