//! What commands print: reports on standard output, logs on standard error.

use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::Write;
use tracing_subscriber::EnvFilter;

/// Logs go to standard error, from `level` on unless `RUST_LOG` says otherwise.
pub(crate) fn start_logging(level: &str) {
    // Set to nothing counts as not set, as with every other variable.
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = Some(wanted)
        .filter(|wanted| !wanted.is_empty())
        .and_then(|wanted| EnvFilter::try_new(wanted).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_target(false)
        .init();
}

/// A line on standard output. A reader that has gone away is not an error of ours.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A line on standard error, beside the logs.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One JSON document.
pub(crate) fn json(report: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(report)?);
    Ok(())
}

/// A table with a header, or a sentence when there are no rows.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    when_empty: &str,
) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    let mut is_empty = true;
    for row in rows {
        table.add_row(row);
        is_empty = false;
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if is_empty {
        line(when_empty);
    } else {
        line(table.trim_fmt());
    }
}
