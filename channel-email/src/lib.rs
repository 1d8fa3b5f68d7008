//! channel-email
