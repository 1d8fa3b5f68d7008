//! Tells a request that never left from one that may have arrived.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use reqwest::{Body, Request};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

const WAITING: u8 = 0;
const HANDED_OVER: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Watches whether the HTTP machinery has taken up a request's body, which it does when a
/// connection stands and the head is on its way: from then on the request may have arrived.
///
/// Either the machinery takes the body or the caller withdraws it, never both, so a request
/// that was withdrawn in time is certain not to be carried out.
pub(crate) struct Handover(Arc<AtomicU8>);

impl Handover {
    /// A request of a safe method without a body stays unwatched and can always be withdrawn:
    /// whether it arrived makes no difference
    /// ([RFC 9110, section 9.2.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1)).
    pub(crate) fn watch(request: &mut Request) -> Self {
        let state = Arc::new(AtomicU8::new(WAITING));
        if request.body().is_some() || !request.method().is_safe() {
            let body = request.body_mut().take().unwrap_or_default();
            let state = Arc::clone(&state);
            *request.body_mut() = Some(Body::wrap(Watched { body, state }));
        }
        Self(state)
    }

    /// Takes the request back; `false` when it is too late.
    pub(crate) fn withdraw(&self) -> bool {
        moved(&self.0, WITHDRAWN)
    }
}

/// Leaves `WAITING` for `to`, or is there already.
fn moved(state: &AtomicU8, to: u8) -> bool {
    let before = state.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire);
    before.map_or_else(|current| current == to, |_| true)
}

struct Watched {
    body: Body,
    state: Arc<AtomicU8>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !moved(&self.state, HANDED_OVER) {
            return Poll::Ready(Some(Err(io::Error::other("the request was withdrawn"))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::{Method, Url};

    fn request(method: Method) -> Request {
        Request::new(method, Url::parse("http://example.org").unwrap())
    }

    fn poll(request: &mut Request) -> Option<bool> {
        let body = request.body_mut().as_mut()?;
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(frame)) => Some(frame.is_ok()),
            _ => None,
        }
    }

    #[test]
    fn a_body_that_was_taken_up_cannot_be_withdrawn() {
        let mut request = request(Method::POST);
        *request.body_mut() = Some("text".into());
        let handover = Handover::watch(&mut request);
        assert_eq!(poll(&mut request), Some(true));
        assert!(!handover.withdraw());
    }

    #[test]
    fn a_withdrawn_body_is_never_given_out() {
        let mut request = request(Method::POST);
        *request.body_mut() = Some("text".into());
        let handover = Handover::watch(&mut request);
        assert!(handover.withdraw());
        assert_eq!(poll(&mut request), Some(false));
    }

    #[test]
    fn a_safe_request_can_always_be_withdrawn() {
        let mut request = request(Method::GET);
        let handover = Handover::watch(&mut request);
        assert!(request.body().is_none() && handover.withdraw());
    }
}
