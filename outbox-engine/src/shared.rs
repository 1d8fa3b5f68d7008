//! What the parts of one worker have in common.

use crate::disposition::Disposition;
use crate::lease::Lease;
use crate::outlet::Outlet;
use crate::router::Router;
use crate::summary::Counters;
use outbox_channel::{ChannelName, SendError};
use outbox_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) router: Arc<Router>,
    pub(crate) outlets: Arc<BTreeMap<ChannelName, Arc<Outlet>>>,
    pub(crate) installation: String,
    pub(crate) lease: Lease,
    /// Sends under way at once, over all channels.
    pub(crate) permits: Semaphore,
    /// Rows claimed and not settled.
    pub(crate) unsettled: AtomicUsize,
    /// A delivery has finished, or a row is settled: there may be room for more.
    pub(crate) progress: Notify,
    pub(crate) counters: Counters,
    /// Begin nothing more.
    pub(crate) stopping: CancellationToken,
    /// End what is under way.
    pub(crate) giving_up: CancellationToken,
}

impl Shared {
    /// Opens or closes the channel's breaker after an outcome, here and for all workers.
    pub(crate) async fn note_availability(
        &self,
        outlet: &Outlet,
        disposition: Disposition,
        error: Option<&SendError>,
    ) {
        let name = &outlet.spec.name;
        let told = match (disposition, error) {
            (Disposition::Postpone, Some(error)) => match outlet.unavailable(error) {
                Some(pause) => {
                    tracing::error!(
                        channel = %name, error = %error, again_in = ?pause,
                        "channel unavailable, left alone for a while; no attempt is charged"
                    );
                    self.store.channel_down(name, pause, error.message()).await
                }
                None => Ok(()),
            },
            // A timeout says nothing about the channel.
            (_, Some(error)) if error.class() == outbox_channel::ErrorClass::Ambiguous => Ok(()),
            _ if outlet.answered() => {
                tracing::info!(channel = %name, "channel available again");
                self.store.channel_up(name).await
            }
            _ => Ok(()),
        };
        if let Err(error) = told {
            tracing::warn!(channel = %name, error = error.sentence(), "cannot tell other workers");
        }
    }

    /// Learns which channels an operator has paused or another worker has found down.
    pub(crate) async fn refresh_channels(&self) -> Result<(), StoreError> {
        for state in self.store.channels().await? {
            if let Some(outlet) = self.outlets.get(state.name.as_str()) {
                outlet.set_closed(state.closed);
            }
        }
        Ok(())
    }
}
