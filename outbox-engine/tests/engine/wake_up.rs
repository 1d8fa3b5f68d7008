//! When a worker that has nothing to do looks again.

use crate::channels::{Recorder, accepting};
use crate::common::{
    ASLEEP, DELIVERED, Fixture, PATIENCE, Running, any, fan_out, open_narrowly, options, spec,
    without_polling,
};
use chrono::DateTime;
use outbox_engine::{ChannelSpec, Receipt, RetryPolicy, Router, SendError, Worker, WorkerOptions};
use outbox_sandbox::proxy::TcpProxy;
use outbox_store::{NewEvent, enqueue};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far below the poll interval, and far above what it takes.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_sleeping_worker_is_woken_by_a_new_event() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker_with(without_polling(), vec![spec("email", accepting())]);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    for _ in 0..5 {
        let begun = Instant::now();
        fixture.enqueue("email", 1).await;
        fixture.until_settled().await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    running.stop().await;
}

/// Ends the session of who sleeps.
const CUT: &str = "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 1868722040 AND mode = 'ShareLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn a_worker_whose_connection_is_cut_listens_again() {
    let fixture = Fixture::new().await;
    let worker = fixture.worker_with(without_polling(), vec![spec("email", accepting())]);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    assert_eq!(fixture.execute(CUT).await, 1);
    fixture.until(ASLEEP).await;
    let begun = Instant::now();
    fixture.enqueue("email", 1).await;
    fixture.until_settled().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    running.stop().await;
}

/// Nobody says so: a firewall has forgotten the connection, or the server's end of it was closed
/// while the network was away.
#[tokio::test]
async fn a_worker_notices_that_its_connection_has_gone_silent() {
    let fixture = Fixture::new().await;
    let proxy = TcpProxy::start(fixture.address()).await.unwrap();
    let options = WorkerOptions {
        poll_interval: Duration::from_secs(1),
        lease: Duration::from_secs(5),
        ..options()
    };
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let store = open_narrowly(&fixture.url_through(&proxy)).await;
    let worker = Worker::new(store, router, vec![spec("email", accepting())], options);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    proxy.silence();
    assert_eq!(fixture.execute(CUT).await, 1);
    // A claim waits for an answer too, half a minute.
    fixture.until_within(3 * PATIENCE, ASLEEP).await;
    running.stop().await;
}

/// How late each event is sent, in the order of sending; negative when it is early. All are
/// written while the worker sleeps, due after so long each.
async fn lateness(waits: impl Iterator<Item = Duration>) -> Vec<chrono::TimeDelta> {
    let fixture = Fixture::new().await;
    let late = Arc::new(Mutex::new(Vec::new()));
    let email = Recorder::new({
        let late = Arc::clone(&late);
        move |delivery| {
            let now = chrono::Utc::now();
            let due: Value = serde_json::from_str(delivery.payload().get()).unwrap();
            let due: DateTime<chrono::Utc> = due["due"].as_str().unwrap().parse().unwrap();
            late.lock().unwrap().push(now - due);
            Ok(Receipt::new())
        }
    });
    let running =
        Running::start(fixture.worker_with(without_polling(), vec![spec("email", email)]));
    fixture.until(ASLEEP).await;
    for wait in waits {
        let due = chrono::Utc::now() + wait;
        let payload = json!({ "due": due.to_rfc3339() });
        fixture
            .write(&NewEvent::new("email", payload).deliver_at(due))
            .await;
    }
    fixture.until_settled().await;
    running.stop().await;
    late.lock().unwrap().clone()
}

/// The latest is written first, so that the worker has to get up ever earlier.
#[tokio::test]
async fn events_for_later_come_on_time() {
    let waits = (1..=10).rev().map(|n| Duration::from_millis(n * 300));
    let late = lateness(waits).await;
    assert_eq!(late.len(), 10);
    for late in late {
        // It would be a minute if it waited for a poll.
        let late = late.to_std().expect("it came early");
        assert!(late < SOON, "{late:?}");
    }
}

