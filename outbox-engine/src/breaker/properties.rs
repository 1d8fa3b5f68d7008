//! Whatever deliveries find out, in whatever order.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Deed {
    Begin,
    /// One of those under way ends.
    Fail(usize, Option<u64>),
    Succeed(usize),
    End(usize),
    Pass(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Begin),
        2 => (any::<usize>(), prop::option::of(0..100_000_u64)).prop_map(|(n, s)| Deed::Fail(n, s)),
        1 => any::<usize>().prop_map(Deed::Succeed),
        1 => any::<usize>().prop_map(Deed::End),
        3 => (0..200_000_u64).prop_map(Deed::Pass),
    ]
}

/// Takes one of those under way.
fn one(under_way: &mut Vec<Leave>, which: usize) -> Option<Leave> {
    let count = under_way.len();
    (count > 0).then(|| under_way.swap_remove(which % count))
}

proptest! {
    #[test]
    fn it_never_lets_a_broken_channel_have_more_than_one_and_never_locks_itself(
        deeds in prop::collection::vec(deed(), 1..200),
    ) {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        let (mut under_way, mut last_pause) = (Vec::new(), None);
        for deed in deeds {
            match deed {
                Deed::Begin => {
                    let was_open = breaker.is_open(now);
                    let room = breaker.admit(now, 8, 0);
                    let leave = breaker.begin(now);
                    prop_assert!(!was_open || leave.is_none());
                    prop_assert!(leave.is_none() || room > 0);
                    under_way.extend(leave);
                }
                Deed::Fail(which, seconds) => {
                    let asked = seconds.map(Duration::from_secs);
                    let pause = one(&mut under_way, which)
                        .and_then(|leave| breaker.fail(leave, now, asked));
                    if let Some(pause) = pause {
                        let asked = asked.unwrap_or_default().min(RetryPolicy::LONGEST_RETRY_AFTER);
                        prop_assert!(pause >= asked.max(Breaker::FIRST_PAUSE));
                        prop_assert!(pause <= asked.max(Breaker::LONGEST_PAUSE));
                        prop_assert!(breaker.is_open(now) && !breaker.is_open(now + pause));
                        last_pause = Some(now + pause);
                    }
                }
                Deed::Succeed(which) => {
                    if let Some(leave) = one(&mut under_way, which)
                        && breaker.succeed(leave)
                    {
                        prop_assert!(!breaker.is_open(now));
                        last_pause = None;
                    }
                }
                Deed::End(which) => {
                    if let Some(leave) = one(&mut under_way, which) {
                        breaker.end(leave);
                    }
                }
                Deed::Pass(millis) => now += Duration::from_millis(millis),
            }
            // Those that were under way when it opened are told apart from its probe.
            let since = under_way.iter().filter(|leave| leave.openings == breaker.openings);
            prop_assert!(last_pause.is_none() || since.count() <= 1);
        }
        // When all have ended and the pause is over, somebody may find out.
        while let Some(leave) = one(&mut under_way, 0) {
            breaker.end(leave);
        }
        let later = last_pause.unwrap_or(now).max(now);
        prop_assert!(breaker.admit(later, 8, 0) > 0);
        prop_assert!(breaker.begin(later).is_some());
    }
}
