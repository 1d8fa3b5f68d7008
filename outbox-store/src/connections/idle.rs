//! Connections that wait for their next statement.
//!
//! sqlx's pool pings each connection that comes back, which is one more round trip per statement,
//! and takes until TCP gives up when the connection has died meanwhile. So what is in order stays
//! here, and goes back only when somebody waits for it there, or for the pool to judge its age.

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Idle(Mutex<State>);

#[derive(Default)]
struct State {
    /// The last one used comes last.
    connections: VecDeque<Kept>,
    /// So many wait for the pool to give them one.
    waiting: usize,
}

struct Kept {
    borrowed: Borrowed,
    since: Instant,
}

/// A connection in use.
pub(super) struct Borrowed {
    connection: PoolConnection<Postgres>,
    /// The pool gave it then.
    since: Instant,
}

impl Idle {
    /// The pool looks at a connection's age, and at how long it was idle, so often.
    const INSPECTION: Duration = Duration::from_secs(60);

    pub(super) fn take(&self) -> Option<Borrowed> {
        let kept = self.state().connections.pop_back()?;
        Some(kept.borrowed)
    }

    /// For as long as this is held, connections go back to the pool. To be followed by one more
    /// [`take`](Self::take): one may have come just before.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.state().waiting += 1;
        Waiting(self)
    }

    /// Keeps a connection whose statement has succeeded, unless the pool is the better place.
    pub(super) fn keep(&self, borrowed: Borrowed, is_closed: impl FnOnce() -> bool) {
        let now = Instant::now();
        let is_due = |since: Instant| now.duration_since(since) >= Self::INSPECTION;
        let mut state = self.state();
        // Dropped after the lock: what goes back takes locks of its own.
        let _goes_back = state.connections.pop_front_if(|kept| is_due(kept.since));
        if state.waiting > 0 || is_due(borrowed.since) || is_closed() {
            drop(state);
            drop(borrowed);
            return;
        }
        state.connections.push_back(Kept {
            borrowed,
            since: now,
        });
        drop(state);
    }

    /// All of them go back to the pool.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut self.state().connections);
        drop(all);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There may be no runtime any more in which they could go back.
impl Drop for Idle {
    fn drop(&mut self) {
        for kept in self.state().connections.drain(..) {
            drop(kept.borrowed.connection.detach());
        }
    }
}

// By hand: a connection has nothing to tell.
impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Idle")
            .field("connections", &state.connections.len())
            .field("waiting", &state.waiting)
            .finish()
    }
}

pub(super) struct Waiting<'a>(&'a Idle);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Borrowed {
    /// Its transaction takes it back to the pool.
    pub(super) fn into_connection(self) -> PoolConnection<Postgres> {
        self.connection
    }
}

impl From<PoolConnection<Postgres>> for Borrowed {
    fn from(connection: PoolConnection<Postgres>) -> Self {
        Self {
            connection,
            since: Instant::now(),
        }
    }
}

impl Deref for Borrowed {
    type Target = PoolConnection<Postgres>;

    fn deref(&self) -> &PoolConnection<Postgres> {
        &self.connection
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PoolConnection<Postgres> {
        &mut self.connection
    }
}
