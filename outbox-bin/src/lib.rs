//! outbox-bin
