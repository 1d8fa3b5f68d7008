//! Throwaway PostgreSQL, for systems with `sh` and the server's programs (14 or newer).
//!
//! - [`Cluster`]: a server of one's own, gone when it is dropped or its owner dies.
//! - [`TestDatabase`]: a fresh database for one test, on a server that all tests of a run share.
//! - `PgBouncer` (feature `pgbouncer`): a connection pooler in front of either.
//!
//! `OUTBOX_SANDBOX_KEEP=1` in the environment keeps each server running, and prints how to
//! connect to it and how to remove it.

mod binaries;
mod blocking;
mod cluster;
mod error;
mod home;
#[cfg(feature = "pgbouncer")]
mod pgbouncer;
mod server;
mod test_database;

pub use cluster::{Cluster, ClusterOptions};
pub use error::SandboxError;
#[cfg(feature = "pgbouncer")]
pub use pgbouncer::PgBouncer;
pub use server::StopMode;
pub use test_database::TestDatabase;

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Free at this moment; it can be taken before the server has it.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
