//! One batch, on demand.

use crate::admin::Admin;
use crate::json::JsonBody;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use outbox_engine::{Summary, Worker};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Rows to claim when the client does not say.
const DEFAULT_LIMIT: i64 = 100;
const LIMITS: RangeInclusive<i64> = 1..=1_000;

/// Dispatches under way at once; further ones wait. Each takes connections from the pool that a
/// worker of this process needs.
const AT_ONCE: usize = 4;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// Signed and wide, so that every number out of range gets the same answer.
    #[serde(default)]
    limit: Option<i64>,
}

impl Order {
    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        let within = LIMITS.contains(&limit).then(|| usize::try_from(limit).ok());
        within.flatten().ok_or_else(|| {
            let (least, most) = LIMITS.into_inner();
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("limit is {limit}; it must be from {least} to {most}"),
            )
        })
    }
}

/// What was done; these four names are promised.
#[derive(Serialize)]
pub(crate) struct Done {
    processed: u64,
    skipped: u64,
    errors: u64,
    requeued: u64,
}

impl From<Summary> for Done {
    fn from(summary: Summary) -> Self {
        Self {
            processed: summary.processed,
            skipped: summary.skipped,
            errors: summary.errors,
            requeued: summary.requeued,
        }
    }
}

pub(crate) async fn dispatch(
    State(admin): State<Arc<Admin>>,
    order: Option<JsonBody<Order>>,
) -> Result<Json<Done>, Problem> {
    let order = order.map(|JsonBody(order)| order);
    let limit = order.unwrap_or_default().limit()?;
    let Some(dispatcher) = &admin.dispatcher else {
        return Err(Problem::unavailable(
            "this process has no channels to deliver through: ask one that has",
        ));
    };
    let summary = dispatcher.dispatch(limit).await?;
    Ok(Json(summary.into()))
}

/// Runs dispatches in tasks of their own: a client that goes away, or a request that takes too
/// long, ends the waiting and not the deliveries, whose outcomes would be lost.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    worker: Arc<Worker>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Dispatcher {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        Self {
            worker,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    async fn dispatch(&self, limit: usize) -> Result<Summary, Problem> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_closed| Problem::unavailable("this process is stopping"))?;
        let worker = Arc::clone(&self.worker);
        let task = self.tasks.spawn(async move {
            let dispatched = worker.dispatch(limit).await;
            drop(place);
            // Here, because nobody may be waiting for the answer any more.
            dispatched.inspect_err(|error| {
                tracing::warn!(error = error.sentence(), "a dispatch failed");
            })
        });
        let dispatched = task.await.map_err(|error| {
            let detail = "the dispatch broke off; what it had claimed goes to other workers";
            tracing::error!(%error, detail);
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })?;
        Ok(dispatched?)
    }

    /// Begins no further dispatch, and waits for those under way.
    pub(crate) async fn finish(&self) {
        self.places.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
