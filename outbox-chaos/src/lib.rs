//! The chaos suite: a real Outbox (processes, PostgreSQL, sockets) under traffic and under
//! faults, and a judge who believes only a ledger that is kept outside of it.
//!
//! The ledger has what producers have committed, what operators were told, what the receiver was
//! sent and what it answered, and what was broken when. In the end everything that was committed
//! must have arrived or be recorded as given up with a reason; nothing that was rolled back may
//! have arrived; every duplicate must be explained by something that was done, and is not there at
//! all where a channel must not send twice; events of one key must have come in order, and none
//! before its time or after it; what was cancelled must not have been sent; and retention must have
//! removed nothing that was unsettled.

mod channels;
mod database;
mod fault;
mod journal;
mod judge;
mod operator;
mod options;
mod plan;
mod producer;
mod receiver;
mod recipe;
mod report;
mod run;
mod system;
mod worker;

pub use options::Options;
pub use report::Report;
pub use run::run;
