//! What a crash at each point leads to, as `docs/guarantees.md` has it.

use crate::scene::Kind;
use crate::verdict::Fate;
use outbox_store::fault::Step;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// What one run showed.
pub(crate) struct Entry {
    /// The step's place among all.
    pub(crate) number: usize,
    pub(crate) step: Step,
    pub(crate) side: &'static str,
    pub(crate) kind: Kind,
    pub(crate) pass: u32,
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
        Kind::Fan | Kind::Broken | Kind::Slow | Kind::Idle => Some(0),
        Kind::Keyed | Kind::Orphan => Some(1),
        Kind::Hold => Some(2),
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
        Fate::Lost => "**lost**",
    });
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        "–".to_owned()
    } else {
        words.join(SEPARATOR)
    }
}

fn render(entries: &[Entry]) -> String {
    let mut table = String::from(
        "| a crash | lost | `retry`, no key | `retry`, with a key | `hold` | `verify` |\n\
         |---|---|---|---|---|---|\n",
    );
    for (number, step) in Step::ALL.iter().enumerate() {
        for side in ["before", "after"] {
            let runs = entries
                .iter()
                .filter(|e| (e.number, e.side) == (number, side));
            let runs: Vec<&Entry> = runs.collect();
            let fates = runs.iter().flat_map(|run| &run.fates);
            let lost = fates.filter(|fate| **fate == Fate::Lost).count();
            write!(table, "| `{}.{side}` | {lost} |", step.name()).unwrap();
            for at in 0..4 {
                let of_column = runs.iter().filter(|run| column(run.kind) == Some(at));
                write!(
                    table,
                    " {} |",
                    cell(&of_column.copied().collect::<Vec<_>>())
                )
                .unwrap();
            }
            table.push('\n');
        }
    }
    table
}

/// Compares the runs' table with the one in the docs.
pub(crate) fn check(entries: &[Entry]) {
    for entry in entries {
        let (step, side, pass) = (entry.step.name(), entry.side, entry.pass);
        let (kind, fates) = (entry.kind, &entry.fates);
        assert!(
            !fates.contains(&Fate::Lost),
            "{step}.{side}:{pass} {kind:?} {fates:?}"
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guarantees.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (table, tail) = rest.split_once(END).expect("where the table ends");
    let shown = render(entries);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{shown}{END}{tail}")).unwrap();
        return;
    }
    let current = table.lines().count() == shown.lines().count()
        && table
            .lines()
            .zip(shown.lines())
            .all(|(told, seen)| covers(told, seen));
    assert!(
        current,
        "the table in docs/guarantees.md is not current: run this test with {WRITE}=1\n{shown}"
    );
}

/// Whether a row of the docs tells all that was seen. How far a process has come when it dies is
/// partly chance, so it may tell more.
fn covers(told: &str, seen: &str) -> bool {
    let fates = |cell: &str| -> BTreeSet<String> {
        let words = cell.split(SEPARATOR).map(|word| word.trim().to_owned());
        words
            .filter(|word| !word.is_empty() && word != "–")
            .collect()
    };
    let (told, seen) = (told.split('|'), seen.split('|'));
    told.zip(seen)
        .all(|(told, seen)| fates(seen).is_subset(&fates(told)))
}
