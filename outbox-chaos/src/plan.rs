//! Which fault comes when: decided by the seed alone.

use crate::fault::{Damage, Fault, Link, Step, Table, Trouble};
use outbox_sandbox::proxy::Direction;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::num::NonZeroU32;
use std::time::Duration;

/// All steps of a run, one by one.
///
/// They come in episodes, each of which favours some kinds of faults and leaves others out: what
/// goes wrong only when nothing else intervenes is not found by a mix of everything.
#[derive(Debug)]
pub(crate) struct Plan {
    random: StdRng,
    workers: usize,
    lease: Duration,
    episode: Episode,
}

#[derive(Debug, Default)]
struct Episode {
    steps_left: u32,
    /// The sum of shares up to each of [`SHARES`].
    limits: [u32; SHARES.len()],
    /// How much faster or slower than usual.
    haste: f64,
}

/// How often each kind is chosen when none is favoured: kill, pause, terminate, roll, trouble of
/// the server, damage to workers' links to the database, to the receiver, and to those of
/// producers.
const SHARES: [u32; 8] = [12, 14, 8, 3, 30, 22, 20, 7];

impl Episode {
    const STEPS: u32 = 20;

    fn new(random: &mut StdRng) -> Self {
        let mut sum = 0;
        let mut limits = SHARES.map(|share| {
            sum += share * [0, 1, 1, 4][random.random_range(0..4)];
            sum
        });
        if sum == 0 {
            // Nothing was left over: only the server's.
            limits[4..].fill(1);
        }
        Self {
            steps_left: Self::STEPS,
            limits,
            haste: random.random_range(0.3..1.5),
        }
    }
}

impl Plan {
    pub(crate) fn new(seed: u64, workers: usize, lease: Duration) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            workers,
            lease,
            episode: Episode::default(),
        }
    }

    fn fault(&mut self) -> Fault {
        let slot = self.random.random_range(0..self.workers);
        let limits = &self.episode.limits;
        let drawn = self.random.random_range(0..limits[limits.len() - 1]);
        match limits.iter().position(|limit| drawn < *limit) {
            Some(0) => Fault::Kill(slot),
            Some(1) => Fault::Pause(slot),
            Some(2) => Fault::Terminate(slot),
            Some(3) => Fault::Roll,
            Some(4) => Fault::Server(self.trouble()),
            Some(5) => Fault::Damage(Link::Database(slot), self.damage()),
            Some(6) => Fault::Damage(Link::Provider(slot), self.damage()),
            _ => Fault::Damage(Link::Producers, self.damage()),
        }
    }

    fn trouble(&mut self) -> Trouble {
        let random = &mut self.random;
        match random.random_range(0..100) {
            0..18 => Trouble::Crash,
            18..28 => Trouble::Disconnect,
            28..37 => Trouble::Connections(random.random_range(0..12)),
            37..47 => Trouble::ReadOnly,
            47..56 => Trouble::StatementTimeout(random.random_range(1..20)),
            56..65 => Trouble::Serializable,
            65..76 => Trouble::Locked(Table::ALL[random.random_range(0..Table::ALL.len())]),
            76..84 => Trouble::Deadlocks,
            84..92 => Trouble::Frozen(random.random_range(1..4)),
            _ => Trouble::DiskFull,
        }
    }

    fn damage(&mut self) -> Damage {
        let way = Direction::BOTH[self.random.random_range(0..2)];
        match self.random.random_range(0..100) {
            0..25 => Damage::Cut,
            25..40 => Damage::HalfClose(way),
            40..65 => Damage::Stall(self.random.random_bool(0.6).then_some(way)),
            65..80 => {
                let rate = NonZeroU32::MIN.saturating_add(self.random.random_range(200..20_000));
                Damage::Slow(way, rate)
            }
            80..92 => Damage::Refuse,
            _ => Damage::Silence,
        }
    }

    /// From a fraction of a lease to more than two: some outlast it, some do not.
    fn lasts(&mut self, fault: Fault) -> Duration {
        match fault {
            Fault::Server(Trouble::Crash) => self.lease.mul_f64(self.random.random_range(0.0..0.7)),
            _ => self.lease.mul_f64(self.random.random_range(0.1..2.3)),
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.episode.steps_left == 0 {
            self.episode = Episode::new(&mut self.random);
        }
        self.episode.steps_left -= 1;
        let wait = Duration::from_millis(self.random.random_range(100..1_500));
        let wait = wait.mul_f64(self.episode.haste);
        let fault = self.fault();
        let lasts = self.lasts(fault);
        Some(Step { wait, fault, lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(seed: u64) -> impl Iterator<Item = Step> {
        Plan::new(seed, 3, Duration::from_secs(2))
    }

    #[test]
    fn a_seed_decides_everything() {
        let steps = |seed| plan(seed).take(500).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_kind_of_fault_is_planned() {
        let kinds: BTreeSet<_> = plan(1).take(3_000).map(|step| step.fault.kind()).collect();
        assert_eq!(kinds.len(), 27, "{kinds:?}");
    }
}
