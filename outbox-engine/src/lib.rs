//! Routes events to channels, delivers them, and decides what follows from each outcome.
//!
//! A [`Worker`] claims from an [`outbox_store::Store`], asks its [`Router`] where each event
//! goes, delivers through [`Channel`]s within their limits, and settles. What follows from an
//! outcome is decided by [`decide`], without I/O.
//!
//! The engine knows neither settings files nor how its channels work.

mod breaker;
mod delivery;
mod disposition;
mod lease;
mod outlet;
mod retry;
mod router;
mod settler;
mod shared;
mod shift;
mod summary;
mod template;
mod worker;

pub use disposition::{Disposition, OnAmbiguous, decide};
pub use outlet::{ChannelSpec, RateLimit};
pub use retry::RetryPolicy;
pub use router::{PatternError, Plan, Route, Router, Targets};
pub use summary::Summary;
pub use template::{MessageTemplate, TemplateError};
pub use worker::{Health, Retention, Worker, WorkerOptions};

/// The channel vocabulary, where people look for it first.
pub use outbox_channel::*;
