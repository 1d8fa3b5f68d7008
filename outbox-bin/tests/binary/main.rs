//! The real binary, used as an operator uses it: commands, variables, files, signals, a
//! PostgreSQL, and stand-ins for the providers. No output may hold a secret (`Scene::secret`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod admin;
mod bad_events;
mod callbacks;
mod cancel;
mod channels;
mod demo;
mod dispatch;
mod enqueue;
mod events;
mod held;
mod migrate;
mod one_cycle;
mod poison;
mod reports;
mod restart;
mod run;
mod settings;
mod start;
mod support;
mod trouble;
