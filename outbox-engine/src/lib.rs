//! Routes events to channels, delivers them, and decides what follows from each outcome.
//!
//! A [`Worker`] claims from an [`outbox_store::Store`], asks its [`Router`] where each event
//! goes, delivers through [`Channel`]s within their limits, and settles. What follows from an
//! outcome is decided by [`decide`], without I/O.
//!
//! The engine knows neither settings files nor how its channels work.

mod assembly;
mod breaker;
mod delivery;
mod disposition;
mod health;
mod intake;
mod intents;
mod large;
mod lease;
mod options;
mod outlet;
mod part;
mod retention;
mod retry;
mod rounds;
mod router;
mod settler;
mod shared;
mod shift;
mod summary;
mod template;
mod trouble;
mod unknown;
mod waiting;
mod wake;
mod worker;

pub use disposition::{Disposition, OnAmbiguous, OnDead, decide};
pub use health::Health;
pub use large::LARGEST_PAYLOAD;
pub use options::WorkerOptions;
pub use outlet::{ChannelSpec, RateLimit};
pub use retention::Retention;
pub use retry::RetryPolicy;
pub use router::{PatternError, Plan, Route, Router, Targets};
pub use summary::Summary;
pub use template::{MessageTemplate, TemplateError};
pub use worker::Worker;

/// The channel vocabulary, where people look for it first.
pub use outbox_channel::*;
