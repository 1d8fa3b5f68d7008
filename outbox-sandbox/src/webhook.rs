//! A webhook receiver that verifies Standard Webhooks signatures and keeps a ledger.

use crate::Faults;
use crate::http::{Reply, Server, status};
use crate::ledger::Ledger;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the receiver misbehaves. Only a request that carries a valid message gets a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookFault {
    /// Refuses the message with this status.
    Status {
        /// The status code.
        code: u16,
        /// The `Retry-After` header, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// Refuses the message and points elsewhere with a 307.
    Redirect {
        /// The `Location` header.
        location: String,
    },
    /// Takes the message and never answers.
    Stall,
    /// Takes the message and closes the connection without an answer.
    HangUp,
    /// Takes the message, answers 200 and then sends 100 bytes of body, one every so often.
    SlowBody {
        /// Between one byte and the next.
        pause: Duration,
    },
    /// Takes the message, answers 200 and then sends body without end.
    EndlessBody,
}

/// A message that the receiver took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedWebhook {
    /// The `webhook-id` header.
    pub id: String,
    /// All headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// A webhook receiver on a free port of 127.0.0.1, until it is dropped.
///
/// ```
/// # use outbox_sandbox::webhook::{WebhookFault, WebhookReceiver};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let receiver = WebhookReceiver::start(&["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]).await?;
/// receiver.faults().next(WebhookFault::Stall);
/// assert_eq!(receiver.total(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WebhookReceiver {
    server: Server,
    faults: Faults<WebhookFault>,
    state: Arc<State>,
}

struct State {
    keys: Vec<Webhook>,
    messages: Ledger<ReceivedWebhook>,
    times_by_id: Mutex<HashMap<String, u64>>,
    rejected: AtomicU64,
}

impl WebhookReceiver {
    /// Keeps the latest 1,000 messages, and counts of up to 100,000 ids.
    const KEPT: usize = 1_000;
    const IDS: usize = 100_000;

    /// Starts. A message must be signed with one of `secrets` (`whsec_…`) and be no older than
    /// five minutes; without secrets every message with a `webhook-id` is taken.
    ///
    /// # Errors
    /// When no port is free or a secret is malformed.
    pub async fn start(secrets: &[&str]) -> io::Result<Self> {
        let keys: Result<Vec<_>, _> = secrets.iter().map(|secret| Webhook::new(secret)).collect();
        let keys = keys.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let state = Arc::new(State {
            keys,
            messages: Ledger::new(Self::KEPT),
            times_by_id: Mutex::default(),
            rejected: AtomicU64::new(0),
        });
        let faults = Faults::default();
        let server = {
            let (state, faults) = (Arc::clone(&state), faults.clone());
            Server::start(move |request| state.receive(&request, &faults)).await?
        };
        Ok(Self {
            server,
            faults,
            state,
        })
    }

    /// Where to send messages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/hook", self.server.url())
    }

    /// The plan by which it misbehaves.
    #[must_use]
    pub fn faults(&self) -> &Faults<WebhookFault> {
        &self.faults
    }

    /// The latest messages taken, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<ReceivedWebhook> {
        self.state.messages.entries()
    }

    /// How many messages were taken, repeats included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.state.messages.total()
    }

    /// How many different ids were taken.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.state.times_by_id().len()
    }

    /// How often each message was taken, by `webhook-id`.
    #[must_use]
    pub fn times_by_id(&self) -> HashMap<String, u64> {
        self.state.times_by_id().clone()
    }

    /// How many requests were turned away because of a missing or wrong signature.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.state.rejected.load(Ordering::Relaxed)
    }

    /// How many connections were opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Waits until [`total`](Self::total) is at least this.
    pub async fn wait_for(&self, total: u64) {
        self.state.messages.wait_for(total).await;
    }
}

impl State {
    fn receive(&self, request: &Request<Bytes>, faults: &Faults<WebhookFault>) -> Reply {
        if request.method() != hyper::Method::POST {
            return Reply::Answer(status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let Some(id) = self.verify(request) else {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Reply::Answer(status(StatusCode::UNAUTHORIZED));
        };
        let fault = faults.take();
        match &fault {
            Some(WebhookFault::Status { code, retry_after }) => refusal(*code, *retry_after),
            Some(WebhookFault::Redirect { location }) => redirect(location),
            _ => {
                self.note(id, request);
                taken(fault.as_ref())
            }
        }
    }

    fn verify(&self, request: &Request<Bytes>) -> Option<String> {
        let id = request.headers().get(HEADER_WEBHOOK_ID)?.to_str().ok()?;
        let verified = |key: &Webhook| key.verify(request.body(), request.headers()).is_ok();
        (self.keys.is_empty() || self.keys.iter().any(verified)).then(|| id.to_owned())
    }

    fn note(&self, id: String, request: &Request<Bytes>) {
        {
            let mut times = self.times_by_id();
            let known = times.len();
            match times.get_mut(&id) {
                Some(times) => *times += 1,
                None if known < WebhookReceiver::IDS => drop(times.insert(id.clone(), 1)),
                None => {}
            }
        }
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        self.messages.add(ReceivedWebhook {
            id,
            headers: headers.collect(),
            body: request.body().to_vec(),
        });
    }

    fn times_by_id(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.times_by_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// By hand: the keys have no `Debug`, and need none.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("total", &self.messages.total())
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

fn refusal(code: u16, retry_after: Option<Duration>) -> Reply {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status(code).map(|_| Bytes::from_static(b"not now, said the receiver"));
    if let Some(wait) = retry_after {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    Reply::Answer(response)
}

fn redirect(location: &str) -> Reply {
    let mut response = status(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Reply::Answer(response)
}

fn taken(fault: Option<&WebhookFault>) -> Reply {
    match fault {
        Some(WebhookFault::Stall) => Reply::Silence,
        Some(WebhookFault::HangUp) => Reply::HangUp,
        Some(WebhookFault::SlowBody { pause }) => Reply::Drip {
            chunk: Bytes::from_static(b"."),
            pause: *pause,
            times: Some(100),
        },
        Some(WebhookFault::EndlessBody) => Reply::Drip {
            chunk: Bytes::from_static(&[b'.'; 16 * 1024]),
            pause: Duration::from_millis(1),
            times: None,
        },
        _ => Reply::Answer(Response::new(Bytes::from_static(br#"{"received":true}"#))),
    }
}
