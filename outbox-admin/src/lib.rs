//! outbox-admin
