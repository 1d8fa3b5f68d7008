//! How settings reach a session, and how a pooler is told from a server.

use crate::store::StoreOptions;
use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::sync::Arc;

/// What makes a session ours, by name and value. Other sessions of the role keep theirs.
const SETTINGS: &[(&str, &str)] = &[
    // Each statement must see what the one before it waited for. Where the database's default is
    // stricter, claims would fail whenever two workers meet.
    ("default_transaction_isolation", "read committed"),
    // Shorter than the patience of a worker: a statement that the server itself gives up leaves
    // its connection in order, one that is abandoned keeps it busy.
    ("lock_timeout", "20s"),
    // Ours never pause. One whose process is stuck, or beyond a link that is dead, must not keep
    // others from settling the same keys: they wait no longer than this for its locks.
    ("idle_in_transaction_session_timeout", "10s"),
    // What is asked again and again is planned once, and has an index for it: a plan that was made
    // while the tables were small must not walk over the backlog of the next rush. Where the plan
    // depends on what is asked, see `Store::begin_planned`.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    // Remembering what a row of the queue led to: no two rows lead to the same.
    ("enable_memoize", "off"),
    ("jit", "off"),
];

/// A setting that only a session of our own has.
const MARK: &str = "outbox.session";

/// What PostgreSQL calls a breach of its protocol. Poolers answer with it to a session setting
/// that they do not pass on.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Statements that sqlx has named within a transaction outlive it, and the next connection that
/// gets this session gives the same names. A pooler that keeps track of names has given others
/// of its own, which are not touched.
const FORGET_NAMES: &str = r"DO $$ DECLARE leftover text; BEGIN
    FOR leftover IN SELECT name FROM pg_catalog.pg_prepared_statements
                    WHERE name LIKE 'sqlx\_s\_%'
    LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', leftover); END LOOP; END $$";

/// How a connection is used.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// As a session.
    Direct {
        /// What the session asks for when it starts.
        settings: Arc<[(String, String)]>,
    },
    /// Each transaction may run in another session.
    Pooled {
        /// What each transaction sets for itself.
        set: Arc<str>,
        /// What begins the transaction of a single statement.
        begin_one: Arc<str>,
    },
}

impl Way {
    pub(super) fn direct(options: &StoreOptions) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut settings: Vec<_> = SETTINGS.iter().copied().map(owned).collect();
        settings.push(owned((MARK, "on")));
        settings.extend(
            options
                .search_path()
                .map(|path| owned(("search_path", path))),
        );
        Self::Direct {
            settings: settings.into(),
        }
    }

    pub(super) fn pooled(options: &StoreOptions) -> Self {
        let set = |(name, value): &(&str, &str)| format!("SET LOCAL {name} = '{value}'");
        let mut set = SETTINGS.iter().map(set).collect::<Vec<_>>().join("; ");
        if let Some(path) = options.search_path() {
            set.push_str("; SET LOCAL search_path = ");
            set.push_str(&quoted(path));
        }
        Self::Pooled {
            begin_one: format!("BEGIN ISOLATION LEVEL READ COMMITTED; {set}").into(),
            set: set.into(),
        }
    }

    pub(super) fn is_pooled(&self) -> bool {
        matches!(self, Self::Pooled { .. })
    }

    /// How to connect.
    pub(super) fn adapt(&self, options: PgConnectOptions) -> PgConnectOptions {
        match self {
            Self::Direct { settings } => {
                options.options(settings.iter().map(|(name, value)| (name, value)))
            }
            Self::Pooled { .. } => options.statement_cache_capacity(0),
        }
    }

    /// What begins a transaction of several statements, given what begins it on a session: BEGIN,
    /// and what the transaction sets for itself.
    pub(super) fn begin(&self, begin: &'static str) -> String {
        match self {
            Self::Direct { .. } => begin.to_owned(),
            Self::Pooled { set, .. } => {
                let (begin, own) = begin.split_once(';').unwrap_or((begin, ""));
                format!("{begin}; {set}; {FORGET_NAMES}; {own}")
            }
        }
    }

    /// What begins the transaction that a single statement needs, if it needs one.
    pub(super) fn begin_one(&self) -> Option<Arc<str>> {
        match self {
            Self::Direct { .. } => None,
            Self::Pooled { begin_one, .. } => Some(Arc::clone(begin_one)),
        }
    }
}

/// Whether `connection`, made the direct way, is a session of its own.
pub(super) async fn is_session(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let ask = sqlx::AssertSqlSafe(format!("SELECT current_setting('{MARK}', true)"));
    // Not prepared: a name would stay behind in a session that is not ours.
    let row = sqlx::Executor::fetch_one(connection, sqlx::raw_sql(ask)).await?;
    let mark: Option<String> = row.try_get(0)?;
    Ok(mark.is_some_and(|mark| mark == "on"))
}

/// Whether it was refused that a session's settings were asked for.
pub(super) fn refuses_settings(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == PROTOCOL_VIOLATION)
}

/// Whether another session might have done it: read-only since it began, or with statements
/// prepared before the tables changed or under names that are not known.
pub(super) fn is_about_the_session(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["25006", "0A000", "26000", "42P05"].contains(&&*code))
}

/// As an identifier in SQL. `"$user", public` and the like are lists, which ours never is.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
