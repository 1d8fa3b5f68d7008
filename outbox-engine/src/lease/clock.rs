//! A clock that goes on while the machine is suspended, which [`std::time::Instant`] does not on
//! Linux: a lease runs out meanwhile, by the database's clock, and a worker that wakes up must
//! know that before it sends anything.

use std::ops::Add;
use std::time::Duration;

/// A point in time on this machine. Only the distance of two of them means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        Self(since_some_time())
    }

    pub(super) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Elsewhere than on Linux, POSIX's monotonic clock goes on by itself, or there is no such clock.
#[cfg(unix)]
fn since_some_time() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    // It fails for clocks only that the system does not have.
    clock_gettime(CLOCK).map_or_else(|_| since_start(), Duration::from)
}

#[cfg(not(unix))]
fn since_some_time() -> Duration {
    since_start()
}

fn since_start() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_goes_no_slower_than_the_clock_that_may_stand_still() {
        let (before, moment) = (Instant::now(), Moment::now());
        std::thread::sleep(Duration::from_millis(20));
        let elapsed = before.elapsed();
        assert!(Moment::now() >= moment + Duration::from_millis(20));
        // Both may tick in steps of some milliseconds.
        assert!(moment.elapsed() + Duration::from_millis(10) >= elapsed);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_counts_from_when_the_machine_started_suspended_or_not() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let read_later = Moment::now().0.as_secs_f64() - seconds;
        assert!((-0.1..60.0).contains(&read_later), "{read_later}");
    }
}
