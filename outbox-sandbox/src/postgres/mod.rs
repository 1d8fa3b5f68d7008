//! Throwaway PostgreSQL, for systems with `sh` and the server's programs (14 or newer).
//!
//! - [`Cluster`]: a server of one's own, gone when it is dropped or its owner dies.
//! - [`TestDatabase`]: a fresh database for one test, on a server that all tests of a run share.
//!
//! `OUTBOX_SANDBOX_KEEP=1` in the environment keeps each server running, and prints how to
//! connect to it and how to remove it.

mod binaries;
mod blocking;
mod cluster;
mod error;
mod home;
mod server;
mod test_database;

pub use cluster::{Cluster, ClusterOptions};
pub use error::SandboxError;
pub use server::StopMode;
pub use test_database::TestDatabase;
