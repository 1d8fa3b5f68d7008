//! The channel against a stand-in for Twilio.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod search;
mod send;
mod verify;

use channel_sms::{Sms, SmsConfig};
use outbox_channel::{Channel, ChannelFactory, Delivery, DeliveryBuilder, ErrorClass, SendError};
use outbox_sandbox::twilio::TwilioServer;
use serde_json::{Value, json};
use std::time::Duration;

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "t0p-s3cret";
const TEXT: &str = "Your code is abcd";

async fn twilio() -> TwilioServer {
    TwilioServer::start(ACCOUNT, TOKEN).await.unwrap()
}

fn build(settings: Value) -> Box<dyn Channel> {
    let config: SmsConfig = serde_json::from_value(settings).unwrap();
    Sms::build(&"sms".parse().unwrap(), config).unwrap()
}

fn channel(base_url: &str, token: &str) -> Box<dyn Channel> {
    build(json!({
        "account_sid": ACCOUNT, "auth_token": token, "from": "+15005550006", "base_url": base_url,
    }))
}

fn delivery(payload: &Value) -> Delivery {
    Delivery::builder("code", &payload.to_string())
        .unwrap()
        .build()
}

fn to(number: &str) -> Delivery {
    delivery(&json!({"to": number, "body": TEXT}))
}

/// What no error may show.
fn is_clean(error: &SendError) -> bool {
    let shown = format!("{error} {error:?} {:?}", error.answer());
    // The last one is the credentials in base64.
    [TEXT, "5550", TOKEN, "dDBwLXMzY3JldA"]
        .iter()
        .all(|secret| !shown.contains(secret))
}

/// One that gives up after a second.
fn impatient(number: &str) -> Delivery {
    let event = to(number).event().clone();
    DeliveryBuilder::new("test", event.into(), "sms".parse().unwrap())
        .timeout(Duration::from_secs(1))
        .build()
}

fn told(error: &SendError) -> (ErrorClass, &str) {
    (error.class(), error.code())
}
