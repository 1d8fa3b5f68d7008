//! One run: a process that dies where it is told to, and another that takes over.

use crate::ledger::{Arrival, First, Ledger};
use crate::life::{Deed, Recipe, start};
use crate::table::Row;
use crate::verdict::{Fate, judge};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::fault::Step;
use outbox_store::{Store, StoreOptions};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::Child;

/// What there is to do in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event for two channels.
    Fan,
    /// One with a large payload, which names two channels.
    Large,
    /// Three of one key for two channels, one claimed at a time.
    Keyed,
    /// The same, claimed together.
    Run,
    /// The first of three of one key has been deleted.
    Orphan,
    /// A channel that holds what nobody knows.
    Hold,
    /// A channel that asks its provider.
    Verify,
    /// Two attempts that an earlier process died with: one came through, one did not.
    Asked,
    /// A channel that is unavailable at first.
    Broken,
    /// An answer that does not come.
    Slow,
    /// Nothing, until the process is dead.
    Idle,
    /// The same, but for an old event that is pruned.
    Old,
    /// An operator cancels the first of three of one key, which the others wait for.
    Cancel,
    /// An operator replays what both channels have given up.
    Replay,
    /// An operator writes down that what is held had been delivered.
    Confirm,
}

impl Kind {
    /// What is there when the process that will be killed begins. Events have the ids from 1 on.
    fn before(self) -> &'static str {
        match self {
            Self::Idle => "",
            Self::Fan | Self::Broken | Self::Slow => BOTH,
            Self::Large => {
                "INSERT INTO outbox_events (event_type, payload)
                 SELECT 'none', jsonb_build_object('channels', '[\"crm\", \"mail\"]'::jsonb,
                                                   'text', repeat('x', 1000000))"
            }
            Self::Keyed | Self::Run => {
                "INSERT INTO outbox_events (event_type, payload, key)
                 SELECT 'both', '{}', 'a' FROM generate_series(1, 3)"
            }
            Self::Orphan => {
                "INSERT INTO outbox_events (event_type, payload, key)
                 SELECT 'both', '{}', 'a' FROM generate_series(1, 3);
                 DELETE FROM outbox_events WHERE id = 1"
            }
            Self::Hold => "INSERT INTO outbox_events (event_type, payload) VALUES ('hold', '{}')",
            Self::Verify => {
                "INSERT INTO outbox_events (event_type, payload) VALUES ('verify', '{}')"
            }
            Self::Asked => {
                "INSERT INTO outbox_events (event_type, payload)
                 SELECT 'verify', '{}' FROM generate_series(1, 2);
                 UPDATE outbox_queue SET channel = 'verify', worker = 0, began_at = now()"
            }
            Self::Old => {
                "INSERT INTO outbox_events (event_type, payload, created_at)
                 VALUES ('both', '{}', now() - interval '3 days');
                 DELETE FROM outbox_queue;
                 INSERT INTO outbox_deliveries (event_id, channel, status, attempts, finished_at)
                 VALUES (1, 'crm', 'dead', 1, now() - interval '2 days')"
            }
            // As claims leave it while the first waits for its time.
            Self::Cancel => {
                "INSERT INTO outbox_events (event_type, payload, key)
                 SELECT 'both', '{}', 'a' FROM generate_series(1, 3);
                 UPDATE outbox_queue SET due_at = now() + interval '1 hour' WHERE event_id = 1;
                 UPDATE outbox_queue SET blocked = true WHERE event_id > 1"
            }
            Self::Replay => {
                "INSERT INTO outbox_events (event_type, payload) VALUES ('both', '{}');
                 DELETE FROM outbox_queue;
                 INSERT INTO outbox_deliveries (event_id, channel, status, attempts, message)
                 VALUES (1, 'crm', 'dead', 1, 'no'), (1, 'mail', 'dead', 1, 'no')"
            }
            Self::Confirm => {
                "INSERT INTO outbox_events (event_type, payload) VALUES ('hold', '{}');
                 UPDATE outbox_queue SET channel = 'hold', attempt = 1, due_at = 'infinity',
                     began_at = now();
                 INSERT INTO outbox_attempts
                     (event_id, channel, attempt, duration_ms, class, code, message)
                 VALUES (1, 'hold', 1, 1, 'ambiguous', 'lost', 'no answer')"
            }
        }
    }

    /// What happens when that process is dead.
    fn after(self) -> &'static str {
        match self {
            Self::Idle | Self::Old => BOTH,
            // The time of the first has come.
            Self::Cancel => "UPDATE outbox_queue SET due_at = now() WHERE event_id = 1",
            _ => "",
        }
    }

    /// What had arrived before: event and channel.
    fn arrived(self) -> Option<(i64, &'static str)> {
        match self {
            Self::Asked => Some((1, "verify")),
            Self::Confirm => Some((1, "hold")),
            _ => None,
        }
    }

    /// What has to arrive: event and channel.
    pub(crate) fn deliveries(self) -> Vec<(i64, &'static str)> {
        let both = |ids: &[i64]| {
            let of = |id: &i64| [(*id, "crm"), (*id, "mail")];
            ids.iter().flat_map(of).collect()
        };
        match self {
            Self::Fan | Self::Large | Self::Broken | Self::Slow | Self::Idle | Self::Replay => {
                both(&[1])
            }
            Self::Keyed | Self::Run | Self::Cancel => both(&[1, 2, 3]),
            Self::Orphan => both(&[2, 3]),
            Self::Old => both(&[2]),
            Self::Hold | Self::Confirm => vec![(1, "hold")],
            Self::Verify => vec![(1, "verify")],
            Self::Asked => vec![(1, "verify"), (2, "verify")],
        }
    }

    fn first(self) -> First {
        match self {
            Self::Broken => First::Refuse,
            Self::Slow => First::Stall,
            _ => First::Answer,
        }
    }

    /// How the process that will be killed is started.
    fn recipe(self) -> Recipe {
        Recipe {
            // Heartbeats come after a third of it: the second when the message has surely been
            // sent. Otherwise longer than any pause that a busy machine makes.
            lease_seconds: match self {
                Self::Slow => 6,
                Self::Idle => 3,
                _ => 60,
            },
            batch: if self == Self::Run { 100 } else { 1 },
            deed: match self {
                Self::Cancel => Deed::Cancel,
                Self::Replay => Deed::Replay,
                Self::Confirm => Deed::Confirm,
                _ => Deed::Work,
            },
            prune_every: u32::from(self == Self::Old),
        }
    }

    /// How the one is started that takes over.
    fn successor(self) -> Recipe {
        Recipe {
            lease_seconds: 60,
            deed: Deed::Work,
            ..self.recipe()
        }
    }
}

