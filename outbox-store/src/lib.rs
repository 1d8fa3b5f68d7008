//! outbox-store
