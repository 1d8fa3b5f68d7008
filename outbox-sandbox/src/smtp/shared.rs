//! What all conversations share, and how they come about.

use super::fault::SmtpFault;
use super::inbox::Inbox;
use super::session::Session;
use super::tls::Tls;
use super::wire::Stream;
use crate::Faults;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What all conversations share.
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) credentials: Option<(String, String)>,
    pub(super) encryption: Encryption,
    pub(super) hidden: Vec<String>,
    pub(super) faults: Faults<SmtpFault>,
    pub(super) connection_faults: Faults<SmtpFault>,
    pub(super) rejected: Mutex<HashSet<String>>,
    pub(super) connections: AtomicU64,
    pub(super) queued: AtomicU64,
}

pub(super) enum Encryption {
    None,
    #[cfg_attr(
        not(feature = "smtp-tls"),
        expect(dead_code, reason = "needs smtp-tls")
    )]
    StartTls(Tls),
    #[cfg_attr(
        not(feature = "smtp-tls"),
        expect(dead_code, reason = "needs smtp-tls")
    )]
    Implicit(Tls),
}

impl Shared {
    /// The longest message it takes, in bytes.
    pub(super) const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

    pub(super) fn starttls(&self) -> Option<&Tls> {
        match &self.encryption {
            Encryption::StartTls(tls) => Some(tls),
            _ => None,
        }
    }

    pub(super) fn rejects(&self, recipient: &str) -> bool {
        self.rejected().contains(&recipient.to_lowercase())
    }

    pub(super) fn rejected(&self) -> MutexGuard<'_, HashSet<String>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue_id(&self) -> String {
        let number = self.queued.fetch_add(1, Ordering::Relaxed);
        format!("{number:08X}")
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let stream: Stream = Box::new(stream);
        let ready = match &self.encryption {
            Encryption::Implicit(tls) => tls.accept(stream).await,
            _ => Ok(stream),
        };
        if let Ok(stream) = ready {
            // A client that is gone is no news.
            let _ = Session::new(self, stream, connection).run().await;
        }
    }
}

/// Ends, with all conversations, when its task is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    conversations.spawn(Arc::clone(&shared).serve(stream));
                }
            }
            Some(_) = conversations.join_next() => {}
        }
    }
}