const BOTH: &str = "INSERT INTO outbox_events (event_type, payload) VALUES ('both', '{}')";

/// A database to play on.
pub(crate) struct Stage {
    pool: PgPool,
    installation: String,
    database: TestDatabase,
}

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stage {
    pub(crate) async fn build() -> Self {
        let database = TestDatabase::create("kill").await.unwrap();
        let store = Store::connect(&StoreOptions::new(database.url()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let installation = store.installation().await.unwrap();
        store.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(database.url())
            .await;
        Self {
            pool: pool.unwrap(),
            installation,
            database,
        }
    }

    /// The fate of each delivery, when the first process has died at this point.
    pub(crate) async fn play(&self, kind: Kind, row: Row, pass: u32) -> Vec<Fate> {
        let kill_at = format!("{}:{pass}", row.point());
        let name = format!("{kill_at} in {kind:?}");
        self.run(
            "TRUNCATE outbox_events, outbox_queue, outbox_deliveries, outbox_attempts,
                 outbox_workers, outbox_channels RESTART IDENTITY",
        )
        .await;
        let ledger = Ledger::open(kind.first()).await;
        if let Some((event, channel)) = kind.arrived() {
            ledger.write(Arrival {
                channel: channel.to_owned(),
                event,
                id: format!("{}-{event}-{channel}", self.installation),
            });
        }
        self.run(kind.before()).await;
        let process = start(kind.recipe(), self.database.url(), ledger.address, &kill_at);
        // Only one that stops says good-bye.
        let status = self
            .end_of(process, row.step() == Step::Deregister, &name)
            .await;
        assert_eq!(
            status.signal(),
            Some(6),
            "{name}: not killed but ended with {status}"
        );
        // As time does it: nobody prolongs the lease any more.
        self.run("UPDATE outbox_workers SET alive_until = now()")
            .await;
        self.run(kind.after()).await;
        let process = start(kind.successor(), self.database.url(), ledger.address, "");
        let status = self.end_of(process, true, &name).await;
        assert!(
            status.success(),
            "{name}: the successor ended with {status}"
        );
        judge(&self.pool, kind, &ledger.taken(), &name).await
    }

    /// Waits for the end of a process; `stop`: tells it to when nothing is left to do.
    async fn end_of(&self, mut process: Child, stop: bool, name: &str) -> ExitStatus {
        let since = Instant::now();
        while stop && !self.is_done().await {
            assert!(
                since.elapsed() < PATIENCE,
                "{name}: something is left to do"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let stdin = process.stdin.take();
        if stop {
            drop(stdin);
        }
        let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("{name}: the process does not end"))
            .unwrap()
    }

    async fn is_done(&self) -> bool {
        let left = "SELECT NOT EXISTS (SELECT FROM outbox_queue WHERE due_at < 'infinity')
                    AND NOT EXISTS (SELECT FROM outbox_events
                                    WHERE created_at < now() - interval '1 day')
                    AND EXISTS (SELECT FROM outbox_workers WHERE alive_until > now())";
        sqlx::query_scalar(left)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .unwrap();
    }
}
