//! channel-webhook
