//! Through PgBouncer in transaction mode: two stores, and fewer sessions than connections.

use crate::common::{LONG, options};
use outbox_sandbox::postgres::{PgBouncer, SandboxError, TestDatabase};
use outbox_store::{
    Claimer, EventFilter, Lane, NewEvent, OpenError, Outcome, Pooler, Replay, ResultStatus,
    Settlement, Store, StoreOptions, Wanted, WorkerId, enqueue, enqueue_many,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, Row};
use tokio::task::spawn_blocking;

struct Fixture {
    database: TestDatabase,
    pooler: PgBouncer,
}

/// `None`, and said so, where there is no PgBouncer.
async fn fixture(settings: &'static [(&'static str, &'static str)]) -> Option<Fixture> {
    let database = TestDatabase::for_this_test().await.unwrap();
    let url = database.url().to_owned();
    let started = spawn_blocking(move || PgBouncer::start(&url, settings)).await;
    let started = started.unwrap();
    if let Err(error @ SandboxError::NoPgBouncer) = &started {
        eprintln!("SKIPPED: {error}");
        return None;
    }
    let pooler = started.unwrap();
    Some(Fixture { database, pooler })
}

impl Fixture {
    fn options(&self, schema: &str) -> StoreOptions {
        StoreOptions {
            url: self.pooler.url(self.database.name()),
            ..options(&self.database, schema)
        }
    }

    async fn connect(&self, schema: &str) -> Store {
        Store::connect(&self.options(schema)).await.unwrap()
    }
}

/// Two sessions for everybody: connections meet what others left behind.
const NARROW: &[(&str, &str)] = &[("default_pool_size", "2"), ("server_round_robin", "1")];

async fn work(store: &Store, worker: WorkerId, claimer: &mut Claimer) -> usize {
    let wanted = [Wanted {
        lane: Lane::Unrouted,
        room: 20,
    }];
    let rows = claimer.claim(store, worker, &wanted).await.unwrap();
    let settlements: Vec<_> = rows
        .iter()
        .map(|row| Settlement {
            event_id: row.event_id,
            lane: row.lane.clone(),
            claim: row.claim,
            is_keyed: row.key_hash.is_some(),
            outcomes: vec![Outcome {
                channel: Some("email".parse().unwrap()),
                status: ResultStatus::Delivered,
                attempts: 1,
                code: None,
                message: None,
                provider_id: None,
                fell_back_to: None,
            }],
            left: Vec::new(),
            failed: Vec::new(),
        })
        .collect();
    let settled = store.settle(worker, &settlements, false).await.unwrap();
    let lost = settled.lost;
    assert!(lost.is_empty());
    settlements.len()
}

/// Claims and settles until nothing is left; a worker of its own.
async fn drain(store: Store, name: &'static str) -> usize {
    let (worker, _) = store.register_worker(name, LONG).await.unwrap();
    let mut claimer = Claimer::default();
    let mut settled = 0;
    while store
        .backlog()
        .await
        .unwrap()
        .iter()
        .any(|lane| lane.due > 0 || lane.leased > 0)
    {
        settled += work(&store, worker, &mut claimer).await;
        assert!(store.heartbeat(worker, LONG).await.unwrap().is_some());
    }
    store.deregister_worker(worker).await.unwrap();
    settled
}

#[tokio::test]
async fn everything_works_side_by_side() {
    let Some(fixture) = fixture(NARROW).await else {
        return;
    };
    let one = fixture.connect("public").await;
    let applied = one.migrate().await.unwrap();
    assert!(!applied.is_empty());
    let other = Store::open(&fixture.options("public")).await.unwrap();
    for store in [&one, &other] {
        assert!(!store.can_listen());
    }
    for n in 0..10 {
        let key = format!("key-{n}");
        let event = NewEvent::new("a", n.into()).key(key);
        enqueue_many(one.pool(), &vec![event; 20]).await.unwrap();
        let plain = NewEvent::new("a", n.into());
        enqueue_many(other.pool(), &vec![plain; 20]).await.unwrap();
    }
    let (by_one, by_other) = tokio::join!(drain(one.clone(), "one"), drain(other, "other"));
    assert_eq!(by_one + by_other, 400);
    let page = one.list_events(&EventFilter::default(), None, 1_000).await;
    assert_eq!(page.unwrap().events.len(), 400);
}

