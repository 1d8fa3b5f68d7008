//! Which path leads where, and what holds for all of them.

use crate::admin::Admin;
use crate::problem::Problem;
use crate::{body, callbacks, dispatch, health, keys, stats};
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;

/// All routes, to be served by [`serve`](crate::serve) or made part of another service. Whoever
/// serves them otherwise has to bound connections and their time, and does not learn when the
/// last dispatch has ended.
pub fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/hooks/{source}/{channel}", post(callbacks::receive))
        .merge(behind_key(&admin))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), in_time))
        .layer(middleware::from_fn(log))
        .layer(middleware::map_response(harden))
        .with_state(admin)
}

fn behind_key(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    let require = middleware::from_fn_with_state(Arc::clone(admin), keys::require);
    Router::new()
        .route("/api/admin/outbox/dispatch", post(dispatch::dispatch))
        .route("/api/admin/outbox/stats", get(stats::stats))
        // Before the layer: without a key nobody learns which methods there are.
        .method_not_allowed_fallback(wrong_method)
        .route_layer(require)
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take that method; the header allow names those it takes",
    )
}

async fn in_time(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let limit = admin.request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("not done within {limit:?}; a dispatch that has begun goes on"),
        )
        .into_response(),
    }
}

/// The route and not the path: clients write paths as long as they like.
async fn log(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let (method, begun) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    tracing::debug!(
        %method,
        route = route.as_ref().map_or("none", MatchedPath::as_str),
        status = response.status().as_u16(),
        duration = ?begun.elapsed(),
        "answered"
    );
    response
}

/// Answers are for programs: no browser shall keep, guess at, frame or run them.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}
