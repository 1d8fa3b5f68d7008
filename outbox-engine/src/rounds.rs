//! The loop of a running worker: wake, claim, deliver, sleep.

use crate::health::Duty;
use crate::options::WorkerOptions;
use crate::outlet::Outlet;
use crate::retention::Pruner;
use crate::shared::Shared;
use crate::shift::{Claim, Shift};
use crate::summary::{Counters, Summary};
use crate::trouble::{Backoff, Trouble, within};
use crate::wake::{Bell, Ears};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a worker waits for before its next cycle.
enum Next {
    AtOnce,
    /// Something under way has to end first; worth a look after so long all the same.
    Progress(Duration),
    /// There is nothing to do for so long, unless somebody calls.
    Sleep(Duration),
    /// Whoever calls.
    Pause(Duration),
}

/// Without room: how often to look whether a breaker has closed.
const LOOK: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Cycle after cycle until the worker is stopping.
pub(crate) async fn work(shift: &mut Shift, options: &WorkerOptions) {
    let shared = Arc::clone(&shift.shared);
    let mut ears = Ears::new(shared.store.clone());
    let mut bell = Bell::default();
    let mut pruner = Pruner::new(shared.store.clone(), options.retention);
    let mut backoff = Backoff::up_to(LONGEST_RETRY);
    let mut report = Report::new();
    while !shared.stopping.is_cancelled() {
        if shift.is_broken() {
            return tracing::error!("the worker ends: it cannot write outcomes down any more");
        }
        let next = match cycle(shift, &mut bell, options.poll_interval).await {
            Ok(next) => {
                backoff.reset();
                next
            }
            Err(trouble) => {
                let again_in = backoff.next();
                let error = trouble.sentence();
                tracing::warn!(error, ?again_in, "trouble with the database, trying again");
                shared.pulse.trouble(Duty::Claims, error);
                Next::Pause(again_in)
            }
        };
        let is_at_rest = matches!(next, Next::Sleep(_) | Next::Pause(_));
        report.cycle(&shared.counters, is_at_rest);
        if !matches!(next, Next::Progress(_)) {
            pruner.cycle();
        }
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = next.wait(&shared, &mut ears) => {}
        }
    }
}

async fn cycle(shift: &mut Shift, bell: &mut Bell, poll: Duration) -> Result<Next, Trouble> {
    let shared = Arc::clone(&shift.shared);
    shared.alarm.reset();
    match shift.claim().await? {
        Claim::NoRoom => Ok(Next::Progress(LOOK)),
        Claim::PutOff => Ok(Next::Progress(Outlet::GATHER)),
        Claim::Full => {
            bell.full_claim(&shared).await?;
            shared.pulse.fine(Duty::Claims);
            Ok(Next::AtOnce)
        }
        Claim::Short(sweep) => {
            if bell.short_claim(&shared).await? {
                return Ok(Next::AtOnce);
            }
            let nap = nap(shift).await?;
            shared.pulse.fine(Duty::Claims);
            let nap = nap.into_iter().chain(sweep).fold(poll, Duration::min);
            Ok(Next::Sleep(nap))
        }
    }
}

/// How long until something is due, as far as is known.
async fn nap(shift: &Shift) -> Result<Option<Duration>, Trouble> {
    let shared = &shift.shared;
    let lanes = shift.lanes();
    let due = within(shared.patience, shared.store.next_due(&lanes)).await?;
    let probes = shared.outlets.values().filter_map(|o| o.opens_in());
    let next = probes.chain(due).min();
    // The database's clock has more digits than the timer.
    Ok(next.map(|next| next.saturating_add(Duration::from_millis(1))))
}

impl Next {
    async fn wait(self, shared: &Shared, ears: &mut Ears) {
        match self {
            Self::AtOnce => {}
            Self::Progress(time) => {
                let _ = tokio::time::timeout(time, shared.progress.notified()).await;
            }
            Self::Sleep(time) => {
                tokio::select! {
                    () = shared.alarm.rings(Instant::now() + time) => {}
                    () = ears.heard() => {}
                }
            }
            Self::Pause(time) => tokio::time::sleep(time).await,
        }
    }
}

/// Tells what was done: when the worker comes to rest, and every second while it does not.
struct Report {
    since: Instant,
}

impl Report {
    const INTERVAL: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    fn cycle(&mut self, counters: &Counters, is_at_rest: bool) {
        if is_at_rest || self.since.elapsed() >= Self::INTERVAL {
            log_summary(counters.take(), self.since.elapsed());
            self.since = Instant::now();
        }
    }
}

pub(crate) fn log_summary(summary: Summary, duration: Duration) {
    if summary.is_empty() {
        return;
    }
    let Summary {
        processed,
        skipped,
        errors,
        requeued,
        failed,
    } = summary;
    tracing::info!(
        processed,
        skipped,
        errors,
        requeued,
        failed,
        duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "cycle"
    );
}
