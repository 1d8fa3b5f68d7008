//! What a provider tells later, to a real `outbox run` behind a public address.

use crate::admin::address_in;
use crate::support::{Providers, Scene, Shop, request};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

const PHONE: &str = "+15551234567";
const CUT_OFF: &str = "+15557654321";

/// A public address, and what stands between it and the admin side.
struct Front {
    listener: TcpListener,
    url: String,
}

impl Front {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/twilio/sms", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Passes on what comes to it, as a reverse proxy does.
    fn open(self, behind: String) -> AbortHandle {
        let proxy = async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut public, _) = self.listener.accept().await.unwrap();
                let behind = behind.clone();
                connections.spawn(async move {
                    let mut private = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut public, &mut private).await;
                });
            }
        };
        tokio::spawn(proxy).abort_handle()
    }
}

fn scene(shop: &Shop, providers: &Providers, url: &str) -> Scene {
    providers
        .scene(shop)
        .set("OUTBOX_CHANNELS__SMS__SETTINGS__STATUS_CALLBACK", url)
}

#[tokio::test]
async fn it_is_shown_with_the_event() {
    let (shop, providers) = (Shop::migrated().await, Providers::start().await);
    providers.twilio.cut_off(CUT_OFF);
    let front = Front::new().await;
    let scene = scene(&shop, &providers, &front.url)
        .secret("5551234")
        .secret("5557654");
    let running = scene.worker().await;
    let proxy = front.open(address_in(&running.line("admin side listens").await));

    let payload = |to: &str| json!({ "channels": ["sms"], "to": to, "body": "hi" });
    let arrives = shop.insert("a", payload(PHONE)).await;
    let does_not = shop.insert("b", payload(CUT_OFF)).await;
    for event in [arrives, does_not] {
        assert_eq!(shop.settled(event).await.status, "processed");
    }
    providers.twilio.wait_for_callbacks(6).await;
    let warning = running.line("not delivered after all").await;
    for part in ["WARN", "status=\"undelivered\"", "code=\"30003\""] {
        assert!(warning.contains(part), "{warning}");
    }
    proxy.abort();
    running.stop().await;

    let result = async |id: i64| {
        let shown = scene.json(&["events", "show", &id.to_string()]).await;
        shown["results"][0].clone()
    };
    let [arrived, lost] = [result(arrives).await, result(does_not).await];
    let of = |result: &Value| {
        [
            &result["status"],
            &result["reported"],
            &result["reported_code"],
        ]
        .map(Value::clone)
    };
    assert_eq!(
        of(&arrived),
        [json!("delivered"), json!("delivered"), Value::Null]
    );
    assert_eq!(
        of(&lost),
        [json!("delivered"), json!("undelivered"), json!("30003")]
    );
    let text = scene.ok(&["events", "show", &does_not.to_string()]).await;
    assert!(
        text.contains("REPORTED SINCE") && text.contains("undelivered (30003), 2"),
        "{text}"
    );
    let text = scene.ok(&["status"]).await;
    assert!(text.contains("REPORTED SINCE"), "{text}");
    let receipts = scene.json(&["status"]).await["receipts"].clone();
    let count = |status: &str| json!({ "channel": "sms", "status": status, "count": 1 });
    assert_eq!(receipts, json!([count("delivered"), count("undelivered")]));
}

#[tokio::test]
async fn without_status_callback_there_is_nobody_to_tell() {
    let (shop, providers) = (Shop::migrated().await, Providers::start().await);
    let running = providers.scene(&shop).worker().await;
    let address = address_in(&running.line("admin side listens").await);
    for channel in ["sms", "webhook", "nobody"] {
        let path = format!("/hooks/twilio/{channel}");
        let answer = request(&address, "POST", &path, None, "").await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_url_that_twilio_cannot_call_is_told_at_once() {
    let (shop, providers) = (Shop::migrated().await, Providers::start().await);
    let scene = scene(&shop, &providers, "outbox.example.org/hooks/twilio/sms");
    let log = scene.outbox(&["run"]).await.failed(2);
    let told =
        "`channels.sms.settings.status_callback`: must be the public http:// or https:// URL";
    assert!(log.contains(told), "{log}");
}
