//! Medians and their spread.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What repeated measurements came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// `None` when nothing was measured.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) {
            values[middle - 1]
        } else {
            upper
        };
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *values.first()?,
            max: *values.last()?,
            count: values.len(),
        })
    }

    /// `None` when any of the values is missing.
    pub(crate) fn of_all(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        Self::of(values.into_iter().collect::<Option<Vec<_>>>()?)
    }
}

/// The distribution of one measurement's latencies, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latencies {
    /// `None` when there are none.
    pub(crate) fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let last = latencies.len().checked_sub(1)?;
        // The nearest rank: a value that was measured, none between two.
        let at = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100);
            latencies[rank.saturating_sub(1).min(last)].as_secs_f64() * 1e3
        };
        Some(Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of_all([Some(1.0), None]), None);
    }

    #[test]
    fn percentiles_are_measured_values() {
        let all = (1..=100).map(Duration::from_millis).collect();
        let latencies = Latencies::of(all).unwrap();
        assert_eq!(
            (latencies.p50, latencies.p99, latencies.max),
            (50.0, 99.0, 100.0)
        );
        let one = Latencies::of(vec![Duration::from_millis(7)]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
    }
}
