//! A run, from an empty database to the verdict.

use crate::database::Database;
use crate::journal::Journal;
use crate::judge::{Evidence, judge};
use crate::operator::Operator;
use crate::options::Options;
use crate::plan::Plan;
use crate::producer::Producer;
use crate::receiver::Receiver;
use crate::recipe::Recipe;
use crate::report::Report;
use crate::system::System;
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PRODUCERS: u64 = 3;

/// Breaks a system for as long as `options` say, and judges. Of a run that fails, the database and
/// the logs are kept.
///
/// # Errors
/// When there could be no run: no PostgreSQL, no `outbox` binary. What the run shows to be wrong
/// is in the report.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let logs = Logs::prepare(options.logs.as_deref())?;
    let run = Run {
        seed,
        options,
        journal: Arc::new(Journal::begin()),
        recipe: Arc::new(Recipe {
            binary: binary(options)?,
            logs: logs.path().to_owned(),
            lease: options.lease,
        }),
        database: Database::start(options.rate * options.duration.as_secs_f64()).await?,
    };
    let outcome = run.go().await;
    if matches!(&outcome, Ok(report) if report.is_fine()) {
        return outcome.map(|report| report.with_logs(logs.keep_if(false)));
    }
    let folder = logs.path().to_owned();
    run.journal.read().write(&folder.join("journal"))?;
    let database = run.database.keep(&folder).await;
    let kept = logs.keep_if(true);
    match outcome {
        Ok(report) => Ok(report.with_logs(kept).with_database(database.ok())),
        Err(error) => {
            let (folder, again) = (folder.display(), options.again(seed));
            Err(error.context(format!("seed {seed}, logs in {folder}, again: {again}")))
        }
    }
}

fn binary(options: &Options) -> anyhow::Result<PathBuf> {
    let path = match &options.outbox_binary {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("outbox-under-test"),
    };
    std::path::absolute(&path)
        .and_then(|path| path.canonicalize())
        .with_context(|| {
            let path = path.display();
            format!("there is no {path}: `cargo build -p outbox-chaos`, or use --outbox-binary")
        })
}

struct Run<'a> {
    seed: u64,
    options: &'a Options,
    journal: Arc<Journal>,
    recipe: Arc<Recipe>,
    database: Database,
}

impl Run<'_> {
    async fn go(&self) -> anyhow::Result<Report> {
        self.recipe.migrate(self.database.address).await?;
        self.database.watch().await?;
        let receiver = Receiver::start(Arc::clone(&self.journal), self.seed).await?;
        let system = System::start(
            Arc::clone(&self.journal),
            Arc::clone(&self.recipe),
            self.database.clone(),
            receiver.address,
            self.options.workers,
        );
        let system = Arc::new(system.await?);
        self.disturb(&system).await?;
        receiver.behave();
        let drained = self.drain().await?;
        self.check_leases().await?;
        if let Some(system) = Arc::into_inner(system) {
            system.stop().await;
        }
        let evidence = Evidence {
            entries: self.journal.read(),
            stored: self.database.read(&self.journal).await?,
            lease: self.options.lease,
        };
        let verdict = judge(&evidence);
        let found = (&evidence.entries, &evidence.stored);
        let mut report = Report::new(self.seed, self.options, drained, found, verdict);
        let reason = self.database.without_disk();
        report
            .left_out
            .extend(reason.map(|reason| format!("disk full: {reason}")));
        Ok(report)
    }

    /// Traffic and faults, for as long as they are to last. When this returns all that was
    /// broken is mended, except for what fell silent.
    async fn disturb(&self, system: &Arc<System>) -> anyhow::Result<()> {
        let done = Arc::new(AtomicBool::new(false));
        let mut producers = JoinSet::new();
        for number in 0..PRODUCERS {
            let producer = Producer {
                number,
                seed: self.seed,
                database: system.producers_address(),
                rate: self.options.rate / PRODUCERS as f64,
                keys: self.options.keys,
                journal: Arc::clone(&self.journal),
                done: Arc::clone(&done),
            };
            producers.spawn(producer.run());
        }
        let operator = || self.operator(Arc::clone(&done));
        let mut operators = JoinSet::new();
        operators.spawn(operator().cancel_events(self.seed));
        operators.spawn(operator().handle_events(self.seed));
        operators.spawn(operator().handle_channels(self.seed, self.options.lease));
        let mut faults = JoinSet::new();
        let plan = Plan::new(self.seed, self.options.workers, self.options.lease);
        let _ = timeout(self.options.duration, async {
            for step in plan {
                sleep(step.wait).await;
                let system = Arc::clone(system);
                faults.spawn(async move { system.suffer(step).await });
            }
        })
        .await;
        faults.join_all().await;
        done.store(true, Ordering::Relaxed);
        producers.join_all().await;
        operators.join_all().await;
        system.release_producers();
        self.database.until_producers_are_gone().await
    }

    fn operator(&self, done: Arc<AtomicBool>) -> Operator {
        Operator {
            recipe: Arc::clone(&self.recipe),
            journal: Arc::clone(&self.journal),
            done,
        }
    }

    /// How long the workers take to empty the queue, once an operator lets all channels go on and
    /// decides what is held; `None`, and what is left is written down, when that is too long.
    async fn drain(&self) -> anyhow::Result<Option<Duration>> {
        let begun = Instant::now();
        let operator = self.operator(Arc::default());
        operator.resume_all().await?;
        while self.database.queued().await? > 0 {
            operator.decide_held(false).await;
            if begun.elapsed() > self.options.drain {
                let left = self.database.left().await?.join("\n  ");
                self.journal.wrong(format!(
                    "STUCK: the queue is not empty after {:?}:\n  {left}",
                    self.options.drain
                ));
                return Ok(None);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(begun.elapsed()))
    }

    /// Every process that lives must have a lease again, or it does nothing.
    async fn check_leases(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let living = self.journal.living();
            let holders: BTreeSet<_> = self.database.leaseholders().await?.into_iter().collect();
            let without = living.iter().filter(|pid| !holders.contains(pid));
            let without: Vec<_> = without.collect();
            if without.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > self.options.drain {
                let text = format!("STUCK: the processes with pid {without:?} have no lease");
                self.journal.wrong(text);
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Where the workers' logs go.
enum Logs {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Logs {
    fn prepare(folder: Option<&Path>) -> anyhow::Result<Self> {
        let Some(folder) = folder else {
            let folder = tempfile::Builder::new().prefix("outbox-chaos-").tempdir();
            return Ok(Self::Temporary(
                folder.context("cannot make a folder for logs")?,
            ));
        };
        std::fs::create_dir_all(folder).context("cannot make the folder for logs")?;
        Ok(Self::Kept(folder.canonicalize()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn keep_if(self, wanted: bool) -> Option<PathBuf> {
        match self {
            Self::Kept(path) => Some(path),
            Self::Temporary(folder) => wanted.then(|| folder.keep()),
        }
    }
}
