//! outbox-engine
