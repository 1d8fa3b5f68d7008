//! channel-sms
