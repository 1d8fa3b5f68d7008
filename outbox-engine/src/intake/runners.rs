//! What goes through a channel, a run at a time, and who takes it there.

use super::Intake;
use super::queue::{Queue, Runner};
use crate::delivery::deliver;
use crate::outlet::Outlet;
use crate::part::{Item, Part};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;

/// A channel, and what this worker has in hand for it.
pub(super) struct Line {
    pub(super) outlet: Arc<Outlet>,
    runs: Queue<Vec<Arc<Item>>>,
}

impl Line {
    pub(super) fn new(outlet: &Arc<Outlet>) -> Self {
        let threads = Handle::current().metrics().num_workers();
        Self {
            runs: Queue::new(outlet.spec.concurrency, threads),
            outlet: Arc::clone(outlet),
        }
    }
}

impl Intake {
    /// One after the other; when one is not over, those behind it have to wait.
    pub(super) fn start_deliveries(self: &Arc<Self>, run: Vec<Arc<Item>>, line: &Arc<Line>) {
        run.iter().for_each(|_| line.outlet.take());
        self.start_runner(line.runs.push(run), line);
    }

    /// When nothing is to begin any more: what waits for runners that hang must not wait with them.
    pub(super) fn let_go(self: &Arc<Self>) {
        for line in self.lines.values() {
            self.start_runner(line.runs.lift_limit(), line);
        }
    }

    fn start_runner(self: &Arc<Self>, runner: Runner, line: &Arc<Line>) {
        if runner == Runner::Enough {
            return;
        }
        let (intake, line) = (Arc::clone(self), Arc::clone(line));
        self.deliveries.spawn(async move {
            intake.start_runner(line.runs.begin(), &line);
            while let Some(run) = line.runs.next() {
                intake.deliver_run(run, &line.outlet).await;
                // A channel that never waits must not keep a thread to itself.
                consume_budget().await;
            }
        });
    }

    async fn deliver_run(&self, run: Vec<Arc<Item>>, outlet: &Outlet) {
        let mut is_open = true;
        for item in run {
            let part = if is_open {
                deliver(&self.shared, &item, outlet).await
            } else {
                Part::given_back(&item, &outlet.spec.name)
            };
            is_open &= part.lets_the_next_go();
            self.report(&item, Some(&outlet.spec.name), part);
            // Not each time: at full speed that would be a look for every delivery.
            if let Some(soon) = outlet.finish(self.batch_size) {
                self.shared.alarm.set(Instant::now() + soon);
            }
        }
    }
}
