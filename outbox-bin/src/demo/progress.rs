//! What is going on, live: a line that moves on a terminal, plain lines elsewhere.

use crate::failure::Failure;
use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use outbox_store::Store;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    last_line: Option<Instant>,
}

impl Progress {
    const LINE_EVERY: Duration = Duration::from_secs(1);

    /// `is_quiet`: nothing but the report is wanted.
    pub(super) fn start(is_quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !is_quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            is_quiet,
            last_line: None,
        }
    }

    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.is_quiet => {}
            None => output::note(text),
        }
    }

    /// Shows how far it has come, and returns how many rows are left to deliver.
    pub(super) async fn show(
        &mut self,
        store: &Store,
        written: u64,
        total: Option<u32>,
    ) -> Result<i64, Failure> {
        let backlog = store.backlog().await?;
        let count = |part: fn(&outbox_store::Backlog) -> i64| backlog.iter().map(part).sum::<i64>();
        let retrying = count(|lane| lane.retrying);
        let left = count(|lane| lane.due + lane.scheduled + lane.leased + lane.held) + retrying;
        let settled = store.settled().await?;
        let of = |status: &str| -> i64 {
            settled
                .iter()
                .filter(|row| row.status == status)
                .map(|row| row.count)
                .sum()
        };
        let of_total = total
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        let text = format!(
            "{written}{of_total} events written, {left} left ({retrying} to be tried again); \
             {} deliveries made, {} given up",
            of("delivered"),
            of("dead"),
        );
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        } else if !self.is_quiet && self.is_time_for_a_line() {
            output::note(text);
        }
        Ok(left)
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn is_time_for_a_line(&mut self) -> bool {
        let is_time = self
            .last_line
            .is_none_or(|last| last.elapsed() >= Self::LINE_EVERY);
        if is_time {
            self.last_line = Some(Instant::now());
        }
        is_time
    }
}