#[tokio::test]
async fn a_retry_comes_on_time() {
    let fixture = Fixture::new().await;
    let email = Recorder::new(|delivery| match delivery.attempt() {
        1 | 2 => Err(SendError::transient("503", "busy")),
        _ => Ok(Receipt::new()),
    });
    let patient = ChannelSpec {
        retry: RetryPolicy {
            fixed_delay: Some(Duration::from_secs(1)),
            ..RetryPolicy::default()
        },
        ..spec("email", email.clone())
    };
    let running = Running::start(fixture.worker_with(without_polling(), vec![patient]));
    fixture.until(ASLEEP).await;
    fixture.enqueue("email", 1).await;
    fixture.until_settled().await;
    running.stop().await;
    let sent = email.sent();
    for pair in sent.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!((Duration::from_millis(990)..SOON).contains(&gap), "{gap:?}");
    }
    assert_eq!(sent.len(), 3);
}

#[tokio::test]
async fn two_workers_share_the_work_and_send_nothing_twice() {
    let fixture = Fixture::new().await;
    let email = Recorder::accepting();
    let start = || Running::start(fixture.worker(vec![spec("email", email.clone())]));
    let both = [start(), start()];
    for _ in 0..20 {
        fixture.enqueue("email", 100).await;
    }
    fixture.until_settled().await;
    for running in both {
        running.stop().await;
    }
    let sent = email.event_ids();
    assert_eq!(sent.len(), 2_000);
    assert_eq!(sent.into_iter().collect::<BTreeSet<_>>().len(), 2_000);
    assert_eq!(fixture.count(DELIVERED).await, 2_000);
}

#[tokio::test]
async fn what_is_committed_late_is_found() {
    let fixture = Fixture::new().await;
    let email = Recorder::accepting();
    let worker = fixture.worker_with(without_polling(), vec![spec("email", email.clone())]);
    let running = Running::start(worker);
    fixture.until(ASLEEP).await;
    let mut transaction = fixture.pool.begin().await.unwrap();
    let late = enqueue(&mut *transaction, &NewEvent::new("email", any()))
        .await
        .unwrap();
    // Younger, and done before the older one is there.
    fixture.enqueue("email", 50).await;
    fixture
        .until("SELECT count(*) = 50 FROM outbox_deliveries")
        .await;
    transaction.commit().await.unwrap();
    fixture
        .until("SELECT count(*) = 51 FROM outbox_deliveries")
        .await;
    running.stop().await;
    assert_eq!(email.event_ids().last(), Some(&late));
}

/// Forwards to the database, and counts the statements.
async fn counting_requests(target: SocketAddr) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(target).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut bytes = vec![0; 100_000];
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    // A lone Sync is the pool's, on a connection that it is given back.
                    if bytes[0] != b'S' {
                        counter.fetch_add(1, Ordering::SeqCst);
                    }
                    to_server.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn an_idle_worker_leaves_the_database_alone() {
    let fixture = Fixture::new().await;
    let (address, requests) = counting_requests(fixture.address()).await;
    let url = fixture
        .url()
        .replace(&fixture.address().to_string(), &address.to_string());
    let options = WorkerOptions {
        poll_interval: Duration::from_secs(1),
        ..options()
    };
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", accepting())];
    let worker = Worker::new(open_narrowly(&url).await, router, channels, options);
    let running = Running::start(worker);
    fixture.enqueue("email", 20).await;
    fixture.until_settled().await;
    fixture.until(ASLEEP).await;
    let before = requests.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = requests.load(Ordering::SeqCst) - before;
    running.stop().await;
    // A look takes two; one heartbeat.
    assert!((5..=18).contains(&asked), "{asked} requests in five polls");
}

#[tokio::test]
async fn a_burst_of_calls_is_answered_by_few_looks() {
    let fixture = Fixture::new().await;
    let (address, requests) = counting_requests(fixture.address()).await;
    let url = fixture
        .url()
        .replace(&fixture.address().to_string(), &address.to_string());
    let router = Router::new(vec![fan_out("*", &["email"])]);
    let channels = vec![spec("email", accepting())];
    let store = open_narrowly(&url).await;
    let running = Running::start(Worker::new(store, router, channels, without_polling()));
    fixture.until(ASLEEP).await;
    let before = requests.load(Ordering::SeqCst);
    fixture
        .execute(
            "DO $$ BEGIN
               FOR i IN 1..1000 LOOP
                 PERFORM pg_notify(left('outbox:' || current_schema(), 63), '');
                 COMMIT;
               END LOOP;
             END $$",
        )
        .await;
    fixture.enqueue("email", 1).await;
    fixture.until_settled().await;
    let asked = requests.load(Ordering::SeqCst) - before;
    running.stop().await;
    assert!(asked < 1_000, "{asked} requests for a thousand calls");
}
