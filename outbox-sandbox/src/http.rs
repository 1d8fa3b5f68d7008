//! A small HTTP/1.1 server under the stand-ins. It can also fail below HTTP.

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Interval, interval, sleep};

/// The largest request that is read.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// What a stand-in does with a request that it has read.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Answers.
    Answer(Response<Bytes>),
    /// Never answers, and keeps the connection open.
    Silence,
    /// Closes the connection without an answer.
    HangUp,
    /// Answers 200 at once, and then sends `chunk` every `pause`, forever or so many times.
    #[cfg_attr(
        not(feature = "webhook"),
        expect(dead_code, reason = "a webhook fault")
    )]
    Drip {
        chunk: Bytes,
        pause: Duration,
        times: Option<u32>,
    },
}

/// Listens on a free port of 127.0.0.1 until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<H>(handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(accept(listener, Arc::new(handler), count));
        Ok(Self {
            address,
            connections,
            task,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H>(listener: TcpListener, handler: Arc<H>, count: Arc<AtomicU64>)
where
    H: Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
{
    // Owned by this task, so that all connections end with the server.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
            // Out of descriptors, say: other connections have to end first.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve<H>(stream: TcpStream, handler: Arc<H>)
where
    H: Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
{
    let service = service_fn(|request| answer(request, handler.as_ref()));
    // How the other side ends a connection is its own affair.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<H>(
    request: Request<Incoming>,
    handler: &H,
) -> io::Result<Response<Either<Full<Bytes>, Drip>>>
where
    H: Fn(Request<Bytes>) -> Reply,
{
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
        return Ok(status(StatusCode::PAYLOAD_TOO_LARGE).map(full));
    };
    match handler(Request::from_parts(head, body.to_bytes())) {
        Reply::Answer(response) => Ok(response.map(full)),
        Reply::Silence => pending().await,
        // An error of the service ends the connection without an answer.
        Reply::HangUp => Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Drip {
            chunk,
            pause,
            times,
        } => Ok(Response::new(Either::Right(Drip {
            interval: interval(pause),
            chunk,
            left: times,
        }))),
    }
}

/// An empty answer.
pub(crate) fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn full(bytes: Bytes) -> Either<Full<Bytes>, Drip> {
    Either::Left(Full::new(bytes))
}

struct Drip {
    interval: Interval,
    chunk: Bytes,
    left: Option<u32>,
}

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        ready!(self.interval.poll_tick(cx));
        self.left = self.left.map(|left| left - 1);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}
