//! `POST /hooks/{source}/{channel}`: what providers tell later about messages that they took.
//!
//! There is no key: a channel checks its provider's signature itself.

use crate::admin::Admin;
use crate::body;
use crate::problem::Problem;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use outbox_engine::{Callback, CallbackError, Channel, ChannelName, Report};
use outbox_store::{Recorded, Store, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) async fn receive(
    State(admin): State<Arc<Admin>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    // All who take no such callbacks look alike: a stranger learns no more than the names of
    // those who do, and only by guessing them.
    let addressee = path.ok().and_then(|Path((source, name))| {
        let (name, channel) = admin.callbacks.channels.get_key_value(&*name)?;
        (channel.callback_source() == Some(&*source)).then_some((name, channel))
    });
    let Some((name, channel)) = addressee else {
        let detail = "no channel of this process takes callbacks here";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let callback = read(request).await?;
    let reports = channel.receive(&callback).await;
    let reports = reports.map_err(|error| admin.callbacks.refuse(name, &error))?;
    admin.callbacks.record(name, &reports).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(request: Request) -> Result<Callback, Problem> {
    let headers = request.headers().clone();
    let query = request.uri().query().map(str::to_owned);
    let bytes: Bytes = body::in_time(Bytes::from_request(request, &())).await?;
    let mut callback = Callback::new(bytes);
    for (name, value) in &headers {
        // What is no text is in no signature scheme.
        if let Ok(value) = value.to_str() {
            callback = callback.with_header(name.as_str(), value);
        }
    }
    Ok(match query {
        Some(query) => callback.with_query(query),
        None => callback,
    })
}

/// The channels that take callbacks, and what has come so far.
pub(crate) struct Callbacks {
    store: Store,
    channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    counts: Counts,
    was_refused: AtomicBool,
}

#[derive(Default)]
struct Counts {
    reports: AtomicU64,
    meaningless: AtomicU64,
    unmatched: AtomicU64,
    refused: AtomicU64,
}

/// What has come to this process since it began.
#[derive(Serialize)]
pub(crate) struct Received {
    /// What was reported about messages, repetitions included.
    reports: u64,
    /// Of those, reports about messages of which no result was written, at least not yet.
    unmatched: u64,
    /// Callbacks that report nothing that matters.
    meaningless: u64,
    /// Callbacks with a wrong signature or in a wrong form.
    refused: u64,
}

impl Callbacks {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            channels: BTreeMap::new(),
            counts: Counts::default(),
            was_refused: AtomicBool::new(false),
        }
    }

    pub(crate) fn add(&mut self, name: ChannelName, channel: Arc<dyn Channel>) {
        self.channels.insert(name, channel);
    }

    pub(crate) fn received(&self) -> Received {
        let so_far = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Received {
            reports: so_far(&self.counts.reports),
            unmatched: so_far(&self.counts.unmatched),
            meaningless: so_far(&self.counts.meaningless),
            refused: so_far(&self.counts.refused),
        }
    }

    /// Anybody may call as often as they like; only the first after a good one is news.
    fn refuse(&self, channel: &ChannelName, error: &CallbackError) -> Problem {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        if !self.was_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(%channel, %error, "a callback was refused");
        }
        let status = if error.is_forged() {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::BAD_REQUEST
        };
        Problem::new(status, error.to_string())
    }

    /// Nothing is left half done when this fails: the provider says it all again, and what was
    /// written is then a repetition.
    async fn record(&self, channel: &ChannelName, reports: &[Report]) -> Result<(), Problem> {
        self.was_refused.store(false, Ordering::Relaxed);
        if reports.is_empty() {
            self.counts.meaningless.fetch_add(1, Ordering::Relaxed);
        }
        for report in reports {
            let recorded = self.store.record_report(channel, report).await;
            let recorded = recorded.map_err(|error| not_written(channel, &error))?;
            self.counts.reports.fetch_add(1, Ordering::Relaxed);
            if recorded.event_id.is_none() {
                self.counts.unmatched.fetch_add(1, Ordering::Relaxed);
            }
            tell(channel, report, recorded);
        }
        Ok(())
    }
}

/// Neither the recipient nor the text is in a report.
fn tell(channel: &ChannelName, report: &Report, recorded: Recorded) {
    let (provider_id, status) = (report.provider_id(), report.status().as_str());
    let (event, code) = (recorded.event_id, report.code());
    if recorded.is_news && report.status().is_failure() {
        tracing::warn!(event, %channel, provider_id, status, code, "not delivered after all");
    } else {
        tracing::debug!(event, %channel, provider_id, status, code, "reported");
    }
}

/// The provider does not have to know what our database says.
fn not_written(channel: &ChannelName, error: &StoreError) -> Problem {
    tracing::warn!(%channel, error = error.sentence(), "cannot write a report down");
    Problem::unavailable("the report cannot be written down now: send it again later")
}
