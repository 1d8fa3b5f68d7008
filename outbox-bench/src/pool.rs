//! Connections of the benchmark's own.

use sqlx::postgres::{PgPool, PgPoolOptions};

/// Exactly `connections`, all of them open already: opening one is not what is measured.
pub(crate) async fn connect(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .min_connections(connections)
        .max_connections(connections)
        .test_before_acquire(false)
        .connect(url)
        .await
}
