//! The vocabulary of Outbox and the [`Channel`] trait: all that the author of a channel
//! plugin compiles. No database, no HTTP client, no TLS.
//!
//! A channel takes one [`Delivery`] at a time to one provider and says how it went: a
//! [`Receipt`], or a [`SendError`] whose [`ErrorClass`] tells the engine what may be done
//! next. Routing, retries, limits, deadlines and bookkeeping are the engine's.
//!
//! ```
//! use outbox_channel::{BuildError, Channel, ChannelFactory, ChannelName};
//! use outbox_channel::{Delivery, Receipt, SendError, async_trait};
//!
//! /// Writes each payload to a file of its own.
//! struct Spool { folder: std::path::PathBuf }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct SpoolConfig { folder: std::path::PathBuf }
//!
//! #[async_trait]
//! impl Channel for Spool {
//!     async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
//!         // The delivery id is the same on every attempt, so a repeated write is harmless.
//!         let file = self.folder.join(delivery.id().as_str());
//!         std::fs::write(&file, delivery.payload().get()).map_err(|error| {
//!             SendError::transient("io", format!("cannot write {}", file.display())).with_source(error)
//!         })?;
//!         Ok(Receipt::new())
//!     }
//! }
//!
//! impl ChannelFactory for Spool {
//!     const KIND: &'static str = "spool";
//!     type Config = SpoolConfig;
//!
//!     fn build(_: &ChannelName, config: SpoolConfig) -> Result<Box<dyn Channel>, BuildError> {
//!         Ok(Box::new(Spool { folder: config.folder }))
//!     }
//! }
//! ```

mod callback;
mod channel;
mod delivery;
mod error;
pub mod http;
mod name;
mod receipt;

pub use callback::{Callback, CallbackError, Report, ReportedStatus};
#[cfg(feature = "mock")]
pub use channel::MockChannel;
pub use channel::{BuildError, Channel, ChannelFactory, Verdict};
pub use delivery::{Delivery, DeliveryBuilder, DeliveryId, Event};
pub use error::{ErrorClass, SendError};
pub use name::{ChannelName, InvalidChannelName};
pub use receipt::Receipt;

/// Re-exported so that a plugin needs no dependency of its own for the trait's methods.
pub use async_trait::async_trait;
