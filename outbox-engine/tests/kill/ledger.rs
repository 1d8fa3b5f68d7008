//! What arrived, kept outside of the processes that may die. One request per connection:
//! `send CHANNEL EVENT ID` is answered with `taken` or `unavailable`, `ask ID` with `taken` or
//! `never`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) channel: String,
    pub(crate) event: i64,
    pub(crate) id: String,
}

/// What it does with the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Answer,
    /// Refuses it.
    Refuse,
    /// Takes it, and lets its sender wait.
    Stall,
}

/// Takes messages until it is dropped.
pub(crate) struct Ledger {
    pub(crate) address: SocketAddr,
    book: Arc<Book>,
    task: JoinHandle<()>,
}

struct Book {
    first: Mutex<First>,
    taken: Mutex<Vec<Arrival>>,
}

impl Ledger {
    pub(crate) async fn open(first: First) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Book {
            first: Mutex::new(first),
            taken: Mutex::default(),
        });
        let task = tokio::spawn({
            let book = Arc::clone(&book);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(Arc::clone(&book).serve(stream));
                }
            }
        });
        Self {
            address,
            book,
            task,
        }
    }

    /// In the order in which they came.
    pub(crate) fn taken(&self) -> Vec<Arrival> {
        self.book.taken.lock().unwrap().clone()
    }

    /// An earlier process got this through.
    pub(crate) fn write(&self, arrival: Arrival) {
        self.book.taken.lock().unwrap().push(arrival);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Book {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        // Whoever died before he had said all has said nothing.
        match stream.read_line(&mut request).await {
            Ok(_) if request.ends_with('\n') => {}
            _ => return,
        }
        let Some(answer) = self.answer(&request) else {
            return std::future::pending().await;
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    /// `None`: none at all.
    fn answer(&self, request: &str) -> Option<&'static str> {
        let words: Vec<&str> = request.split_whitespace().collect();
        match words[..] {
            ["send", channel, event, id] => {
                let first = std::mem::replace(&mut *self.first.lock().unwrap(), First::Answer);
                if first == First::Refuse {
                    return Some("unavailable\n");
                }
                self.taken.lock().unwrap().push(Arrival {
                    channel: channel.to_owned(),
                    event: event.parse().unwrap(),
                    id: id.to_owned(),
                });
                (first == First::Answer).then_some("taken\n")
            }
            ["ask", id] => {
                let is_known = self.taken.lock().unwrap().iter().any(|a| a.id == id);
                Some(if is_known { "taken\n" } else { "never\n" })
            }
            _ => panic!("nobody says {request}"),
        }
    }
}

/// By channel and event: how often it came.
pub(crate) fn counts(taken: &[Arrival]) -> BTreeMap<(&str, i64), usize> {
    let mut counts = BTreeMap::new();
    for arrival in taken {
        *counts
            .entry((arrival.channel.as_str(), arrival.event))
            .or_default() += 1;
    }
    counts
}
