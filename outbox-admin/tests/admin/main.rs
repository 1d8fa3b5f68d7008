//! The HTTP side over real sockets, with a real database.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod callbacks;
mod client;
mod dispatch;
mod errors;
mod fixture;
mod keys;
mod limits;
mod readiness;
mod shutdown;
mod stats;
