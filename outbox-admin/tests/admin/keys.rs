//! Who may do what.

use crate::client::{Call, DISPATCH, STATS, dispatch, get};
use crate::fixture::{Fixture, KEY, READ_KEY, Server, delivering, options};
use axum::http::Method;
use outbox_admin::{Admin, AdminOptions};
use std::io;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn without_a_configured_key_everything_is_closed() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    for api_key in [None, Some("".into())] {
        let options = AdminOptions {
            api_key,
            ..AdminOptions::default()
        };
        let admin = Admin::new(&options, fixture.store.clone());
        let worker = fixture.worker(delivering(0));
        let server = Server::start(admin.with_dispatcher(worker)).await;
        for call in [
            get(STATS),
            get(STATS).key(""),
            get(STATS).key("guess"),
            dispatch("{}"),
        ] {
            let answer = call.send(server.address).await;
            answer.assert_problem(403, "set ADMIN_API_KEY");
        }
        assert_eq!(get("/healthz").send(server.address).await.status, 200);
        assert_eq!(get("/readyz").send(server.address).await.status, 200);
    }
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_queue").await,
        1,
        "nothing was dispatched"
    );
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_refused_before_anything_else() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let server = fixture.serve(delivering(0)).await;
    let post = || Call::new(Method::POST, DISPATCH);
    for (call, part) in [
        (post(), "send the key in the header x-api-key"),
        (post().json("{"), "send the key"),
        (Call::new(Method::DELETE, DISPATCH), "send the key"),
        (post().header("authorization", KEY), "send the key"),
        (post().key("wrong"), "not one of this process"),
        (post().key(&KEY[..KEY.len() - 1]), "not one of this process"),
        (get(STATS), "send the key"),
        (get(STATS).key("wrong"), "not one of this process"),
    ] {
        let answer = call.send(server.address).await;
        answer.assert_problem(401, part);
        assert!(answer.header("www-authenticate").starts_with("ApiKey "));
    }
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_queue").await,
        1,
        "nothing was dispatched"
    );
}

#[tokio::test]
async fn the_read_only_key_reads_only() {
    let fixture = Fixture::new().await;
    fixture.enqueue("email", 1).await;
    let server = fixture.serve(delivering(0)).await;
    let answer = get(STATS).key(READ_KEY).send(server.address).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = Call::new(Method::POST, DISPATCH).key(READ_KEY).json("{}");
    let answer = call.send(server.address).await;
    answer.assert_problem(403, "may only read");
    assert_eq!(
        fixture.count("SELECT count(*) FROM outbox_queue").await,
        1,
        "nothing was dispatched"
    );
}

#[tokio::test]
async fn keys_are_in_no_log_and_no_debug_output() {
    let fixture = Fixture::new().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let admin = fixture.admin();
    let shown = format!("{:?} {admin:?}", options());
    let server = Server::start(admin).await;
    for key in [KEY, READ_KEY, "wrong-key-77"] {
        get(STATS).key(key).send(server.address).await;
        get("/nowhere").key(key).send(server.address).await;
    }
    let logged = log.text();
    assert!(logged.contains(STATS) && logged.contains("401"), "{logged}");
    for key in [KEY, READ_KEY, "wrong-key-77"] {
        assert!(!logged.contains(key), "{logged}");
        assert!(!shown.contains(key), "{shown}");
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
