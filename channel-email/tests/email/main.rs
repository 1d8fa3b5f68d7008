//! The e-mail channel against a server on a real socket.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod connections;
mod content;
mod failures;
mod refusals;
mod settings;

use channel_email::{Email, EmailConfig};
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, DeliveryBuilder, Event,
};
use outbox_sandbox::smtp::SmtpServer;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn name() -> ChannelName {
    "email".parse().unwrap()
}

/// Settings that name `server` and a sender.
fn settings(server: &SmtpServer) -> EmailConfig {
    EmailConfig {
        url: Some(server.url().into()),
        from: Some("Outbox <outbox@example.org>".to_owned()),
        ..EmailConfig::default()
    }
}

fn build(config: EmailConfig) -> Result<Box<dyn Channel>, BuildError> {
    Email::build(&name(), config)
}

/// A server that takes everything, and a channel to it.
async fn pair() -> (SmtpServer, Box<dyn Channel>) {
    let server = SmtpServer::start().await.unwrap();
    let channel = build(settings(&server)).unwrap();
    (server, channel)
}

fn event(id: i64, payload: &Value) -> Event {
    Event {
        id,
        event_type: "test".to_owned(),
        payload: to_raw_value(payload).unwrap(),
        headers: BTreeMap::new(),
        key: None,
        max_retries: None,
        expires_at: None,
        created_at: std::time::SystemTime::UNIX_EPOCH.into(),
    }
}

fn builder(id: i64, payload: &Value) -> DeliveryBuilder {
    DeliveryBuilder::new("inst", Arc::new(event(id, payload)), name())
}

fn delivery(payload: &Value) -> Delivery {
    builder(1, payload).build()
}

/// A short mail with this subject.
fn short(subject: &str) -> Delivery {
    delivery(&message(subject))
}

/// One that is given up after two seconds.
fn hasty(subject: &str) -> Delivery {
    let timeout = Duration::from_secs(2);
    builder(1, &message(subject)).timeout(timeout).build()
}

fn message(subject: &str) -> Value {
    json!({"to": "ada@example.org", "subject": subject, "text": "Hello."})
}
