//! HTTP for channels: what every channel that speaks it would otherwise write again.
//!
//! - Failures come as a [`SendError`](outbox_channel::SendError) of the class that is true: a
//!   request that never left is told apart from one that may have arrived.
//! - Nothing is unbounded: connecting, the whole attempt and the answer's body have limits.
//! - No redirects, no proxy from the environment, TLS by rustls with the system's roots.
//! - Addresses are vetted after the name is resolved, and the vetted address is the one that
//!   is connected to ([`AllowPrivate`]).
//!
//! ```
//! use channel_http::{AllowPrivate, HttpClient, HttpOptions};
//! use channel_http::reqwest::{Method, Request, Url};
//! use outbox_channel::ErrorClass;
//! use std::time::{Duration, Instant};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = HttpClient::new(HttpOptions::new(ErrorClass::Transient))?;
//! let request = Request::new(Method::POST, Url::parse("http://127.0.0.1:9/")?);
//! let deadline = Instant::now() + Duration::from_secs(10);
//!
//! // Loopback is refused unless the operator allows it.
//! let error = client.execute(request, deadline).await.unwrap_err();
//! assert_eq!(error.code(), "address_refused");
//! # Ok(())
//! # }
//! ```

mod address;
mod answer;
mod client;
mod failure;
mod handover;
mod resolve;
mod tls;

pub use address::AllowPrivate;
pub use answer::Answer;
pub use client::{HttpClient, HttpOptions};
/// Re-exported so that requests are built with the version this crate sends them with.
pub use reqwest;
pub use tls::TlsError;
