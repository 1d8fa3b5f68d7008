//! Properties of what is decided without I/O.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use outbox_engine::{
    ChannelName, Delivery, Disposition, ErrorClass, Event, OnAmbiguous, Plan, RetryPolicy, Route,
    Router, SendError, Targets, decide,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn duration() -> impl Strategy<Value = Duration> {
    let some = (0..200_000_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n));
    prop_oneof![8 => some, 1 => Just(Duration::ZERO), 1 => Just(Duration::MAX)]
}

prop_compose! {
    fn policy()(
        max_retries in 0..20_u32,
        base_delay in duration(),
        max_delay in duration(),
        jitter in prop_oneof![0.0..1.0, Just(f64::NAN), Just(7.0), Just(-1.0)],
        fixed_delay in prop::option::weighted(0.2, duration()),
    ) -> RetryPolicy {
        RetryPolicy { max_retries, base_delay, max_delay, jitter, fixed_delay }
    }
}

/// A millionth more, for what floating point does to a time.
fn about(time: Duration) -> Duration {
    time.saturating_add(time / 1_000_000)
        .saturating_add(Duration::from_micros(1))
}

proptest! {
    #[test]
    fn a_wait_is_never_shorter_than_one_after_fewer_failures(
        policy in policy(), spent in 1..100_u32, random in 0.0..1.0,
    ) {
        let (one, next) = (policy.delay(spent, None, random), policy.delay(spent + 1, None, random));
        prop_assert!(next >= one, "{next:?} < {one:?}");
    }

    #[test]
    fn a_wait_stays_within_its_bounds(
        policy in policy(), spent in any::<u32>(), random in -1.0..2.0,
    ) {
        let wait = policy.delay(spent, None, random);
        if let Some(fixed) = policy.fixed_delay {
            prop_assert_eq!(wait, fixed);
        } else {
            // Half of a jitter of 1 is the most that it can add or take away.
            let (most, least) = (policy.max_delay, policy.base_delay.min(policy.max_delay));
            prop_assert!(wait <= about(most.saturating_add(most / 2)), "{wait:?}");
            prop_assert!(about(wait) >= least / 2, "{wait:?}");
        }
    }

    #[test]
    fn what_a_provider_asks_is_never_undercut(
        policy in policy(), spent in any::<u32>(), asked in duration(), random in 0.0..1.0,
    ) {
        let own = policy.delay(spent, None, random);
        let wait = policy.delay(spent, Some(asked), random);
        prop_assert!(wait >= asked.min(RetryPolicy::LONGEST_RETRY_AFTER));
        prop_assert!(wait == own || wait <= RetryPolicy::LONGEST_RETRY_AFTER);
    }
}

fn class() -> impl Strategy<Value = ErrorClass> {
    prop::sample::select(vec![
        ErrorClass::Transient,
        ErrorClass::Permanent,
        ErrorClass::Unavailable,
        ErrorClass::Ambiguous,
    ])
}

fn on_ambiguous() -> impl Strategy<Value = OnAmbiguous> {
    prop::sample::select(vec![
        OnAmbiguous::Retry,
        OnAmbiguous::Hold,
        OnAmbiguous::Verify,
    ])
}

proptest! {
    /// However long it goes on: no more attempts than allowed, an end for what fails each time,
    /// and no second send of what may have arrived unless the channel says so.
    #[test]
    fn a_delivery_that_keeps_failing_ends(
        policy in policy(),
        own in prop::option::of(0..20_u32),
        on in on_ambiguous(),
        classes in prop::collection::vec(class(), 1..60),
        random in 0.0..1.0,
    ) {
        let most = own.unwrap_or(policy.max_retries);
        let mut spent = 0;
        for class in classes {
            let error = SendError::new(class, "code", "message");
            match decide(Err(&error), spent, own, &policy, on, random) {
                Disposition::Delivered => prop_assert!(false, "{class} is no success"),
                Disposition::Postpone => prop_assert_eq!(class, ErrorClass::Unavailable),
                Disposition::Retry { spent: now, .. } => {
                    prop_assert_eq!(now, spent + 1);
                    prop_assert!(now <= most, "{} of {} retries", now, most);
                    let is_safe = class == ErrorClass::Transient || on == OnAmbiguous::Retry;
                    prop_assert!(is_safe, "{} under {:?}", class, on);
                    spent = now;
                }
                Disposition::Hold { spent: now } | Disposition::Verify { spent: now } => {
                    prop_assert_eq!(class, ErrorClass::Ambiguous);
                    prop_assert_eq!(now, spent + 1);
                    return Ok(());
                }
                Disposition::Dead => {
                    prop_assert!(class == ErrorClass::Permanent || spent == most);
                    return Ok(());
                }
            }
        }
    }
}

fn names() -> impl Strategy<Value = Vec<ChannelName>> {
    let name = "[a-d]".prop_map(|name| name.parse().unwrap());
    prop::collection::vec(name, 0..8)
}

fn event(event_type: &str, payload: &str) -> Event {
    let delivery = Delivery::builder(event_type, payload).unwrap().build();
    delivery.event().clone()
}

/// What `*` means, in the plainest words.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

fn distinct(names: &[ChannelName]) -> Vec<ChannelName> {
    let mut seen = BTreeSet::new();
    let is_new = |name: &&ChannelName| seen.insert((*name).clone());
    names.iter().filter(is_new).cloned().collect()
}

proptest! {
    #[test]
    fn the_first_route_whose_pattern_fits_leads_to_each_of_its_channels_once(
        // Two stars beside each other have a meaning of their own only beside a slash.
        routes in prop::collection::vec(("[ab.]{0,2}(\\*[ab.]{1,2}){0,2}\\*?", names()), 0..5),
        event_type in "[ab.]{1,6}",
        named in names(),
    ) {
        let made = routes.iter().map(|(pattern, channels)| {
            Route::new(pattern, Targets::FanOut(channels.clone()), BTreeMap::new()).unwrap()
        });
        let router = Router::new(made.collect());
        let payload = serde_json::json!({
            "channels": named.iter().map(ChannelName::as_str).collect::<Vec<_>>(),
        });
        let first = routes.iter().find(|(p, _)| matches(p.as_bytes(), event_type.as_bytes()));
        let expected = distinct(first.map_or(&named, |(_, channels)| channels));
        let plan = router.plan(&event(&event_type, &payload.to_string()));
        match plan {
            Plan::Channels(channels) => prop_assert_eq!(channels, expected),
            Plan::NoRoute => prop_assert!(expected.is_empty(), "{:?}", expected),
            Plan::Malformed(reason) => prop_assert!(false, "{}", reason),
        }
    }

    #[test]
    fn a_fallback_visits_each_channel_once_and_ends(channels in names()) {
        let targets = Targets::Fallback(channels.clone());
        let router = Router::new(vec![Route::new("*", targets, BTreeMap::new()).unwrap()]);
        let event = event("a", "{}");
        let mut visited = Vec::new();
        let mut next = match router.plan(&event) {
            Plan::Channels(first) => first.first().cloned(),
            _ => None,
        };
        while let Some(channel) = next {
            next = router.fallback_after(&event, &channel).cloned();
            visited.push(channel);
            prop_assert!(visited.len() <= channels.len(), "in a circle: {:?}", visited);
        }
        prop_assert_eq!(visited, distinct(&channels));
    }

    #[test]
    fn no_payload_makes_the_router_stumble(payload in any::<String>()) {
        let payload = serde_json::json!({ "channels": payload }).to_string();
        let plan = Router::default().plan(&event("a", &payload));
        prop_assert!(matches!(plan, Plan::Malformed(_)));
    }
}
