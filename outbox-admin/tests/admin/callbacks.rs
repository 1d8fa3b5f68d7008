//! `POST /hooks/{source}/{channel}`, with a real channel and a provider that calls back.

use crate::client::{Answer, Call, STATS, get};
use crate::fixture::{Fixture, KEY, Server, options};
use axum::http::Method;
use channel_sms::Sms;
use outbox_admin::Admin;
use outbox_channel::{
    Callback, CallbackError, Channel, ChannelFactory, MockChannel, Report, ReportedStatus,
};
use outbox_engine::Worker;
use outbox_sandbox::twilio::{CallbackFault, TwilioServer, signature};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const TOKEN: &str = "a token";
const PHONE: &str = "+15551234567";

/// An admin side that a stand-in for Twilio can reach, and a worker that sends through it.
struct Scene {
    fixture: Fixture,
    twilio: TwilioServer,
    server: Server,
    worker: Arc<Worker>,
    /// What Twilio is told to call.
    url: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|admin| admin).await
    }

    async fn with(more: impl FnOnce(Admin) -> Admin) -> Self {
        let fixture = Fixture::new().await;
        let twilio = TwilioServer::start("AC1", TOKEN).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/hooks/twilio/sms");
        let config = json!({
            "account_sid": "AC1", "auth_token": TOKEN, "from": "+15005550006",
            "base_url": twilio.base_url(), "status_callback": format!("{url}#rc=2"),
        });
        let config = serde_json::from_value(config).unwrap();
        let name = "sms".parse().unwrap();
        let sms: Arc<dyn Channel> = Sms::build(&name, config).unwrap().into();
        let worker = fixture.worker_named("sms", Arc::clone(&sms));
        let admin = fixture.admin().with_callbacks([(name, sms)]);
        let server = Server::on(listener, more(admin));
        Self {
            fixture,
            twilio,
            server,
            worker,
            url,
        }
    }

    /// Delivers one message, and returns its event.
    async fn deliver(&self) -> i64 {
        let event = sqlx::query_scalar(
            "INSERT INTO outbox_events (event_type, payload) VALUES ('sms', $1) RETURNING id",
        )
        .bind(json!({"to": PHONE, "body": "hi"}))
        .fetch_one(self.fixture.store.pool())
        .await
        .unwrap();
        assert_eq!(self.worker.dispatch(10).await.unwrap().processed, 1);
        event
    }

    async fn reported(&self, event: i64) -> (Option<String>, Option<String>) {
        let details = self.fixture.store.event(event, false).await.unwrap();
        let result = details.unwrap().results.remove(0);
        assert_eq!(result.status, "delivered");
        (result.reported, result.reported_code)
    }

    /// As Twilio calls.
    async fn call(&self, fields: &[(&str, &str)]) -> Answer {
        let signature = signature(TOKEN, &self.url, fields);
        form(fields)
            .header("x-twilio-signature", &signature)
            .send(self.server.address)
            .await
    }

    async fn received(&self) -> Value {
        let stats = get(STATS).key(KEY).send(self.server.address).await.json();
        stats["callbacks"].clone()
    }
}

fn form(fields: &[(&str, &str)]) -> Call {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let call = Call::new(Method::POST, "/hooks/twilio/sms").body(fields.join("&"));
    call.header("content-type", "application/x-www-form-urlencoded")
}

fn says(status: &str, code: Option<&str>) -> (Option<String>, Option<String>) {
    (Some(status.to_owned()), code.map(str::to_owned))
}

