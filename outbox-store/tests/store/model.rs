//! Random sequences of what workers, producers and operators do, against a model that says what
//! may be claimed.

use crate::common::{Fixture, fixture, lane, want};
use crate::settle::{delivered, failed, left, settlement};
use outbox_store::{ClaimId, Claimer, Leased, Settlement, Wait, WorkerId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CHANNELS: [&str; 2] = ["crm", "email"];
const WORKERS: usize = 3;
const FAR: Duration = Duration::from_secs(3600);

/// What somebody does.
#[derive(Debug, Clone)]
enum Deed {
    Enqueue {
        key: Option<u8>,
        priority: i16,
        later: bool,
        count: u8,
    },
    Claim {
        worker: usize,
        rooms: [u8; 3],
    },
    /// The worker writes down what became of one of the rows that it has.
    Settle {
        worker: usize,
        which: usize,
        end: End,
    },
    /// Its lease runs out, and it goes on under another.
    Expire {
        worker: usize,
    },
    Pause {
        channel: usize,
        paused: bool,
    },
    /// Everything that waits for a time, or for a human, is due.
    Hurry,
}

/// What became of a row.
#[derive(Debug, Clone, Copy)]
enum End {
    Delivered,
    GivenBack,
    Retry,
    Held,
    /// Delivered through one channel; the other is still sending.
    Split,
}

fn deed() -> impl Strategy<Value = Deed> {
    let end = prop_oneof![
        4 => Just(End::Delivered),
        2 => Just(End::GivenBack),
        2 => Just(End::Retry),
        1 => Just(End::Held),
        1 => Just(End::Split),
    ];
    prop_oneof![
        4 => (prop::option::weighted(0.7, 0..3_u8), 0..2_i16, prop::bool::weighted(0.2), 1..4_u8)
            .prop_map(|(key, priority, later, count)| Deed::Enqueue { key, priority, later, count }),
        6 => (0..WORKERS, prop::array::uniform3(0..5_u8))
            .prop_map(|(worker, rooms)| Deed::Claim { worker, rooms }),
        8 => (0..WORKERS, any::<usize>(), end)
            .prop_map(|(worker, which, end)| Deed::Settle { worker, which, end }),
        1 => (0..WORKERS).prop_map(|worker| Deed::Expire { worker }),
        1 => (0..CHANNELS.len(), any::<bool>())
            .prop_map(|(channel, paused)| Deed::Pause { channel, paused }),
        1 => Just(Deed::Hurry),
    ]
}

/// A row of the queue, as it should be.
#[derive(Debug, Clone)]
struct Row {
    key: Option<String>,
    is_due: bool,
    owner: Option<WorkerId>,
    claim: ClaimId,
}

/// By lane and event.
type Rows = BTreeMap<(String, i64), Row>;

struct Model {
    f: Fixture,
    rows: Rows,
    alive: [(WorkerId, Claimer); WORKERS],
    paused: BTreeSet<&'static str>,
    last_id: i64,
}

impl Model {
    async fn new() -> Self {
        let f = fixture().await;
        for channel in CHANNELS {
            let channel = channel.parse().unwrap();
            f.store.declare_channel(&channel, "null", 3).await.unwrap();
        }
        let mut alive = Vec::new();
        for _ in 0..WORKERS {
            alive.push((f.worker().await, Claimer::default()));
        }
        Self {
            f,
            rows: Rows::new(),
            alive: alive.try_into().ok().unwrap(),
            paused: BTreeSet::new(),
            last_id: 0,
        }
    }

    async fn carry_out(&mut self, deed: &Deed) {
        match deed {
            Deed::Enqueue {
                key,
                priority,
                later,
                count,
            } => self.enqueue(*key, *priority, *later, *count).await,
            Deed::Claim { worker, rooms } => {
                let rooms = rooms.map(usize::from);
                self.claim(*worker, rooms).await;
            }
            Deed::Settle { worker, which, end } => self.settle(*worker, *which, *end).await,
            Deed::Expire { worker } => {
                self.f.expire(self.alive[*worker].0).await;
                self.alive[*worker] = (self.f.worker().await, Claimer::default());
            }
            Deed::Pause { channel, paused } => {
                let name = CHANNELS[*channel];
                let channel = name.parse().unwrap();
                self.f.store.pause_channel(&channel, *paused).await.unwrap();
                self.paused.remove(name);
                self.paused.extend(paused.then_some(name));
            }
            Deed::Hurry => self.hurry().await,
        }
    }

    async fn enqueue(&mut self, key: Option<u8>, priority: i16, later: bool, count: u8) {
        let key = key.map(|key| format!("k{key}"));
        let sql_key = key
            .as_ref()
            .map_or("NULL".to_owned(), |key| format!("'{key}'"));
        let due = if later {
            "now() + interval '1 hour'"
        } else {
            "now()"
        };
        self.f
            .run(&format!(
                "INSERT INTO outbox_events (event_type, payload, key, priority, deliver_at) \
                 SELECT 'test', '{{}}', {sql_key}, {priority}, {due} \
                 FROM generate_series(1, {count})"
            ))
            .await;
        for _ in 0..count {
            self.last_id += 1;
            let row = Row {
                key: key.clone(),
                is_due: !later,
                owner: None,
                claim: ClaimId::FIRST,
            };
            self.rows.insert((String::new(), self.last_id), row);
        }
    }

    async fn claim(&mut self, worker: usize, rooms: [usize; 3]) -> usize {
        let wanted: Vec<_> = ["", CHANNELS[0], CHANNELS[1]]
            .into_iter()
            .zip(rooms)
            .collect();
        let (id, claimer) = &mut self.alive[worker];
        let taken = claimer
            .claim(&self.f.store, *id, &want(&wanted))
            .await
            .unwrap();
        let id = *id;
        for (name, room) in wanted {
            let of_lane = taken.iter().filter(|row| row.lane == lane(name)).count();
            assert!(
                of_lane <= room,
                "{of_lane} of `{name}` where {room} were wanted"
            );
        }
        self.assert_may_be_taken(id, &taken);
        for row in &taken {
            let known = self.rows.get_mut(&place(row)).unwrap();
            (known.owner, known.claim) = (Some(id), row.claim);
        }
        taken.len()
    }

    /// Never what another living worker has, what is not due, or of a paused channel; of a key
    /// only the first of a lane, and those right behind it.
    fn assert_may_be_taken(&self, worker: WorkerId, taken: &[Leased]) {
        let places: BTreeSet<_> = taken.iter().map(place).collect();
        assert_eq!(
            places.len(),
            taken.len(),
            "a row twice in one claim: {places:?}"
        );
        for claimed in taken {
            let at = place(claimed);
            let row = self.rows.get(&at);
            assert!(row.is_some(), "{at:?} is settled");
            let row = row.unwrap();
            let is_owned = row.owner.is_some_and(|owner| self.is_alive(owner));
            assert!(!is_owned, "{worker} took {at:?} from {row:?}");
            assert!(row.is_due, "{at:?} is not due");
            assert!(!self.paused.contains(at.0.as_str()), "{at:?} is paused");
            assert!(row.owner.is_none() || claimed.takeovers > 0, "{at:?}");
            assert_eq!(claimed.key_hash.is_some(), row.key.is_some());
            if let Some(key) = &row.key {
                let ahead = self.rows.range((at.0.clone(), 0)..at.clone());
                let mut ahead = ahead.filter(|(_, other)| other.key.as_ref() == Some(key));
                let overtaken = ahead.find(|(other, _)| !places.contains(*other));
                assert!(overtaken.is_none(), "{at:?} overtakes {overtaken:?}");
                if at.0.is_empty() {
                    self.assert_knows_who_is_ahead(claimed, key);
                }
            }
        }
    }

    /// An unrouted row is told in which channels an earlier one of its key still waits.
    fn assert_knows_who_is_ahead(&self, claimed: &Leased, key: &str) {
        let is_ahead = |channel: &&str| {
            let of_lane = self
                .rows
                .range(((*channel).to_owned(), 0)..((*channel).to_owned(), claimed.event_id));
            of_lane
                .into_iter()
                .any(|(_, row)| row.key.as_deref() == Some(key))
        };
        let expected: Vec<&str> = CHANNELS.into_iter().filter(is_ahead).collect();
        let mut behind: Vec<&str> = claimed.behind.iter().map(|name| name.as_str()).collect();
        behind.sort_unstable();
        assert_eq!(behind, expected, "{:?}", claimed.event_id);
    }

    fn is_alive(&self, worker: WorkerId) -> bool {
        self.alive.iter().any(|(id, _)| *id == worker)
    }

    async fn settle(&mut self, worker: usize, which: usize, end: End) {
        let worker = self.alive[worker].0;
        let mine = self
            .rows
            .iter()
            .filter(|(_, row)| row.owner == Some(worker));
        // Of a key in the order of their ids, as the engine does.
        let is_first = |at: &(String, i64), row: &Row| {
            row.key.is_none()
                || self
                    .rows
                    .range((at.0.clone(), 0)..at.clone())
                    .all(|(_, other)| other.key != row.key)
        };
        let mine: Vec<_> = mine.filter(|(at, row)| is_first(at, row)).collect();
        if mine.is_empty() {
            return;
        }
        let (at, row) = mine[which % mine.len()];
        let (at, row) = (at.clone(), row.clone());
        let settlement = self.settlement(&at, &row, end);
        let lost = self
            .f
            .store
            .settle(worker, std::slice::from_ref(&settlement), false)
            .await;
        assert_eq!(lost.unwrap().lost, [], "{at:?} was {worker}'s");
        self.rows.remove(&at);
        for left in settlement.left {
            let row = Row {
                key: row.key.clone(),
                is_due: match left.wait {
                    Wait::Unchanged => row.is_due,
                    Wait::For(_) | Wait::Held => false,
                },
                owner: left.keep.then_some(worker),
                claim: row.claim,
            };
            let channel = left.channel.as_ref().map(ToString::to_string);
            self.rows.insert((channel.unwrap_or_default(), at.1), row);
        }
    }

    fn settlement(&self, (name, event): &(String, i64), row: &Row, end: End) -> Settlement {
        // An unrouted row is one of both channels.
        let channels: Vec<&str> = match name.as_str() {
            "" => CHANNELS.to_vec(),
            name => vec![name],
        };
        let mut settled = match end {
            End::Delivered => delivered(*event, name, &channels),
            End::Split => delivered(*event, name, &channels[1..]),
            End::GivenBack | End::Retry | End::Held => settlement(*event, name),
        };
        let rest = match end {
            End::Delivered => None,
            End::GivenBack => Some((Wait::Unchanged, false)),
            End::Retry => Some((Wait::For(FAR), false)),
            End::Held => Some((Wait::Held, false)),
            End::Split => Some((Wait::Unchanged, true)),
        };
        if let Some((wait, keep)) = rest {
            let names = channels.iter().take(if keep { 1 } else { 2 });
            settled.left = names.map(|name| left(name, wait, keep)).collect();
        }
        if matches!(end, End::Retry) {
            settled.failed = vec![failed(channels[0], 1, "busy")];
        }
        settled.is_keyed = row.key.is_some();
        settled.claim = row.claim;
        settled
    }

    async fn hurry(&mut self) {
        self.f
            .run("UPDATE outbox_queue SET due_at = now() WHERE due_at > now()")
            .await;
        self.rows.values_mut().for_each(|row| row.is_due = true);
    }

    /// What one worker does with everything that the others leave.
    async fn drain(&mut self) {
        for channel in 0..CHANNELS.len() {
            let resume = Deed::Pause {
                channel,
                paused: false,
            };
            self.carry_out(&resume).await;
        }
        for worker in 0..WORKERS {
            self.carry_out(&Deed::Expire { worker }).await;
        }
        self.hurry().await;
        while !self.rows.is_empty() {
            // One that remembers nothing: it sweeps.
            self.alive[0].1 = Claimer::default();
            let taken = self.claim(0, [5; 3]).await;
            let was_cut = self.alive[0].1.was_cut();
            assert!(taken > 0 || was_cut, "never to be claimed: {:?}", self.rows);
            for _ in 0..taken {
                let mine = Deed::Settle {
                    worker: 0,
                    which: 0,
                    end: End::Delivered,
                };
                self.carry_out(&mine).await;
            }
        }
        let left: i64 = self.f.one("SELECT count(*) FROM outbox_queue").await;
        assert_eq!(left, 0);
    }

    /// The tables hold what the model does.
    async fn assert_is_true(&self) {
        let (mut there, mut expected) = (Vec::new(), Vec::new());
        let rows: Vec<(String, i64, Option<String>)> = sqlx::query_as(
            "SELECT channel, event_id, key FROM outbox_queue ORDER BY channel, event_id",
        )
        .fetch_all(self.f.store.pool())
        .await
        .unwrap();
        there.extend(rows);
        let row =
            |((name, event), row): (&(String, i64), &Row)| (name.clone(), *event, row.key.clone());
        expected.extend(self.rows.iter().map(row));
        assert_eq!(there, expected);
    }
}

fn place(row: &Leased) -> (String, i64) {
    let name = row.lane.channel().map(ToString::to_string);
    (name.unwrap_or_default(), row.event_id)
}

#[test]
fn random_deeds_are_as_the_model_has_them() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: 24,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let deeds = prop::collection::vec(deed(), 60);
    let ran = TestRunner::new(config).run(&deeds, |deeds| {
        runtime.block_on(async {
            let mut model = Model::new().await;
            for deed in &deeds {
                model.carry_out(deed).await;
            }
            model.assert_is_true().await;
            model.drain().await;
        });
        Ok(())
    });
    ran.unwrap();
}
