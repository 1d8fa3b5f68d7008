//! The mails that a server has taken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// One mail as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMail {
    /// The sender of the envelope (`MAIL FROM`).
    pub sender: String,
    /// The recipients of the envelope (`RCPT TO`), in the order they were named.
    pub recipients: Vec<String>,
    /// The message, header and body, without the transport's dot-stuffing.
    pub data: Vec<u8>,
    /// Which connection brought it, from 1.
    pub connection: u64,
    /// The name under which the server has queued it, as told to the client.
    pub queue_id: String,
}

impl ReceivedMail {
    /// The message as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The first header field of that name, unfolded, as it stands (not decoded).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head = text.split_once("\r\n\r\n").map_or(&*text, |(head, _)| head);
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let value = |line: &str| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        };
        unfolded.lines().find_map(value)
    }
}

/// The last mails, and how many there have been.
#[derive(Debug)]
pub(super) struct Inbox {
    kept: Mutex<VecDeque<ReceivedMail>>,
    capacity: usize,
    count: watch::Sender<u64>,
}

impl Inbox {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            kept: Mutex::default(),
            capacity,
            count: watch::Sender::new(0),
        }
    }

    pub(super) fn put(&self, mail: ReceivedMail) {
        let mut kept = self.kept();
        kept.push_back(mail);
        while kept.len() > self.capacity {
            kept.pop_front();
        }
        // Counted under the lock, so that whoever sees the count finds the mail.
        self.count.send_modify(|count| *count += 1);
    }

    pub(super) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    pub(super) fn mails(&self) -> Vec<ReceivedMail> {
        self.kept().iter().cloned().collect()
    }

    pub(super) async fn wait_for(&self, count: u64) {
        let enough = |now: &u64| *now >= count;
        // Fails only when the sender is gone, and `self` holds it.
        let _ = self.count.subscribe().wait_for(enough).await;
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<ReceivedMail>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
