//! The store against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod claim;
mod common;
mod contents;
mod enqueue;
mod enqueue_many;
mod explain;
mod lease;
mod list;
mod migrate;
mod model;
mod next_due;
mod operate;
mod order;
mod overlap;
mod plans;
mod pooler;
mod producer;
mod receipts;
mod report;
mod restore;
mod resume;
mod retention;
mod settle;
mod status;
mod status_plans;
mod trouble;
mod wake_up;
