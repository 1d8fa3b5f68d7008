//! Connections kept open for the next mail.

use lettre::transport::smtp::client::AsyncSmtpConnection;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// At most so many connections, in use and idle together: whoever has a slot takes an idle
/// connection where there is one, and opens a new one only where there is none.
pub(crate) struct Pool {
    slots: Semaphore,
    /// The one used last is on top.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Pool {
    /// Servers and the boxes on the way to them forget idle connections, some without a word:
    /// one that has rested for longer is not worth a try.
    const MAX_IDLE: Duration = Duration::from_secs(20);

    pub(crate) fn new(size: usize) -> Self {
        Self {
            slots: Semaphore::new(size),
            idle: Mutex::default(),
        }
    }

    /// Waits until fewer than the allowed number of connections are in use.
    pub(crate) async fn slot(&self) -> Slot<'_> {
        Slot {
            pool: self,
            // Fails only when closed, which this semaphore never is.
            _permit: self.slots.acquire().await.ok(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one connection.
pub(crate) struct Slot<'a> {
    pool: &'a Pool,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Slot<'_> {
    /// A connection that has been used before, if there is one. It is the caller's now:
    /// unless it is given back, it is closed.
    pub(crate) fn idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.pool.idle();
        idle.retain(|entry| entry.since.elapsed() < Pool::MAX_IDLE);
        idle.pop().map(|entry| entry.connection)
    }

    /// Keeps `connection` for the next mail. Only for one whose every answer has been read.
    pub(crate) fn give_back(self, connection: AsyncSmtpConnection) {
        self.pool.idle().push(Idle {
            connection,
            since: Instant::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lettre::transport::smtp::extension::ClientId;
    use outbox_sandbox::smtp::SmtpServer;

    #[tokio::test]
    async fn a_connection_that_has_rested_too_long_is_not_tried() {
        let server = SmtpServer::start().await.unwrap();
        let pool = Pool::new(1);
        for (rested, fresh) in [(Duration::ZERO, true), (Pool::MAX_IDLE, false)] {
            let hello = ClientId::default();
            let connecting =
                AsyncSmtpConnection::connect_tokio1(server.address(), None, &hello, None, None);
            let connection = connecting.await.unwrap();
            pool.slot().await.give_back(connection);
            for entry in pool.idle().iter_mut() {
                entry.since = entry.since.checked_sub(rested).unwrap();
            }
            assert_eq!(pool.slot().await.idle().is_some(), fresh);
        }
    }
}
