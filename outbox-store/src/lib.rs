//! Everything Outbox says to PostgreSQL.
//!
//! An application enqueues in its own transaction, with [`enqueue`] here or with plain SQL:
//!
//! ```
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use outbox_store::{NewEvent, enqueue};
//!
//! let mut tx = pool.begin().await?;
//! // … the business change …
//! let id = enqueue(&mut *tx, &NewEvent::new("invoice.paid", serde_json::json!({"number": 7}))).await?;
//! tx.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The engine opens a [`Store`], registers a [`WorkerId`], claims with a [`Claimer`] and
//! settles. Each statement stands in a file of its own under `sql/`, checked at compile time.

mod channels;
mod claim;
mod connections;
mod contents;
mod enqueue;
mod error;
mod event;
mod events;
#[doc(hidden)]
pub mod fault;
mod listen;
mod migrate;
mod operate;
mod receipts;
mod report;
mod retention;
mod settle;
mod store;
mod worker;

pub use channels::ChannelState;
pub use claim::{ClaimId, Claimed, Claimer, Lane, Leased, Wanted};
pub use connections::Connections;
pub use contents::{Contents, NamedChannels};
pub use enqueue::{EnqueueError, NewEvent, enqueue, enqueue_many};
pub use error::{OpenError, StoreError};
pub use event::{EventAttempt, EventDetails, EventFacts, EventResult, EventWork};
pub use events::{EventFilter, EventPage, EventStatus, EventSummary};
pub use listen::Listener;
pub use migrate::{Migration, MigrationStatus};
pub use operate::{InFlight, Operated, Replay};
pub use receipts::Recorded;
pub use report::{Backlog, Settled, WorkerState};
pub use retention::Pruned;
pub use settle::{FailedAttempt, Left, Outcome, ResultStatus, Settlement, Wait, Written};
pub use store::{Pooler, Store, StoreOptions};
pub use worker::WorkerId;