#[tokio::test]
async fn an_operator_can_do_everything() {
    let Some(fixture) = fixture(NARROW).await else {
        return;
    };
    let store = fixture.connect("public").await;
    store.migrate().await.unwrap();
    let event = NewEvent::new("a", 1.into()).key("k");
    let id = enqueue(store.pool(), &event).await.unwrap();
    let channel = "email".parse().unwrap();
    store.declare_channel(&channel, "test", 3).await.unwrap();
    assert!(store.pause_channel(&channel, true).await.unwrap());
    assert!(store.pause_channel(&channel, false).await.unwrap());
    let cancelled = store.cancel(&[id], None).await.unwrap();
    assert_eq!(cancelled.len(), 1);
    store.replay(&[id], &Replay::default()).await.unwrap();
    let ids = store.event_ids(&EventFilter::default()).await.unwrap();
    assert_eq!(ids, [id]);
    assert!(store.event(id, true).await.unwrap().is_some());
    store.cancel(&[id], None).await.unwrap();
    assert_eq!(store.prune(0.0, 100, 0).await.unwrap().removed, 1);
}

#[tokio::test]
async fn a_schema_of_its_own_is_found_in_every_session() {
    let Some(fixture) = fixture(NARROW).await else {
        return;
    };
    let (own, user) = (fixture.connect("own").await, fixture.connect("user").await);
    own.migrate().await.unwrap();
    user.migrate().await.unwrap();
    enqueue(own.pool(), &NewEvent::new("a", 1.into()))
        .await
        .unwrap();
    assert_eq!(drain(own, "own").await, 1);
    assert_eq!(drain(user, "user").await, 0);
}

/// What a statement of ours sees of its session, and what others see after it.
const STATE: &str = "SELECT (SELECT count(*) FROM pg_prepared_statements)::text || ' '
    || current_setting('search_path') || ' ' || current_setting('lock_timeout') || ' '
    || current_setting('transaction_isolation')";

#[tokio::test]
async fn what_a_statement_sets_is_gone_after_it() {
    let Some(fixture) = fixture(&[("default_pool_size", "1")]).await else {
        return;
    };
    let url = fixture.pooler.url(fixture.database.name());
    let other = url.parse::<PgConnectOptions>().unwrap();
    let mut other = other.extra_float_digits(None).connect().await.unwrap();
    let strict = sqlx::raw_sql("SET default_transaction_isolation = 'serializable'");
    other.execute(strict).await.unwrap();
    let store = fixture.connect("own").await;
    store.migrate().await.unwrap();
    store.register_worker("w", LONG).await.unwrap();
    store.backlog().await.unwrap();
    let ours: String = sqlx::query_scalar(STATE)
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(ours, "0 own 20s read committed");
    let row = other.fetch_one(sqlx::raw_sql(STATE)).await.unwrap();
    let theirs: String = row.get(0);
    assert_eq!(theirs, "0 \"$user\", public 0 serializable");
}

#[tokio::test]
async fn a_pooler_that_ignores_what_it_does_not_know_is_noticed_too() {
    let settings = &[("ignore_startup_parameters", "options,extra_float_digits")];
    let Some(fixture) = fixture(settings).await else {
        return;
    };
    assert!(!fixture.connect("public").await.can_listen());
}

#[tokio::test]
async fn the_address_can_say_what_there_is() {
    let Some(fixture) = fixture(&[]).await else {
        return;
    };
    // Without a pooler it is said, and believed.
    let mut told = options(&fixture.database, "public");
    told.url.push_str("?pgbouncer=true");
    assert!(!Store::connect(&told).await.unwrap().can_listen());
    // With one it is denied, and what follows is told.
    let mut denied = fixture.options("public");
    denied.url.push_str("?pgbouncer=false&application_name=x");
    let told = match Store::connect(&denied).await.unwrap_err() {
        OpenError::Store(error) => error.sentence(),
        other => other.to_string(),
    };
    assert!(told.contains("unsupported startup parameter"), "{told}");
    // The option goes before the address.
    let mut options = options(&fixture.database, "public");
    options.pooler = Pooler::Transaction;
    options.url.push_str("?pgbouncer=false");
    assert!(!Store::connect(&options).await.unwrap().can_listen());
}
