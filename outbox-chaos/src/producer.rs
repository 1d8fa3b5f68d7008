//! Producers: applications that write events in transactions of their own, and remember what
//! they have committed.

use crate::channels::ROUTES;
use crate::database::APP;
use crate::journal::{Fate, Journal, Transaction, Write};
use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Json;
use sqlx::{ConnectOptions, Executor, PgConnection};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What a producer writes: [`Write`], with all that the database is told.
#[derive(Debug, Clone, Serialize)]
struct Row {
    event_type: &'static str,
    payload: Value,
    key: Option<String>,
    dedup_key: Option<String>,
    priority: i16,
    max_retries: Option<i32>,
    /// Seconds from now.
    deliver_in: Option<f64>,
    expires_in: Option<f64>,
}

/// By which statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Insert,
    Enqueue,
    EnqueueMany,
}

#[derive(Debug, Clone)]
struct Draft {
    rows: Vec<Row>,
    way: Way,
    /// Between the write and what follows it.
    hesitates: Duration,
    commits: bool,
}

/// One producer.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) database: SocketAddr,
    /// Events per second.
    pub(crate) rate: f64,
    pub(crate) keys: u32,
    pub(crate) journal: Arc<Journal>,
    pub(crate) done: Arc<AtomicBool>,
}

/// Longer than anything but a broken connection takes.
const PATIENCE: Duration = Duration::from_secs(8);

impl Producer {
    /// Writes until it is told that it is done.
    pub(crate) async fn run(self) {
        let mut drafts = Drafts {
            random: StdRng::seed_from_u64(self.seed ^ (self.number << 32)),
            producer: self.number,
            tokens: 0,
            keys: self.keys,
        };
        let mut connection = None;
        while !self.done.load(Ordering::Relaxed) {
            let Some(open) = self.connected(&mut connection).await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let draft = drafts.next(self.journal.now());
            let pause = Duration::from_secs_f64(draft.rows.len() as f64 / self.rate);
            let mut ids = HashMap::new();
            let (fate, is_sound) = write(open, &draft, &mut ids).await;
            if !is_sound {
                // Not closed in order: the server may be far away.
                connection = None;
            }
            self.journal.wrote(Transaction {
                fate,
                writes: draft.rows.iter().map(|row| row.as_write(&ids)).collect(),
            });
            sleep(pause).await;
        }
    }

    async fn connected<'a>(
        &self,
        connection: &'a mut Option<PgConnection>,
    ) -> Option<&'a mut PgConnection> {
        if connection.is_none() {
            let options = PgConnectOptions::new_without_pgpass()
                .host(&self.database.ip().to_string())
                .port(self.database.port())
                .username(APP)
                .database("postgres")
                .application_name("producer")
                // A lock that a broken connection still holds must not stop everybody.
                .options([
                    ("lock_timeout", "3s"),
                    ("idle_in_transaction_session_timeout", "5s"),
                ]);
            *connection = timeout(PATIENCE, options.connect()).await.ok()?.ok();
        }
        connection.as_mut()
    }
}

/// By token.
type Ids = HashMap<String, i64>;

/// What became of it, and whether the connection can be used again.
async fn write(connection: &mut PgConnection, draft: &Draft, ids: &mut Ids) -> (Fate, bool) {
    let written = timeout(PATIENCE, async {
        connection.execute("BEGIN").await?;
        ids.extend(insert(connection, draft).await?);
        sleep(draft.hesitates).await;
        if !draft.commits {
            connection.execute("ROLLBACK").await?;
        }
        anyhow::Ok(())
    });
    if !matches!(written.await, Ok(Ok(()))) {
        // No commit was sent, and the connection, which ends now, takes the transaction along.
        return (Fate::RolledBack, false);
    }
    if !draft.commits {
        return (Fate::RolledBack, true);
    }
    match timeout(PATIENCE, connection.execute("COMMIT")).await {
        Ok(Ok(_)) => (Fate::Committed, true),
        _ => (Fate::Unknown, false),
    }
}

async fn insert(
    connection: &mut PgConnection,
    draft: &Draft,
) -> anyhow::Result<Vec<(String, i64)>> {
    // Order per key is the order of ids, so those who write for one key take turns.
    let mut keys: Vec<_> = draft
        .rows
        .iter()
        .filter_map(|row| row.key.clone())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))")
            .bind(key)
            .execute(&mut *connection)
            .await?;
    }
    let statement = match draft.way {
        Way::Insert => INSERT,
        Way::Enqueue => ENQUEUE,
        Way::EnqueueMany => ENQUEUE_MANY,
    };
    let ids = sqlx::query_as(statement).bind(Json(&draft.rows));
    ids.fetch_all(connection).await.context("cannot write")
}

