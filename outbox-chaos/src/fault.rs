//! What can be done to the system.

use outbox_sandbox::proxy::Direction;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Whose connections to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// A worker's to the database.
    Database(usize),
    /// A worker's to the receiver.
    Provider(usize),
    /// All producers' to the database.
    Producers,
}

/// What is done to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    Cut,
    HalfClose(Direction),
    Stall(Option<Direction>),
    Slow(Direction, NonZeroU32),
    Refuse,
    /// Those that there are, for good.
    Silence,
}

/// What is done to the server of the database. Workers and producers suffer alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It dies, and is started again.
    Crash,
    /// All sessions are ended, and may come back at once.
    Disconnect,
    /// All sessions are ended, and only so many may come back.
    Connections(u8),
    /// It writes nothing, as a replica that is not promoted yet.
    ReadOnly,
    /// No statement may take longer; in milliseconds.
    StatementTimeout(u8),
    /// Transactions are serializable unless they say otherwise.
    Serializable,
    /// Somebody has a table for himself.
    Locked(Table),
    /// Somebody locks rows of the queue, one by one, the other way round.
    Deadlocks,
    /// SIGSTOP of so many sessions, and SIGCONT after a while.
    Frozen(u8),
    /// Tables cannot grow.
    DiskFull,
}

/// A table worth locking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Events,
    Queue,
    Deliveries,
    Workers,
}

impl Table {
    pub(crate) const ALL: [Self; 4] = [Self::Events, Self::Queue, Self::Deliveries, Self::Workers];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "outbox_events",
            Self::Queue => "outbox_queue",
            Self::Deliveries => "outbox_deliveries",
            Self::Workers => "outbox_workers",
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and a restart.
    Kill(usize),
    /// SIGSTOP, and SIGCONT after a while.
    Pause(usize),
    /// SIGTERM, and a restart.
    Terminate(usize),
    /// SIGTERM and a restart, one worker after the other.
    Roll,
    Server(Trouble),
    Damage(Link, Damage),
}

impl Fault {
    /// To count by.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "worker killed",
            Self::Pause(_) => "worker paused",
            Self::Terminate(_) => "worker terminated",
            Self::Roll => "rolling restart",
            Self::Server(trouble) => trouble.kind(),
            Self::Damage(Link::Database(_), damage) => damage.on_database(),
            Self::Damage(Link::Provider(_), damage) => damage.on_provider(),
            Self::Damage(Link::Producers, _) => "producers' link",
        }
    }
}

impl Trouble {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Crash => "PostgreSQL crash",
            Self::Disconnect => "sessions terminated",
            Self::Connections(_) => "connection limit",
            Self::ReadOnly => "read-only",
            Self::StatementTimeout(_) => "statement timeout",
            Self::Serializable => "serializable",
            Self::Locked(_) => "table locked",
            Self::Deadlocks => "deadlocks",
            Self::Frozen(_) => "sessions frozen",
            Self::DiskFull => "disk full",
        }
    }
}

impl Damage {
    fn on_database(self) -> &'static str {
        match self {
            Self::Cut => "database link cut",
            Self::HalfClose(_) => "database link half-closed",
            Self::Stall(_) => "database link stalled",
            Self::Slow(..) => "database link slowed",
            Self::Refuse => "database link refused",
            Self::Silence => "database link silenced",
        }
    }

    fn on_provider(self) -> &'static str {
        match self {
            Self::Cut => "provider link cut",
            Self::HalfClose(_) => "provider link half-closed",
            Self::Stall(_) => "provider link stalled",
            Self::Slow(..) => "provider link slowed",
            Self::Refuse => "provider link refused",
            Self::Silence => "provider link silenced",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(slot) | Self::Pause(slot) | Self::Terminate(slot) => {
                write!(f, "{} (worker {slot})", self.kind())
            }
            Self::Roll => f.write_str(self.kind()),
            Self::Server(trouble) => write!(f, "{} ({trouble:?})", self.kind()),
            Self::Damage(Link::Database(slot) | Link::Provider(slot), damage) => {
                write!(f, "{} (worker {slot}, {damage:?})", self.kind())
            }
            Self::Damage(Link::Producers, damage) => write!(f, "{} ({damage:?})", self.kind()),
        }
    }
}

/// A fault, when to begin it after the one before, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) wait: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
}
