//! A throwaway PostgreSQL and stand-ins for the providers, with faults on demand: for the
//! demo, for tests, and for the authors of channel plugins.

mod faults;
#[cfg(any(feature = "twilio", feature = "webhook"))]
mod http;
#[cfg(any(feature = "twilio", feature = "webhook"))]
mod ledger;
#[cfg(feature = "log")]
pub mod log;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "smtp")]
pub mod smtp;
#[cfg(feature = "twilio")]
pub mod twilio;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use faults::Faults;
