//! Running a statement on whatever connection is free.

use super::{Connections, dialect, no_answer};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{TryFutureExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{AssertSqlSafe, Connection, Either, Execute, Executor, Postgres, SqlStr};
use std::io;
use tokio::time::timeout;

type Answers = Vec<Either<PgQueryResult, PgRow>>;

impl Connections {
    async fn run<'q, E>(&self, query: E) -> Result<Answers, sqlx::Error>
    where
        E: Execute<'q, Postgres> + 'q,
    {
        let running = self.run_without_limit(query);
        let Some(limit) = self.limit else {
            return running.await;
        };
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, no_answer(limit)).into());
        timeout(limit, running).await.unwrap_or_else(late)
    }

    async fn run_without_limit<'q, E>(&self, query: E) -> Result<Answers, sqlx::Error>
    where
        E: Execute<'q, Postgres> + 'q,
    {
        let mut connection = self.acquire().await?;
        let answers = match self.way.begin_one() {
            None => connection.fetch_many(query).try_collect().await,
            Some(begin) => run_alone(&mut connection, AssertSqlSafe(begin), query).await,
        };
        match &answers {
            // The pool does it.
            Ok(_) if self.are_trimmed => drop(connection),
            Ok(_) => self.idle.keep(connection, || self.pool.is_closed()),
            Err(error) if dialect::is_about_the_session(error) => connection.close_on_drop(),
            Err(_) => {}
        }
        answers
    }
}

/// Between the two steps that a statement takes, preparing and running, a pooler may change the
/// session; within a transaction it may not.
async fn run_alone<'q, E>(
    connection: &mut PgConnection,
    begin: AssertSqlSafe<std::sync::Arc<str>>,
    query: E,
) -> Result<Answers, sqlx::Error>
where
    E: Execute<'q, Postgres> + 'q,
{
    let mut transaction = connection.begin_with(begin).await?;
    let answers = transaction.fetch_many(Unnamed(query)).try_collect().await?;
    transaction.commit().await?;
    Ok(answers)
}

/// A statement that is not given a name when it is prepared: a name would stay behind in a
/// session that is not ours.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

impl<'c> Executor<'c> for &'c Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answers = self.run(query);
        Box::pin(
            answers
                .map_ok(|all| stream::iter(all.into_iter().map(Ok)))
                .try_flatten_stream(),
        )
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let first_row = |answers: Answers| answers.into_iter().find_map(Either::right);
        Box::pin(self.run(query).map_ok(first_row))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.acquire().await?.describe(sql).await })
    }
}
