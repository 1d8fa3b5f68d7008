//! channel-http
