//! `outbox enqueue --batch`: a file of JSON lines in one transaction.

use super::{MAX_PAYLOAD, is_refused, refusal};
use crate::failure::Failure;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use outbox_store::{NewEvent, Store, enqueue, enqueue_many};
use sqlx::{Acquire, PgTransaction};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

/// Events per statement, and bytes: whichever comes first.
const EVENTS: usize = 1_000;
const BYTES: usize = 4 << 20;

/// The lines of a file that hold something, with their numbers.
pub(super) struct Lines {
    name: String,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    progress: ProgressBar,
}

/// `-` is standard input.
pub(super) fn open(path: &Path) -> Result<Lines, Failure> {
    let (name, size, reader): (_, _, Box<dyn Read + Send>) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), 0, Box::new(std::io::stdin()))
    } else {
        let file = super::open(path)?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        (path.display().to_string(), size, Box::new(file))
    };
    Ok(Lines {
        name,
        reader: Box::new(BufReader::new(reader)),
        number: 0,
        progress: progress(size),
    })
}

impl Lines {
    /// The next event, with the number of its line and its length in bytes.
    fn next(&mut self) -> Result<Option<(u64, usize, NewEvent)>, Failure> {
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut self.reader).take(MAX_PAYLOAD + 1);
            let length = bounded
                .read_until(b'\n', &mut line)
                .with_context(|| format!("{} cannot be read", self.name))?;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.progress.inc(length as u64);
            if line.trim_ascii().is_empty() {
                continue;
            }
            if length as u64 > MAX_PAYLOAD {
                let problem = format!("longer than {} MiB", MAX_PAYLOAD >> 20);
                return Err(self.refuse(self.number, &problem));
            }
            let event = serde_json::from_slice(&line).map_err(|error| {
                // Each line is a document of its own: its only line is line 1.
                let problem = error
                    .to_string()
                    .replace(" at line 1 column ", " at column ");
                self.refuse(self.number, &problem)
            })?;
            return Ok(Some((self.number, length, event)));
        }
    }

    fn place(&self, line: u64) -> String {
        format!("{} line {line}", self.name)
    }

    fn refuse(&self, line: u64, problem: &str) -> Failure {
        let place = self.place(line);
        Failure::Usage(format!("{place}: {problem}; no event was written"))
    }
}

/// Writes all events or none, and returns how many.
pub(super) async fn write(store: &Store, mut lines: Lines) -> Result<u64, Failure> {
    let mut transaction = store
        .pool()
        .begin()
        .await
        .context("no transaction could be begun")?;
    let mut batch = Batch::default();
    let mut written = 0;
    while let Some((line, bytes, event)) = lines.next()? {
        batch.lines.push(line);
        batch.events.push(event);
        batch.bytes += bytes;
        if batch.events.len() >= EVENTS || batch.bytes >= BYTES {
            written += batch.flush(&mut transaction, &lines).await?;
        }
    }
    written += batch.flush(&mut transaction, &lines).await?;
    transaction
        .commit()
        .await
        .context("the transaction could not be committed")?;
    lines.progress.finish_and_clear();
    Ok(written)
}

/// What goes into one statement.
#[derive(Default)]
struct Batch {
    events: Vec<NewEvent>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    async fn flush(
        &mut self,
        transaction: &mut PgTransaction<'_>,
        lines: &Lines,
    ) -> Result<u64, Failure> {
        let batch = std::mem::take(self);
        let mut attempt = begin(transaction).await?;
        match enqueue_many(&mut *attempt, &batch.events).await {
            Ok(_) => attempt.commit().await.context("no event was written")?,
            Err(error) if is_refused(&error) => {
                attempt.rollback().await.context("no event was written")?;
                return Err(batch.find_refused(transaction, lines, error).await?);
            }
            Err(error) => return Err(refusal(error, "no event was written")),
        }
        Ok(batch.events.len() as u64)
    }

    /// The database does not say which of many it refused, so they are tried one by one.
    async fn find_refused(
        self,
        transaction: &mut PgTransaction<'_>,
        lines: &Lines,
        refused: outbox_store::EnqueueError,
    ) -> Result<Failure, Failure> {
        for (event, line) in self.events.iter().zip(self.lines) {
            let mut attempt = begin(transaction).await?;
            if let Err(error) = enqueue(&mut *attempt, event).await {
                let place = format!("no event was written: {}", lines.place(line));
                return Ok(refusal(error, &place));
            }
        }
        Ok(refusal(refused, "no event was written"))
    }
}

/// A savepoint: what fails inside leaves the transaction usable.
async fn begin<'t>(transaction: &'t mut PgTransaction<'_>) -> Result<PgTransaction<'t>, Failure> {
    let savepoint = transaction.begin().await;
    Ok(savepoint.context("no event was written")?)
}

fn progress(bytes: u64) -> ProgressBar {
    if bytes == 0 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {percent} % {eta} left");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
