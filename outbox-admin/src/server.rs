//! Connections: how many, for how long, and how they end.

use crate::admin::Admin;
use crate::dispatch::Dispatcher;
use crate::routes::router;
use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Connections at once; further ones wait in the listener's queue.
const CONNECTIONS: usize = 256;

/// How long a client may take to send a request's head, and to come back with the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves [`router`] over HTTP/1.1 until `shutdown` is ready; then takes no further connection,
/// finishes requests and dispatches under way within
/// [`shutdown_grace`](crate::AdminOptions::shutdown_grace), and returns.
///
/// There is no TLS: listen on loopback or a private network, or behind a proxy that has it.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: impl Future<Output = ()>) {
    let grace = admin.shutdown_grace;
    let dispatcher = admin.dispatcher.clone();
    let mut server = Server::new(router(admin));
    server.accept_until(listener, shutdown).await;
    // When time is up, `server` goes, and with it the connections that are left.
    if tokio::time::timeout(grace, server.finish(dispatcher))
        .await
        .is_err()
    {
        tracing::warn!(?grace, "requests or dispatches did not end in time");
    }
}

struct Server {
    router: Router,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}

impl Server {
    fn new(router: Router) -> Self {
        Self {
            router,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            graceful: GracefulShutdown::new(),
            connections: JoinSet::new(),
        }
    }

    async fn accept_until(
        &mut self,
        mut listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let places = Arc::clone(&self.places);
            let connection = async {
                let place = places.acquire_owned().await;
                // axum's `accept` waits out what is wrong, such as too many open files.
                (Listener::accept(&mut listener).await.0, place.ok())
            };
            tokio::select! {
                () = &mut shutdown => return,
                (stream, place) = connection => self.start(stream, place),
                // Ended tasks keep their memory until they are collected.
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn start(&mut self, stream: TcpStream, place: Option<OwnedSemaphorePermit>) {
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        self.connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(place);
        });
    }

    async fn finish(mut self, dispatcher: Option<Dispatcher>) {
        let dispatches = async {
            if let Some(dispatcher) = dispatcher {
                dispatcher.finish().await;
            }
        };
        tokio::join!(self.graceful.shutdown(), dispatches);
        while self.connections.join_next().await.is_some() {}
    }
}
