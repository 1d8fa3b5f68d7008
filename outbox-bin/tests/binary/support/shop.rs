//! The database of an application.

use super::PATIENCE;
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::{Store, StoreOptions};
use serde_json::Value;
use sqlx::PgPool;
use std::time::{Duration, Instant};

/// A database, empty or migrated.
pub(crate) struct Shop {
    url: String,
    pub(crate) pool: PgPool,
    // After the pool: dropped last.
    _database: TestDatabase,
}

/// What `outbox_event_status` says about an event.
#[derive(Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Fate {
    pub(crate) status: String,
    pub(crate) last_error: Option<String>,
}

impl Shop {
    /// Stands in the database's URL; the server does not ask for it.
    pub(crate) const PASSWORD: &str = "Geheim-4711";

    pub(crate) async fn empty() -> Self {
        let database = TestDatabase::for_this_test().await.unwrap();
        let mut url = url::Url::parse(database.url()).unwrap();
        if url.password().is_none() {
            url.set_password(Some(Self::PASSWORD)).unwrap();
        }
        Self {
            pool: PgPool::connect(database.url()).await.unwrap(),
            url: url.into(),
            _database: database,
        }
    }

    pub(crate) async fn migrated() -> Self {
        let shop = Self::empty().await;
        let store = Store::connect(&StoreOptions::new(&shop.url)).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        shop
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement.
    pub(crate) async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    /// The number that a query answers with.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// What an application does: a plain INSERT.
    pub(crate) async fn insert(&self, event_type: &str, payload: Value) -> i64 {
        sqlx::query_scalar(
            "INSERT INTO outbox_events (event_type, payload) VALUES ($1, $2) RETURNING id",
        )
        .bind(event_type)
        .bind(payload)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn fate(&self, id: i64) -> Fate {
        sqlx::query_as("SELECT status, last_error FROM outbox_event_status WHERE id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn status(&self, id: i64) -> String {
        self.fate(id).await.status
    }

    /// Waits until the event is settled.
    pub(crate) async fn settled(&self, id: i64) -> Fate {
        self.until(
            "SELECT count(*) FROM outbox_event_status WHERE id = $1 AND processed_at IS NOT NULL",
            id,
        )
        .await;
        self.fate(id).await
    }

    /// Waits until the event is held.
    pub(crate) async fn held(&self, id: i64) {
        self.until(
            "SELECT count(*) FROM outbox_event_status WHERE id = $1 AND status = 'held'",
            id,
        )
        .await;
    }

    /// Waits until an attempt at the event has failed.
    pub(crate) async fn attempted(&self, id: i64) {
        self.until(
            "SELECT count(*) FROM outbox_attempts WHERE event_id = $1",
            id,
        )
        .await;
    }

    async fn until(&self, count: &'static str, id: i64) {
        let deadline = Instant::now() + PATIENCE;
        while sqlx::query_scalar::<_, i64>(count)
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
            == 0
        {
            assert!(
                Instant::now() < deadline,
                "event {id}: {:?}",
                self.fate(id).await
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
