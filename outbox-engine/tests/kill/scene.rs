//! One run: a process that dies where it is told to, and another that takes over.

use crate::ledger::{Arrival, First, Ledger};
use crate::life::{Recipe, start};
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
}

impl Kind {
    /// What makes the events, which have the ids from 1 on.
    fn events(self) -> &'static str {
        match self {
            Self::Fan | Self::Broken | Self::Slow | Self::Idle => {
                "INSERT INTO outbox_events (event_type, payload) VALUES ('both', '{}')"
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
        }
    }

    /// What has to arrive: event and channel.
    pub(crate) fn deliveries(self) -> Vec<(i64, &'static str)> {
        let both = |ids: &[i64]| {
            let of = |id: &i64| [(*id, "crm"), (*id, "mail")];
            ids.iter().flat_map(of).collect()
        };
        match self {
            Self::Fan | Self::Broken | Self::Slow | Self::Idle => both(&[1]),
            Self::Keyed | Self::Run => both(&[1, 2, 3]),
            Self::Orphan => both(&[2, 3]),
            Self::Hold => vec![(1, "hold")],
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

    fn recipe(self) -> Recipe {
        Recipe {
            // Long enough for a heartbeat when the message has surely been sent.
            lease_seconds: if self == Self::Slow { 3 } else { 1 },
            batch: if self == Self::Run { 100 } else { 1 },
        }
    }
}

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
    pub(crate) async fn play(&self, kind: Kind, step: Step, side: &str, pass: u32) -> Vec<Fate> {
        let name = format!("{}.{side}:{pass} in {kind:?}", step.name());
        self.run(
            "TRUNCATE outbox_events, outbox_queue, outbox_deliveries, outbox_attempts,
                 outbox_workers, outbox_channels RESTART IDENTITY",
        )
        .await;
        let ledger = Ledger::open(kind.first()).await;
        if kind == Kind::Asked {
            ledger.write(Arrival {
                channel: "verify".to_owned(),
                event: 1,
                id: format!("{}-1-verify", self.installation),
            });
        }
        if kind != Kind::Idle {
            self.run(kind.events()).await;
        }
        let kill_at = format!("{}.{side}:{pass}", step.name());
        let process = start(kind.recipe(), self.database.url(), ledger.address, &kill_at);
        // Only one that stops says good-bye.
        let status = self.end_of(process, step == Step::Deregister, &name).await;
        assert_eq!(
            status.signal(),
            Some(6),
            "{name}: not killed but ended with {status}"
        );
        if kind == Kind::Idle {
            self.run(kind.events()).await;
        }
        let process = start(kind.recipe(), self.database.url(), ledger.address, "");
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