const INSERT: &str = "\
INSERT INTO outbox_events
    (event_type, payload, key, dedup_key, priority, max_retries, deliver_at, expires_at)
SELECT event_type, payload, key, dedup_key, priority, max_retries,
       now() + coalesce(deliver_in, 0) * interval '1 second',
       now() + expires_in * interval '1 second'
FROM jsonb_to_recordset($1) AS (
    event_type text, payload jsonb, key text, dedup_key text, priority smallint,
    max_retries int, deliver_in float8, expires_in float8)
ON CONFLICT DO NOTHING
RETURNING payload ->> 'token', id";

const ENQUEUE: &str = "\
SELECT payload ->> 'token',
       outbox_enqueue(event_type, payload, key, dedup_key,
                      now() + coalesce(deliver_in, 0) * interval '1 second',
                      now() + expires_in * interval '1 second', priority, max_retries)
FROM jsonb_to_recordset($1) AS (
    event_type text, payload jsonb, key text, dedup_key text, priority smallint,
    max_retries int, deliver_in float8, expires_in float8)";

const ENQUEUE_MANY: &str = "\
SELECT $1 -> (place::int - 1) -> 'payload' ->> 'token', id FROM outbox_enqueue_many((
    SELECT jsonb_agg(jsonb_build_object(
        'event_type', event_type, 'payload', payload, 'key', key, 'dedup_key', dedup_key,
        'priority', priority, 'max_retries', max_retries,
        'deliver_at', now() + coalesce(deliver_in, 0) * interval '1 second',
        'expires_at', now() + expires_in * interval '1 second') ORDER BY place)
    FROM ROWS FROM (jsonb_to_recordset($1) AS (
        event_type text, payload jsonb, key text, dedup_key text, priority smallint,
        max_retries int, deliver_in float8, expires_in float8)) WITH ORDINALITY
        AS row (event_type, payload, key, dedup_key, priority, max_retries, deliver_in,
                expires_in, place))) WITH ORDINALITY AS written (id, place)";

impl Row {
    fn as_write(&self, ids: &Ids) -> Write {
        let token = self.payload["token"].as_str().unwrap_or_default();
        Write {
            token: token.to_owned(),
            dedup_key: self.dedup_key.clone(),
            id: ids.get(token).copied(),
        }
    }
}

/// Decides what to write next.
struct Drafts {
    random: StdRng,
    producer: u64,
    tokens: u64,
    keys: u32,
}

impl Drafts {
    fn next(&mut self, now: Duration) -> Draft {
        let (way, many) = match self.random.random_range(0..100) {
            0..60 => (Way::Insert, 1),
            60..78 => (Way::Insert, self.random.random_range(2..=12)),
            78..90 => (Way::Enqueue, 1),
            _ => (Way::EnqueueMany, self.random.random_range(1..=12)),
        };
        let hesitates = match self.random.random_range(0..100) {
            0..6 => self.random.random_range(200..1_500),
            _ => 0,
        };
        Draft {
            rows: (0..many).map(|_| self.row(now)).collect(),
            way,
            hesitates: Duration::from_millis(hesitates),
            commits: self.random.random_bool(0.85),
        }
    }

    fn row(&mut self, now: Duration) -> Row {
        self.tokens += 1;
        let token = format!("p{}-{}", self.producer, self.tokens);
        let random = &mut self.random;
        let route = ROUTES[random.random_range(0..ROUTES.len())];
        let key = (self.keys > 0 && random.random_bool(0.7))
            .then(|| format!("k{}", random.random_range(0..self.keys)));
        // All producers use the same few at about the same time.
        let dedup_key = random
            .random_bool(0.1)
            .then(|| format!("d{}-{}", now.as_secs() / 2, random.random_range(0..3)));
        Row {
            event_type: route.event_type,
            payload: json!({"token": token, "padding": "x".repeat(random.random_range(0..300))}),
            key,
            dedup_key,
            priority: if random.random_bool(0.2) {
                random.random_range(-1..3)
            } else {
                0
            },
            max_retries: random.random_bool(0.02).then_some(0),
            deliver_in: random
                .random_bool(0.1)
                .then(|| random.random_range(0.05..3.0)),
            expires_in: match random.random_range(0..100) {
                0..6 => Some(random.random_range(0.0..5.0)),
                6..12 => Some(3_600.0),
                _ => None,
            },
        }
    }
}
