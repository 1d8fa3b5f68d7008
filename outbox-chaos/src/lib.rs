//! The chaos suite: a real Outbox (processes, PostgreSQL, sockets) under traffic and under
//! faults, and a judge who believes only a ledger that is kept outside of it.
//!
//! The ledger has what producers have committed, what the receiver was sent and what it
//! answered, and what was broken when. In the end everything that was committed must have
//! arrived or be recorded as given up with a reason; nothing that was rolled back may have
//! arrived; every duplicate must be explained by something that was done; and events of one key
//! must have come in order.

mod database;
mod fault;
mod journal;
mod judge;
mod options;
mod producer;
mod receiver;
mod report;
mod run;
mod system;
mod worker;

pub use options::Options;
pub use report::Report;
pub use run::run;
