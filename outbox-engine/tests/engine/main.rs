//! Workers, a real database, and channels that do as told.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod breaker;
mod channels;
mod common;
mod database;
mod delivery;
mod fan_out;
mod large;
mod lease;
mod limits;
mod log;
mod order;
mod pooler;
mod resume;
mod retention;
mod server;
mod shutdown;
mod trouble;
mod unknown;
mod unread;
mod wake_up;
