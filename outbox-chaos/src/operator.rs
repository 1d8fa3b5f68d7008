//! Operators: people who use the command line while everything breaks.

use crate::channels::CHANNELS;
use crate::journal::{Answer, Deed, Journal, Operation};
use crate::recipe::Recipe;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Somebody with a terminal.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) done: Arc<AtomicBool>,
}

/// What `outbox events cancel|replay|delivered --json` says.
#[derive(Deserialize)]
struct Report {
    events: usize,
    in_flight: Vec<serde::de::IgnoredAny>,
}

/// What `outbox events list --json` says.
#[derive(Deserialize)]
struct Page {
    events: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: i64,
}

impl Operator {
    /// Cancels events before, while and after they are sent, until all is done.
    pub(crate) async fn cancel_events(self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ 0x6361);
        let mut cancelled = HashSet::new();
        while !self.is_done() {
            sleep(Duration::from_millis(random.random_range(50..500))).await;
            let mut ids = self.journal.recent(random.random_range(1..40));
            ids.retain(|id| !cancelled.contains(id));
            if let Some(&id) = ids.get(random.random_range(0..ids.len().max(1))) {
                cancelled.insert(id);
                self.perform(Deed::Cancel(id)).await;
            }
        }
    }

    /// Replays dead letters, decides what is held, and prunes, until all is done.
    pub(crate) async fn handle_events(self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed ^ 0x6f70);
        while !self.is_done() {
            sleep(Duration::from_millis(random.random_range(100..1_200))).await;
            match random.random_range(0..100) {
                0..50 => {
                    self.perform(Deed::ReplayFailed).await;
                }
                50..85 => self.decide_held(random.random_bool(0.2)).await,
                _ => {
                    self.perform(Deed::Prune).await;
                }
            }
        }
    }

    /// Pauses one channel after the other for a while, until all is done.
    pub(crate) async fn handle_channels(self, seed: u64, lease: Duration) {
        let mut random = StdRng::seed_from_u64(seed ^ 0x7061);
        while !self.is_done() {
            sleep(lease.mul_f64(random.random_range(0.3..3.0))).await;
            let channel = CHANNELS[random.random_range(0..CHANNELS.len())].name;
            self.perform(Deed::Pause(channel)).await;
            sleep(lease.mul_f64(random.random_range(0.0..3.0))).await;
            while self.perform(Deed::Resume(channel)).await != Answer::Done && !self.is_done() {
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Lets all channels go on.
    ///
    /// # Errors
    /// A command fails, although nothing is broken any more.
    pub(crate) async fn resume_all(&self) -> anyhow::Result<()> {
        for channel in CHANNELS {
            let answer = self.perform(Deed::Resume(channel.name)).await;
            let name = channel.name;
            anyhow::ensure!(
                answer == Answer::Done,
                "`outbox channels resume {name}` failed"
            );
        }
        Ok(())
    }

    /// Settles what is held by what the ledger says: delivered, or to be sent; some of the latter
    /// is taken back instead, if that `may_cancel`.
    pub(crate) async fn decide_held(&self, may_cancel: bool) {
        for channel in CHANNELS
            .iter()
            .filter(|channel| channel.holds || channel.blocks)
        {
            let Ok(mut held) = self.held(channel.name).await else {
                continue;
            };
            let arrived = self.journal.have_arrived(channel.name, &held);
            let mut arrived: Vec<_> = arrived.into_iter().collect();
            arrived.sort_unstable();
            held.retain(|id| !arrived.contains(id));
            if !arrived.is_empty() {
                self.perform(Deed::Delivered(channel.name, arrived)).await;
            }
            if may_cancel && let Some(id) = held.pop() {
                self.perform(Deed::Cancel(id)).await;
            }
            if !held.is_empty() {
                self.perform(Deed::Replay(channel.name, held)).await;
            }
        }
    }

    async fn held(&self, channel: &str) -> anyhow::Result<Vec<i64>> {
        let list = "events list --status held --limit 200 --json --channel";
        let arguments = list.split(' ').chain([channel]);
        let output = self.recipe.operate(arguments.map(str::to_owned)).await?;
        let page: Page = serde_json::from_slice(&output.stdout)?;
        Ok(page.events.into_iter().map(|event| event.id).collect())
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Does it, and writes it down.
    async fn perform(&self, deed: Deed) -> Answer {
        let from = self.journal.now();
        let answer = self.ask(&deed).await.unwrap_or(Answer::Unknown);
        self.journal.operated(Operation {
            deed,
            from,
            until: self.journal.now(),
            answer,
        });
        answer
    }

    async fn ask(&self, deed: &Deed) -> anyhow::Result<Answer> {
        let output = self.recipe.operate(arguments(deed)).await?;
        match deed {
            Deed::Pause(_) | Deed::Resume(_) | Deed::Prune => {
                anyhow::ensure!(output.status.success(), "it ended with {}", output.status);
                Ok(Answer::Done)
            }
            _ => {
                let report: Report = serde_json::from_slice(&output.stdout)?;
                Ok(match (report.in_flight.len(), report.events) {
                    (0, 0) => Answer::NothingToDo,
                    (0, _) => Answer::Done,
                    _ => Answer::InFlight,
                })
            }
        }
    }
}

fn arguments(deed: &Deed) -> Vec<String> {
    let (command, ids) = match deed {
        Deed::Cancel(id) => ("events cancel --json".to_owned(), std::slice::from_ref(id)),
        Deed::Replay(channel, ids) => {
            let command = format!("events replay --json --channel {channel}");
            (command, ids.as_slice())
        }
        Deed::ReplayFailed => {
            let command = "events replay --json --status failed --yes";
            (command.to_owned(), &[][..])
        }
        Deed::Delivered(channel, ids) => {
            let command = format!("events delivered --json --channel {channel}");
            (command, ids.as_slice())
        }
        Deed::Pause(channel) => (format!("channels pause {channel}"), &[][..]),
        Deed::Resume(channel) => (format!("channels resume {channel}"), &[][..]),
        Deed::Prune => ("prune".to_owned(), &[][..]),
    };
    let words = command.split(' ').map(str::to_owned);
    words.chain(ids.iter().map(ToString::to_string)).collect()
}