#[tokio::test]
async fn what_the_provider_tells_is_kept_with_the_event() {
    let scene = Scene::new().await;
    let event = scene.deliver().await;
    scene.twilio.wait_for_callbacks(3).await;
    assert_eq!(scene.reported(event).await, says("delivered", None));
    scene.twilio.cut_off(PHONE);
    let event = scene.deliver().await;
    scene.twilio.wait_for_callbacks(6).await;
    assert_eq!(
        scene.reported(event).await,
        says("undelivered", Some("30003"))
    );
    let answers: Vec<_> = scene
        .twilio
        .callbacks()
        .into_iter()
        .map(|made| made.answer)
        .collect();
    assert_eq!(answers, [Some(204); 6]);
    let received = scene.received().await;
    assert_eq!(
        (&received["reports"], &received["refused"]),
        (&json!(6), &json!(0))
    );
}

#[tokio::test]
async fn neither_order_nor_repetition_matters() {
    let scene = Scene::new().await;
    for (fault, callbacks) in [(CallbackFault::Reverse, 3), (CallbackFault::Repeat, 9)] {
        scene.twilio.callback_faults().next(fault);
        let event = scene.deliver().await;
        scene.twilio.wait_for_callbacks(callbacks).await;
        assert_eq!(
            scene.reported(event).await,
            says("delivered", None),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn nobody_but_the_provider_is_believed() {
    let scene = Scene::new().await;
    scene.twilio.callback_faults().next(CallbackFault::Forge);
    let event = scene.deliver().await;
    scene.twilio.wait_for_callbacks(3).await;
    assert_eq!(scene.reported(event).await, (None, None));
    assert!(
        scene
            .twilio
            .callbacks()
            .iter()
            .all(|made| made.answer == Some(403))
    );
    let received = scene.received().await;
    assert_eq!(
        (&received["reports"], &received["refused"]),
        (&json!(0), &json!(3))
    );

    let to = scene.server.address;
    let fields = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    form(&fields)
        .send(to)
        .await
        .assert_problem(403, "no header X-Twilio-Signature");
    // An admin key is no signature.
    form(&fields)
        .key(KEY)
        .send(to)
        .await
        .assert_problem(403, "no header");
    let signature = signature(TOKEN, &scene.url, &fields);
    let signed = |call: Call| call.header("x-twilio-signature", &signature).send(to);
    let other = [("MessageSid", "SM2"), ("MessageStatus", "delivered")];
    signed(form(&other))
        .await
        .assert_problem(403, "the signature does not fit");
    let twice = form(&fields).header("x-twilio-signature", &signature);
    signed(twice).await.assert_problem(403, "or more than one");
    assert_eq!(signed(form(&fields)).await.status, 204);
}

#[tokio::test]
async fn what_is_not_a_callbacks_form_is_malformed() {
    let scene = Scene::new().await;
    let to = scene.server.address;
    let post = |content_type: &str, body: &str| {
        Call::new(Method::POST, "/hooks/twilio/sms")
            .header("content-type", content_type)
            .header("x-twilio-signature", "AAAA")
            .body(body)
            .send(to)
    };
    let form = "application/x-www-form-urlencoded";
    post("application/json", "{}")
        .await
        .assert_problem(400, "send a form");
    post(form, "MessageSid=%")
        .await
        .assert_problem(400, "the body is not");
    // A good signature does not make it better.
    scene
        .call(&[("MessageSid", "SM1")])
        .await
        .assert_problem(400, "MessageStatus is missing");
    scene
        .call(&[])
        .await
        .assert_problem(400, "MessageSid is missing");
    let long = format!("a={}", "b".repeat(64 * 1024));
    post(form, &long)
        .await
        .assert_problem(413, "larger than 65536 bytes");
    let get = get("/hooks/twilio/sms").send(to).await;
    get.assert_problem(405, "does not take that method");
    assert_eq!(
        scene
            .fixture
            .count("SELECT count(*) FROM outbox_receipts")
            .await,
        0
    );
}

#[tokio::test]
async fn what_is_unknown_is_taken_and_counted() {
    let scene = Scene::new().await;
    let unknown_sid = [("MessageSid", "SM4711"), ("MessageStatus", "sent")];
    let unknown_status = [("MessageSid", "SM4712"), ("MessageStatus", "teleported")];
    for fields in [unknown_sid, unknown_status] {
        let answer = scene.call(&fields).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (204, ""));
    }
    let expected = json!({"reports": 1, "unmatched": 1, "meaningless": 1, "refused": 0});
    assert_eq!(scene.received().await, expected);
}

/// Whatever the reason, and whether it is signed or not.
#[tokio::test]
async fn channels_that_take_no_callbacks_all_look_alike() {
    let mut silent = MockChannel::new();
    silent.expect_callback_source().return_const(None);
    silent.expect_receive().never();
    let silent: Arc<dyn Channel> = Arc::new(silent);
    let scene = Scene::with(|admin| admin.with_callbacks([("crm".parse().unwrap(), silent)])).await;
    let mut answers = Vec::new();
    for path in [
        "/hooks/twilio/nobody",
        "/hooks/twilio/crm",
        "/hooks/none/crm",
        "/hooks/slack/sms",
        "/hooks/twilio/SMS",
        "/hooks/twilio/%ff",
    ] {
        let call = || Call::new(Method::POST, path).body("x");
        for call in [call(), call().header("x-twilio-signature", "AAAA")] {
            let answer = call.send(scene.server.address).await;
            answer.assert_problem(404, "no channel of this process takes callbacks here");
            answers.push(answer.body);
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_wanted_again() {
    let scene = Scene::new().await;
    let fields = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    let rename = "ALTER TABLE outbox_receipts RENAME TO elsewhere";
    sqlx::raw_sql(rename)
        .execute(scene.fixture.store.pool())
        .await
        .unwrap();
    let answer = scene.call(&fields).await;
    answer.assert_problem(503, "send it again later");
    assert!(!answer.body.contains("outbox_receipts"), "{answer:?}");
    let back = "ALTER TABLE elsewhere RENAME TO outbox_receipts";
    sqlx::raw_sql(back)
        .execute(scene.fixture.store.pool())
        .await
        .unwrap();
    assert_eq!(scene.call(&fields).await.status, 204);
    assert_eq!(scene.received().await["reports"], 1);
}

/// What a plugin can expect.
#[tokio::test]
async fn a_channel_is_given_the_whole_request_and_may_report_much() {
    let fixture = Fixture::new().await;
    let mut channel = MockChannel::new();
    channel
        .expect_callback_source()
        .return_const(Some("pigeon"));
    channel
        .expect_receive()
        .times(1)
        .returning(|callback: &Callback| {
            assert_eq!(callback.query(), Some("coop=7%2F8&x"));
            assert_eq!(callback.header("X-Ring"), Some("r1"));
            assert_eq!(callback.body(), b"\xff\0");
            let report = |n| Report::new(format!("p{n}"), ReportedStatus::Delivered);
            Ok((0..20).map(report).collect())
        });
    channel
        .expect_receive()
        .times(1)
        .returning(|_| Err(CallbackError::malformed("no wings")));
    let channel: Arc<dyn Channel> = Arc::new(channel);
    let admin = Admin::new(&options(), fixture.store.clone());
    let server = Server::start(admin.with_callbacks([("loft".parse().unwrap(), channel)])).await;
    let call = || {
        Call::new(Method::POST, "/hooks/pigeon/loft?coop=7%2F8&x")
            .header("x-ring", "r1")
            .body(*b"\xff\0")
    };
    assert_eq!(call().send(server.address).await.status, 204);
    let written = "SELECT count(*) FROM outbox_receipts WHERE channel = 'loft'";
    assert_eq!(fixture.count(written).await, 20);
    call()
        .send(server.address)
        .await
        .assert_problem(400, "no wings");
}

/// A body that does not come holds up nobody else, and not for ever.
#[tokio::test]
async fn the_body_has_to_come_in_time() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::new().await;
    let mut stream = tokio::net::TcpStream::connect(scene.server.address)
        .await
        .unwrap();
    let head = "POST /hooks/twilio/sms HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n\r\na";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::pause();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(50), read)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}
