//! Brings the tables to the state this program was written for.

use crate::error::{OpenError, StoreError};
use crate::store::Store;
use chrono::{DateTime, Utc};

/// One file of `migrations/`. It is a single statement that guards itself, so it may be applied
/// by this library, by `psql -f`, or by any other tool, in any number of processes at once.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counted from 1, without gaps.
    pub version: i32,
    /// The file's name.
    pub file: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        file: "0001_outbox.sql",
        sql: include_str!("../../migrations/0001_outbox.sql"),
    },
    Migration {
        version: 2,
        file: "0002_receipts.sql",
        sql: include_str!("../../migrations/0002_receipts.sql"),
    },
    Migration {
        version: 3,
        file: "0003_unblock.sql",
        sql: include_str!("../../migrations/0003_unblock.sql"),
    },
    Migration {
        version: 4,
        file: "0004_unblock.sql",
        sql: include_str!("../../migrations/0004_unblock.sql"),
    },
    Migration {
        version: 5,
        file: "0005_unblock.sql",
        sql: include_str!("../../migrations/0005_unblock.sql"),
    },
    Migration {
        version: 6,
        file: "0006_producers.sql",
        sql: include_str!("../../migrations/0006_producers.sql"),
    },
    Migration {
        version: 7,
        file: "0007_keys.sql",
        sql: include_str!("../../migrations/0007_keys.sql"),
    },
];

/// What a database has and what it lacks.
#[derive(Debug, Clone)]
pub struct MigrationStatus {
    /// Applied, oldest first: the file and when.
    pub applied: Vec<(String, DateTime<Utc>)>,
    /// Not applied yet, in the order in which they will be.
    pub pending: Vec<Migration>,
    /// Applied by a newer program: files that this one does not know.
    pub unknown: Vec<String>,
}

impl Store {
    /// Applies what is pending, one transaction each, and returns that. The schema is made when
    /// it is not there.
    ///
    /// # Errors
    /// When the database is newer than this program, or a statement fails; what was applied
    /// before stays.
    pub async fn migrate(&self) -> Result<Vec<Migration>, OpenError> {
        self.create_schema().await?;
        let status = self.migration_status().await?;
        if let Some(unknown) = status.unknown.into_iter().next() {
            return Err(OpenError::Newer { unknown });
        }
        for migration in &status.pending {
            sqlx::raw_sql(migration.sql)
                .execute(&self.pool)
                .await
                .map_err(StoreError::during("apply a migration"))?;
        }
        Ok(status.pending)
    }

    /// What has been applied and what has not.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn migration_status(&self) -> Result<MigrationStatus, StoreError> {
        let applied = self.applied_migrations().await?;
        let is_applied = |migration: &&Migration| {
            applied
                .iter()
                .any(|(version, ..)| *version == migration.version)
        };
        let is_unknown = |version: i32| MIGRATIONS.iter().all(|known| known.version != version);
        Ok(MigrationStatus {
            pending: MIGRATIONS
                .iter()
                .filter(|m| !is_applied(m))
                .copied()
                .collect(),
            unknown: applied
                .iter()
                .filter(|(version, ..)| is_unknown(*version))
                .map(|(_, file, _)| file.clone())
                .collect(),
            applied: applied
                .into_iter()
                .map(|(_, file, at)| (file, at))
                .collect(),
        })
    }

    pub(crate) async fn check_schema(&self) -> Result<(), OpenError> {
        let status = self.migration_status().await?;
        if let Some(unknown) = status.unknown.into_iter().next() {
            return Err(OpenError::Newer { unknown });
        }
        match status.pending.first() {
            Some(missing) => Err(OpenError::Older {
                missing: missing.file.to_owned(),
            }),
            None => Ok(()),
        }
    }

    async fn create_schema(&self) -> Result<(), StoreError> {
        let exists = sqlx::query_scalar::<_, bool>("SELECT to_regnamespace($1) IS NOT NULL")
            .bind(&self.schema)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::during("look for the schema"))?;
        if exists {
            return Ok(());
        }
        // `IF NOT EXISTS` alone fails when two do it at the same time. The name was checked to
        // need no escaping when the store was made; the quotes are for `user` and its like.
        let statement = format!(
            "SELECT pg_advisory_xact_lock(hashtext('outbox_migrations')); \
             CREATE SCHEMA IF NOT EXISTS \"{}\"",
            self.schema
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&self.pool)
            .await
            .map_err(StoreError::during("create the schema"))?;
        Ok(())
    }

    // Not checked at compile time: the table may not exist.
    async fn applied_migrations(&self) -> Result<Vec<(i32, String, DateTime<Utc>)>, StoreError> {
        let during = StoreError::during("read which migrations were applied");
        let exists = "SELECT to_regclass('outbox_migrations') IS NOT NULL";
        let exists = sqlx::query_scalar::<_, bool>(exists)
            .fetch_one(&self.pool)
            .await;
        match exists {
            Ok(true) => sqlx::query_as(
                "SELECT version, file, applied_at FROM outbox_migrations ORDER BY version",
            )
            .fetch_all(&self.pool)
            .await
            .map_err(during),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(during(error)),
        }
    }
}
