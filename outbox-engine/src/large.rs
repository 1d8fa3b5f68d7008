//! Large payloads. They are left behind at first; each is read when its attempt is about to begin,
//! into a room that the deliveries of a channel share, and forgotten when the attempt is over.

use crate::outlet::Outlet;
use crate::part::{Item, Part};
use crate::router::Router;
use crate::shared::Shared;
use crate::trouble::{News, Outage, Trouble, within};
use outbox_channel::{ChannelName, Event};
use outbox_store::{Contents, NamedChannels, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A payload that, with the event's headers, is longer than this as text, in bytes, is not
/// delivered but a dead letter. Payloads that were left behind come to no more than this in
/// one channel of a process at any time.
pub const LARGEST_PAYLOAD: u64 = 32 << 20;

/// What a payload says about `channels` is followed up to this length, in bytes of text.
const LONGEST_LIST: u32 = 32 << 10;
/// So many connections at once, so that claims, outcomes and heartbeats find one too.
const READERS: usize = 2;
const KIB: u64 = 1 << 10;

/// Who reads, for all channels.
#[derive(Debug)]
pub(crate) struct LargePayloads {
    readers: Semaphore,
    outage: Mutex<Outage>,
}

/// What a channel may hold at once, in KiB. Each has its own: one that hangs keeps what it holds
/// until its deadlines, and must not keep others waiting.
#[derive(Debug)]
pub(crate) struct Room(Semaphore);

/// An event with its payload and headers, and the room that they take.
pub(crate) struct Whole<'a> {
    pub(crate) event: Arc<Event>,
    /// `None`: they came with the others.
    room: Option<SemaphorePermit<'a>>,
}

impl Whole<'_> {
    /// Reading it took time.
    pub(crate) fn was_read(&self) -> bool {
        self.room.is_some()
    }
}

/// Why there is nothing to send.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The worker stops, or has lost its lease.
    NotNow,
    /// The database is in trouble.
    Trouble,
    /// Somebody has deleted the event.
    Deleted,
    /// It will never be there; a code, and a sentence that says why.
    Hopeless(&'static str, String),
}

impl Unread {
    /// What becomes of a delivery whose attempt has not begun.
    pub(crate) fn part(self, router: &Router, item: &Item, channel: &ChannelName) -> Part {
        let event_id = item.event.id;
        match self {
            Self::NotNow => Part::given_back(item, channel),
            Self::Trouble => Part::put_off(item, channel),
            Self::Deleted => Part::default(),
            Self::Hopeless(code, reason) => {
                tracing::warn!(event_id, %channel, reason, "delivery given up");
                Part::dead(router, item, channel, item.attempts, code, reason)
            }
        }
    }
}

/// The event of `item` as it is to be sent. Waits for room where its payload was left behind.
pub(crate) async fn whole<'a>(
    shared: &Shared,
    item: &Item,
    outlet: &'a Outlet,
) -> Result<Whole<'a>, Unread> {
    match item.left_behind {
        None => Ok(Whole {
            event: Arc::clone(&item.event),
            room: None,
        }),
        // On the heap, as it is rare and large.
        Some(stored) => {
            Box::pin(unless_stopping(
                shared,
                read(shared, item, stored, &outlet.large),
            ))
            .await
        }
    }
}

/// What the payload of `item`, which was left behind, says about `channels`.
pub(crate) async fn named_channels(shared: &Shared, item: &Item) -> Result<NamedChannels, Unread> {
    let store = &shared.store;
    let asking = ask(shared, item, || {
        store.named_channels(item.event.id, LONGEST_LIST)
    });
    match unless_stopping(shared, asking).await? {
        NamedChannels::TooLarge(bytes) => Err(Unread::Hopeless(
            "channels",
            format!(
                "the payload's `channels` has {bytes} bytes; no more than {LONGEST_LIST} are \
                 followed"
            ),
        )),
        named => Ok(named),
    }
}

async fn unless_stopping<T>(
    shared: &Shared,
    reading: impl Future<Output = Result<T, Unread>>,
) -> Result<T, Unread> {
    tokio::select! {
        biased;
        () = shared.stopping.cancelled() => Err(Unread::NotNow),
        read = reading => read,
    }
}

async fn read<'a>(
    shared: &Shared,
    item: &Item,
    stored: u64,
    room: &'a Room,
) -> Result<Whole<'a>, Unread> {
    // Text is a little longer than what is stored. Where that is compressed, the first answer
    // only says how long the text is.
    let mut bytes = stored.saturating_add(stored / 4);
    loop {
        // What does not fit needs no room to be told so.
        let most = if bytes > LARGEST_PAYLOAD { 0 } else { bytes };
        let taken = room.take(most).await?;
        let contents = ask(shared, item, || shared.store.contents(item.event.id, most)).await?;
        match contents {
            Contents::Whole { payload, headers } => {
                let event = Event {
                    payload,
                    headers,
                    ..Event::clone(&item.event)
                };
                return Ok(Whole {
                    event: Arc::new(event),
                    room: Some(taken),
                });
            }
            Contents::TooLarge(length) if length > LARGEST_PAYLOAD => {
                let reason = format!(
                    "payload and headers have {length} bytes; no more than {LARGEST_PAYLOAD} are \
                     delivered"
                );
                return Err(Unread::Hopeless("payload_too_large", reason));
            }
            Contents::TooLarge(length) => bytes = length,
        }
    }
}

/// One question about the event of `item`; `None` is the answer when it was deleted.
async fn ask<T, F>(shared: &Shared, item: &Item, question: impl FnOnce() -> F) -> Result<T, Unread>
where
    F: Future<Output = Result<Option<T>, StoreError>>,
{
    let large = &shared.large;
    let _reader = large.readers.acquire().await.map_err(|_| Unread::NotNow)?;
    if !item.tenure.is_held() {
        return Err(Unread::NotNow);
    }
    let answer = match within(shared.patience, question()).await {
        Ok(answer) => answer,
        Err(trouble) if trouble.is_transient() => {
            large.note_trouble(&trouble);
            return Err(Unread::Trouble);
        }
        Err(trouble) => {
            return Err(Unread::Hopeless("payload_unreadable", trouble.sentence()));
        }
    };
    large.note_answer();
    let event_id = item.event.id;
    answer.ok_or_else(|| {
        tracing::warn!(
            event_id,
            "an event was deleted from outbox_events before it was delivered"
        );
        Unread::Deleted
    })
}

impl LargePayloads {
    pub(crate) fn new() -> Self {
        Self {
            readers: Semaphore::new(READERS),
            outage: Mutex::default(),
        }
    }

    fn note_trouble(&self, trouble: &Trouble) {
        if let Some(News { lasting, failures }) = self.outage().goes_on() {
            let error = trouble.sentence();
            tracing::warn!(
                error,
                failures,
                ?lasting,
                "cannot read large payloads, trying again"
            );
        }
    }

    fn note_answer(&self) {
        if let Some(News { lasting, failures }) = self.outage().is_over() {
            tracing::info!(failures, ?lasting, "large payloads can be read again");
        }
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(kibibytes(LARGEST_PAYLOAD) as usize))
    }

    /// For so many bytes; who came first gets it first.
    async fn take(&self, bytes: u64) -> Result<SemaphorePermit<'_>, Unread> {
        let taken = self.0.acquire_many(kibibytes(bytes)).await;
        taken.map_err(|_| Unread::NotNow)
    }
}

/// No less than `bytes`, which are not more than a few GiB.
fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}
