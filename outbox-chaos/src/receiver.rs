//! The webhook receiver: it keeps the ledger of what arrived, and misbehaves.

use crate::journal::{Arrival, At, Journal, ProcessId, Refusal};
use anyhow::Context;
use futures_util::stream;
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What it does with a message that it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Accept {
        after: Duration,
    },
    Refuse {
        status: u16,
        retry_after: bool,
    },
    HangUp,
    Stall,
    /// 200, and a connection that ends in the middle of the body.
    Tear,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Desk {
    journal: Arc<Journal>,
    seed: u64,
    behaves: AtomicBool,
    times: Mutex<HashMap<String, u64>>,
}

impl Receiver {
    pub(crate) async fn start(journal: Arc<Journal>, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("the receiver finds no free port")?;
        let address = listener.local_addr().context("the receiver's address")?;
        let desk = Arc::new(Desk {
            journal,
            seed,
            behaves: AtomicBool::new(false),
            times: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&desk)));
        Ok(Self {
            address,
            desk,
            task,
        })
    }

    /// From now on it takes everything at once.
    pub(crate) fn behave(&self) {
        self.desk.behaves.store(true, Ordering::Relaxed);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        connections.spawn(async move {
            let service = service_fn(|request| desk.receive(request));
            // How the other side ends a connection is its own affair.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The parts of a message that are looked at.
#[derive(Deserialize)]
struct Message {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    token: String,
}

type TornBody = StreamBody<stream::Iter<std::array::IntoIter<io::Result<Frame<Bytes>>, 2>>>;
type Answer = Response<Either<Full<Bytes>, TornBody>>;

impl Desk {
    async fn receive(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (head, body) = request.into_parts();
        // A request that was cut off has not arrived.
        let body = Limited::new(body, 1 << 20).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        let id = head
            .headers
            .get("webhook-id")
            .and_then(|id| id.to_str().ok());
        let received = self.journal.now();
        let arrival = id.and_then(|id| arrival(head.uri.path(), id, &body, received));
        let Some(arrival) = arrival else {
            let text = format!("an unreadable message came to {}", head.uri.path());
            self.journal.wrong(text);
            return Ok(answer(StatusCode::BAD_REQUEST));
        };
        let manner = self.manner(&arrival);
        let place = self.journal.arrived(arrival);
        self.reply(manner, place).await
    }

    async fn reply(&self, manner: Manner, place: usize) -> io::Result<Answer> {
        match manner {
            Manner::Accept { after } => {
                tokio::time::sleep(after).await;
                self.journal.accepted(place);
                Ok(answer(StatusCode::OK))
            }
            Manner::Refuse {
                status,
                retry_after,
            } => {
                let mut answer = answer(StatusCode::from_u16(status).map_err(io::Error::other)?);
                if retry_after {
                    answer.headers_mut().insert(RETRY_AFTER, 1.into());
                }
                let refusal = match status {
                    400 => Refusal::ForGood,
                    _ => Refusal::NotNow,
                };
                self.journal.refused(place, refusal);
                Ok(answer)
            }
            // An error of the service ends the connection without an answer.
            Manner::HangUp => Err(io::ErrorKind::ConnectionAborted.into()),
            Manner::Stall => std::future::pending().await,
            Manner::Tear => {
                let start = Ok(Frame::data(Bytes::from_static(b"{\"recei")));
                let end = Err(io::ErrorKind::ConnectionAborted.into());
                let body = StreamBody::new(stream::iter([start, end]));
                Ok(Response::new(Either::Right(body)))
            }
        }
    }

    /// By the seed, the delivery and how often it has come: the same in every run.
    fn manner(&self, arrival: &Arrival) -> Manner {
        let time = {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            let time = times.entry(arrival.delivery.clone()).or_default();
            *time += 1;
            *time
        };
        if self.behaves.load(Ordering::Relaxed) {
            return Manner::Accept {
                after: Duration::ZERO,
            };
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, &arrival.token, &arrival.channel, time).hash(&mut hasher);
        manner(&mut StdRng::seed_from_u64(hasher.finish()))
    }
}

fn manner(random: &mut StdRng) -> Manner {
    let status = |status, retry_after| Manner::Refuse {
        status,
        retry_after,
    };
    match random.random_range(0..100) {
        0..70 => Manner::Accept {
            after: Duration::from_millis(random.random_range(0..10)),
        },
        70..85 => Manner::Accept {
            after: Duration::from_millis(random.random_range(50..800)),
        },
        85..90 => status(503, false),
        90..92 => status(429, true),
        92..95 => Manner::HangUp,
        95..97 => Manner::Tear,
        97..98 => Manner::Stall,
        98..99 => status(500, false),
        // For good.
        _ => status(400, false),
    }
}

fn answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// `/{channel}/{process}` is where each process sends; the id ends with event and channel.
fn arrival(path: &str, id: &str, body: &[u8], received: At) -> Option<Arrival> {
    let (channel, process) = path.strip_prefix('/')?.split_once('/')?;
    let (rest, id_channel) = id.rsplit_once('-')?;
    let (_, event_id) = rest.rsplit_once('-')?;
    let message: Message = serde_json::from_slice(body).ok()?;
    (id_channel == channel).then_some(Arrival {
        delivery: id.to_owned(),
        event_id: event_id.parse().ok()?,
        channel: channel.to_owned(),
        token: message.data.token,
        process: ProcessId(process.parse().ok()?),
        received,
        accepted: None,
        refused: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_who_sent_what() {
        let body = br#"{"type": "a", "data": {"token": "p1-7", "more": 1}}"#;
        let read = arrival("/crm/12", "0a1b-42-crm", body, At::ZERO).unwrap();
        assert_eq!((read.event_id, read.channel.as_str()), (42, "crm"));
        assert_eq!((read.token.as_str(), read.process), ("p1-7", ProcessId(12)));
    }

    #[test]
    fn what_does_not_fit_together_is_no_message() {
        let body = br#"{"data": {"token": "p1-7"}}"#;
        for (path, id, body) in [
            ("/crm/12", "0a1b-42-audit", &body[..]),
            ("/crm/x", "0a1b-42-crm", body),
            ("/crm/12", "0a1b-crm", body),
            ("/crm/12", "0a1b-42-crm", b"{}"),
        ] {
            assert!(arrival(path, id, body, At::ZERO).is_none(), "{path} {id}");
        }
    }
}
