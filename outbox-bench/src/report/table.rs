//! Tables for terminals and for Markdown.

use super::{Row, Section, Target};
use crate::machine::Machine;
use crate::stats::Spread;
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, Table, TableStyle};
use std::fmt;

const HEADER: [&str; 6] = [
    "what",
    "median (min to max)",
    "against",
    "ratio",
    "target",
    "",
];

pub(super) fn terminal(section: &Section) -> String {
    let mut text = table(UTF8_FULL_CONDENSED, section.rows.iter());
    if let Some(statements) = statements(UTF8_FULL_CONDENSED, section) {
        text += &format!("\n{statements}");
    }
    text
}

pub(super) fn markdown(section: &Section) -> String {
    let mut text = table(ASCII_MARKDOWN, section.rows.iter());
    if let Some(statements) = statements(ASCII_MARKDOWN, section) {
        text += &format!("\n\n{statements}");
    }
    text
}

/// Only rows that have a target.
pub(super) fn targets(sections: &[&Section]) -> String {
    table(ASCII_MARKDOWN, super::with_targets(sections).iter())
}

fn table<'a>(style: TableStyle, rows: impl Iterator<Item = &'a Row>) -> String {
    let mut table = Table::new();
    table.load_style(style).set_header(HEADER);
    for row in rows {
        table.add_row([
            row.what.clone(),
            row.measured.map_or("not measured".to_owned(), |spread| {
                amount(spread, &row.unit)
            }),
            row.baseline
                .as_ref()
                .map_or(String::new(), |(what, baseline)| {
                    format!("{what}: {}", number(baseline.median))
                }),
            row.ratio
                .map_or(String::new(), |ratio| format!("{ratio:.2} ×")),
            target(row),
            row.is_met
                .map_or("", |is_met| if is_met { "met" } else { "MISSED" })
                .to_owned(),
        ]);
    }
    for column in [1, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn target(row: &Row) -> String {
    let unit = if row.is_relative { "×" } else { &row.unit };
    match row.target {
        Some(Target::AtLeast(least)) => format!("≥ {least} {unit}"),
        Some(Target::AtMost(most)) => format!("≤ {most} {unit}"),
        None => String::new(),
    }
}

fn statements(style: TableStyle, section: &Section) -> Option<String> {
    if section.statements.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_style(style).set_header([
        "statement",
        "calls",
        "planning, ms",
        "execution, ms",
        "rows",
    ]);
    for statement in &section.statements {
        table.add_row([
            statement.statement.clone(),
            statement.calls.to_string(),
            number(statement.planning_ms),
            number(statement.execution_ms),
            statement.rows.to_string(),
        ]);
    }
    Some(table.to_string())
}

fn amount(spread: Spread, unit: &str) -> String {
    let Spread {
        median,
        min,
        max,
        count,
    } = spread;
    if count == 1 {
        return format!("{} {unit}", number(median));
    }
    format!(
        "{} {unit} ({} to {})",
        number(median),
        number(min),
        number(max)
    )
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 1_000.0 {
        return format!("{value:.0}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            outbox,
            commit,
            postgresql,
            cores,
            processor,
            memory,
            system,
            date,
            load,
            ..
        } = self;
        let build = if self.optimized {
            ""
        } else {
            " (NOT OPTIMIZED)"
        };
        let (p50, p99) = (self.commit_ms_p50, self.commit_ms_p99);
        write!(
            f,
            "{date}, Outbox {outbox} at {commit}{build}, PostgreSQL {postgresql}, {cores} cores \
             ({processor}), {memory}, {system}; a one-row commit takes {p50:.2} ms (p99 {p99:.2}); \
             load at the start {load}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let numbers = [0.123, 9.5, 42.4, 999.4, 1_000.0, 72_000.0, 1_234_567.0].map(number);
        let expected = ["0.12", "9.50", "42", "999", "1,000", "72,000", "1,234,567"];
        assert_eq!(numbers, expected);
    }
}
