//! The loop of a running worker: wake, claim, deliver, sleep.

use crate::health::Duty;
use crate::options::WorkerOptions;
use crate::outlet::Outlet;
use crate::retention::Pruner;
use crate::shared::Shared;
use crate::shift::{Claim, Shift};
use crate::summary::{Counters, Summary};
use crate::trouble::{Backoff, Trouble, within};
use crate::wake::Ears;
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
    let mut outlook = Outlook::new(&shared, options.poll_interval);
    let mut pruner = Pruner::new(shared.store.clone(), options.retention);
    let mut backoff = Backoff::up_to(LONGEST_RETRY);
    let mut report = Report::new();
    while !shared.stopping.is_cancelled() {
        if shift.is_broken() {
            return tracing::error!("the worker ends: it cannot write outcomes down any more");
        }
        let next = match cycle(shift, &mut outlook).await {
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
            is_called = next.wait(&shared, &mut outlook.ears) => {
                outlook.is_called = is_called || !outlook.ears.are_open();
            }
        }
    }
}

async fn cycle(shift: &mut Shift, outlook: &mut Outlook) -> Result<Next, Trouble> {
    let shared = Arc::clone(&shift.shared);
    // It may ring in the moment in which the time is up.
    outlook.is_called |= shared.alarm.reset();
    match shift.claim().await? {
        Claim::NoRoom => Ok(Next::Progress(LOOK)),
        Claim::PutOff => Ok(Next::Progress(Outlet::GATHER)),
        Claim::Full => {
            outlook.ears.full_claim().await;
            shared.pulse.fine(Duty::Claims);
            Ok(Next::AtOnce)
        }
        Claim::Short(sweep) => {
            if outlook.ears.short_claim().await {
                return Ok(Next::AtOnce);
            }
            let next = outlook.look_ahead(shift).await?;
            shared.pulse.fine(Duty::Claims);
            Ok(match next {
                Next::Sleep(nap) => Next::Sleep(sweep.into_iter().fold(nap, Duration::min)),
                next => next,
            })
        }
    }
}

/// What a worker without work knows about when there will be some.
struct Outlook {
    ears: Ears,
    poll_interval: Duration,
    /// Nothing falls due before, as far as the last look ahead could tell.
    quiet_until: Instant,
    /// When that was.
    looked: Instant,
    /// Somebody may have written something since.
    is_called: bool,
}

impl Outlook {
    /// As good as never.
    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// Nobody calls when another worker dies with a retry that it meant to wake for.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    fn new(shared: &Shared, poll_interval: Duration) -> Self {
        Self {
            ears: Ears::new(shared.store.clone()),
            poll_interval,
            quiet_until: Instant::now(),
            looked: Instant::now(),
            is_called: true,
        }
    }

    /// Until something falls due, after a claim that left nothing.
    async fn look_ahead(&mut self, shift: &Shift) -> Result<Next, Trouble> {
        let (shared, asked) = (&shift.shared, Instant::now());
        if !self.is_called
            && self.looked.elapsed() < Self::LOOK_AGAIN
            && asked + self.poll_interval < self.quiet_until
        {
            return Ok(Next::Sleep(self.poll_interval));
        }
        self.looked = asked;
        let lanes = shift.lanes();
        let due = within(shared.patience, shared.store.next_due(&lanes)).await?;
        let probes = shared.outlets.values().filter_map(|o| o.opens_in());
        let next = probes.chain(due).min().unwrap_or(Self::DAY).min(Self::DAY);
        let was_quiet = Instant::now() < self.quiet_until;
        self.quiet_until = asked + next;
        if !was_quiet {
            // What fell due after the claim and before this look is in neither.
            return Ok(Next::AtOnce);
        }
        // The database's clock has more digits than the timer.
        let nap = next + Duration::from_millis(1);
        Ok(Next::Sleep(nap.min(self.poll_interval)))
    }
}

impl Next {
    /// Returns when it is time; true when somebody called.
    async fn wait(self, shared: &Shared, ears: &mut Ears) -> bool {
        match self {
            Self::AtOnce => true,
            Self::Progress(time) => {
                tokio::select! {
                    () = shared.alarm.rings(Instant::now() + time) => {}
                    () = shared.progress.notified() => {}
                }
                true
            }
            Self::Sleep(time) => tokio::select! {
                () = tokio::time::sleep(time) => false,
                () = shared.alarm.rings(Instant::now() + Outlook::DAY) => true,
                () = ears.heard() => true,
            },
            Self::Pause(time) => {
                tokio::time::sleep(time).await;
                true
            }
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
