//! The HTTP side of an Outbox process.
//!
//! | route | key | answers |
//! |---|---|---|
//! | `GET /healthz` | none | `ok` while the process lives |
//! | `GET /readyz` | none | `ok` when the database answers and the worker, if there is one, works |
//! | `POST /hooks/{source}/{channel}` | the provider's signature | takes a callback: what became of messages |
//! | `GET /api/admin/outbox/stats` | any | what waits, what is settled, workers, channels |
//! | `POST /api/admin/outbox/dispatch` | full | delivers one batch, now |
//!
//! Keys go in the header `x-api-key`. Without an [`api_key`](AdminOptions::api_key) the admin
//! routes are closed to everybody. Every error of a route is a problem document
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
//!
//! ```no_run
//! # async fn example(
//! #     store: outbox_store::Store,
//! #     worker: std::sync::Arc<outbox_engine::Worker>,
//! #     stop: impl Future<Output = ()>,
//! # ) -> std::io::Result<()> {
//! use outbox_admin::{Admin, AdminOptions, serve};
//!
//! let options = AdminOptions {
//!     api_key: Some("a long random text".into()),
//!     ..AdminOptions::default()
//! };
//! let admin = Admin::new(&options, store)
//!     .with_readiness_of(worker.health())
//!     .with_dispatcher(worker);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! serve(listener, admin, stop).await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod body;
mod callbacks;
mod dispatch;
mod health;
mod json;
mod keys;
mod problem;
mod routes;
mod server;
mod stats;

pub use admin::{Admin, AdminOptions};
pub use routes::router;
pub use server::serve;
