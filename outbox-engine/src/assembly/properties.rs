//! Whatever the order in which deliveries end, and however long they take.

use super::*;
use crate::lease::Lease;
use crate::part::Place;
use outbox_channel::{Delivery, Receipt};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Store, StoreOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;

/// A row: how many channels it goes to.
type Row = usize;

/// Rows alone, and runs of several of one key; then in which order the parts come, and how much
/// time passes before each.
#[derive(Debug, Clone)]
struct Story {
    runs: Vec<Vec<Row>>,
    order: Vec<usize>,
    pauses: Vec<u64>,
}

fn story() -> impl Strategy<Value = Story> {
    prop::collection::vec(prop::collection::vec(0..4_usize, 1..5), 1..6).prop_flat_map(|runs| {
        let parts = runs
            .iter()
            .flatten()
            .map(|channels| (*channels).max(1))
            .sum();
        let order = Just((0..parts).collect::<Vec<_>>()).prop_shuffle();
        let pause = prop_oneof![3 => Just(0), 1 => 0..800_u64];
        let pauses = prop::collection::vec(pause, parts);
        (Just(runs), order, pauses).prop_map(|(runs, order, pauses)| Story {
            runs,
            order,
            pauses,
        })
    })
}

fn name(number: usize) -> ChannelName {
    format!("c{number}").parse().unwrap()
}

fn items(runs: &[Vec<Row>], tenure: &Arc<Tenure>) -> Vec<Arc<Item>> {
    let event = Delivery::builder("a", "{}")
        .unwrap()
        .build()
        .event()
        .clone();
    let mut items = Vec::new();
    for (run, rows) in (0..).zip(runs) {
        for (at, channels) in rows.iter().enumerate() {
            let mut event = event.clone();
            event.id = i64::try_from(items.len()).unwrap();
            let of = rows.len();
            items.push(Arc::new(Item {
                serial: u64::try_from(items.len()).unwrap(),
                event: Arc::new(event),
                left_behind: None,
                lane: Lane::Unrouted,
                tenure: Arc::clone(tenure),
                attempts: 0,
                takeovers: 0,
                claim: outbox_store::ClaimId::FIRST,
                began_at: None,
                channels: (0..*channels).map(name).collect(),
                behind: Vec::new(),
                is_put_off: false,
                place: (of > 1).then_some(Place { run, at, of }),
            }));
        }
    }
    items
}

fn finished(item: &Arc<Item>, channel: Option<&ChannelName>) -> Finished {
    let part = match channel {
        Some(channel) => Part::delivered(channel, 1, &Receipt::new()),
        None => Part::refused(
            None,
            outbox_store::ResultStatus::Skipped,
            0,
            "no_route",
            "none",
        ),
    };
    let (item, channel) = (Arc::clone(item), channel.cloned());
    Finished {
        item,
        channel,
        part,
    }
}

/// What is written, one after the other.
fn written(story: &Story, items: &[Arc<Item>]) -> Vec<Settlement> {
    let parts = items
        .iter()
        .flat_map(|item| match item.channels.as_slice() {
            [] => vec![finished(item, None)],
            channels => channels.iter().map(|c| finished(item, Some(c))).collect(),
        });
    let mut parts: Vec<_> = parts.map(Some).collect();
    let (mut assembly, mut ready) = (Assembly::default(), VecDeque::new());
    let mut now = Instant::now();
    for (part, pause) in story.order.iter().zip(&story.pauses) {
        now += Duration::from_millis(*pause);
        assembly.split(now, &mut ready);
        assert!(assembly.next_split().is_none_or(|next| next > now));
        assembly.add(parts[*part].take().unwrap(), now, &mut ready);
    }
    assert!(assembly.is_empty(), "something is left");
    assert_eq!(assembly.next_split(), None);
    ready.into_iter().map(|ready| ready.settlement).collect()
}

fn check(items: &[Arc<Item>], written: &[Settlement]) {
    // As the settler counts what is claimed and not settled.
    let mut unsettled = items.len();
    let mut held: BTreeSet<(i64, Option<ChannelName>)> =
        items.iter().map(|item| (item.event.id, None)).collect();
    let mut results = BTreeSet::new();
    let mut turns: HashMap<u64, usize> = HashMap::new();
    for settlement in written {
        let id = settlement.event_id;
        let row = (id, settlement.lane.channel().cloned());
        assert!(
            held.remove(&row),
            "{row:?} is written twice, or before it is there"
        );
        for left in &settlement.left {
            assert!(left.keep, "{row:?} is given back");
            assert!(held.insert((id, left.channel.clone())));
        }
        unsettled = unsettled + settlement.left.len() - 1;
        for outcome in &settlement.outcomes {
            let result = (id, outcome.channel.clone());
            assert!(results.insert(result.clone()), "{result:?} twice");
        }
        let item = &items[usize::try_from(id).unwrap()];
        if let (Lane::Unrouted, Some(place)) = (&settlement.lane, item.place) {
            let turn = turns.entry(place.run).or_default();
            assert_eq!(*turn, place.at, "a row of a run is written out of turn");
            *turn += 1;
        }
    }
    assert_eq!((unsettled, held.len()), (0, 0));
    let expected = items
        .iter()
        .flat_map(|item| match item.channels.as_slice() {
            [] => vec![(item.event.id, None)],
            some => some
                .iter()
                .map(|c| (item.event.id, Some(c.clone())))
                .collect(),
        });
    assert_eq!(results, expected.collect());
}

#[tokio::test]
async fn each_row_is_settled_once_and_those_of_a_run_in_order() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let store = Store::connect(&StoreOptions::new(database.url()))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let lease = Lease::begin(store, "test", Duration::from_secs(60))
        .await
        .unwrap();
    let tenure = lease.current();
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&story(), |story| {
        let items = items(&story.runs, &tenure);
        check(&items, &written(&story, &items));
        Ok(())
    });
    ran.unwrap();
}
