//! Status callbacks, signed as Twilio signs them.

use super::SentMessage;
use crate::Faults;
use crate::ledger::Ledger;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::{Url, form_urlencoded};

/// How the callbacks of one message misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackFault {
    /// Each of them comes twice.
    Repeat,
    /// The last comes first.
    Reverse,
    /// Their signatures are wrong.
    Forge,
}

/// A status callback that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeCallback {
    /// The message it was about.
    pub sid: String,
    /// What it said: `queued`, `sent`, `delivered` or `undelivered`.
    pub status: &'static str,
    /// The status of the answer; none when there was no answer.
    pub answer: Option<u16>,
}

/// Twilio's signature of a form that is sent to `url`
/// (<https://www.twilio.com/docs/usage/security#validating-requests>), which goes into the header
/// `X-Twilio-Signature`.
///
/// ```
/// # use outbox_sandbox::twilio::signature;
/// let fields = [("MessageStatus", "sent"), ("MessageSid", "SM1")];
/// let signature = signature("token", "https://example.org/hooks/twilio/sms", &fields);
/// assert_eq!(signature, "9+cUhYT7ZfBALnS27eJ8sYYuFvY=");
/// ```
#[must_use]
pub fn signature(auth_token: &str, url: &str, fields: &[(&str, &str)]) -> String {
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    let mut signed = url.to_owned();
    for (name, value) in fields {
        signed.push_str(name);
        signed.push_str(value);
    }
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    STANDARD.encode(sign(&key, signed.as_bytes()))
}

/// Calls back about messages, as long as it lives.
#[derive(Debug)]
pub(super) struct Callbacks {
    account: String,
    token: String,
    made: Arc<Ledger<MadeCallback>>,
    pub(super) faults: Faults<CallbackFault>,
    unreachable: Mutex<HashSet<String>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Callbacks {
    /// Keeps the latest 30,000.
    const KEPT: usize = 30_000;
    const PATIENCE: Duration = Duration::from_secs(15);

    pub(super) fn new(account: &str, token: &str) -> Self {
        Self {
            account: account.to_owned(),
            token: token.to_owned(),
            made: Arc::new(Ledger::new(Self::KEPT)),
            faults: Faults::default(),
            unreachable: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    pub(super) fn made(&self) -> &Ledger<MadeCallback> {
        &self.made
    }

    /// From now on nothing reaches this number.
    pub(super) fn cut_off(&self, number: &str) {
        let numbers = self.unreachable.lock();
        let mut numbers = numbers.unwrap_or_else(PoisonError::into_inner);
        numbers.insert(number.to_owned());
    }

    /// Tells what becomes of a message, if somebody wants to know.
    pub(super) fn begin(&self, message: &SentMessage) {
        let Some(url) = message.status_callback.as_deref() else {
            return;
        };
        let fault = self.faults.take();
        let mut callbacks: Vec<_> = self
            .statuses(&message.to)
            .into_iter()
            .map(|(status, code)| self.callback(url, message, status, code, fault))
            .collect();
        match fault {
            Some(CallbackFault::Reverse) => callbacks.reverse(),
            Some(CallbackFault::Repeat) => callbacks.extend(callbacks.clone()),
            Some(CallbackFault::Forge) | None => {}
        }
        let made = Arc::clone(&self.made);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            for (mut callback, request) in callbacks {
                let answer = timeout(Self::PATIENCE, request.send()).await;
                callback.answer = answer.ok().flatten();
                made.add(callback);
            }
        });
    }

    fn statuses(&self, to: &str) -> [(&'static str, Option<&'static str>); 3] {
        let unreachable = self.unreachable.lock();
        let unreachable = unreachable.unwrap_or_else(PoisonError::into_inner);
        let end = if unreachable.contains(to) {
            ("undelivered", Some("30003"))
        } else {
            ("delivered", None)
        };
        [("queued", None), ("sent", None), end]
    }

    fn callback(
        &self,
        url: &str,
        message: &SentMessage,
        status: &'static str,
        code: Option<&'static str>,
        fault: Option<CallbackFault>,
    ) -> (MadeCallback, Letter) {
        let mut fields = vec![
            ("AccountSid", &*self.account),
            ("ApiVersion", "2010-04-01"),
            ("MessageSid", &message.sid),
            ("MessageStatus", status),
            ("SmsSid", &message.sid),
            ("SmsStatus", status),
            ("To", &message.to),
        ];
        fields.extend(message.from.as_deref().map(|from| ("From", from)));
        fields.extend(code.map(|code| ("ErrorCode", code)));
        let token = match fault {
            Some(CallbackFault::Forge) => "not the token",
            _ => &self.token,
        };
        let called = url.split('#').next().unwrap_or_default();
        let letter = Letter {
            url: called.to_owned(),
            signature: signature(token, called, &fields),
            form: form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish(),
        };
        let callback = MadeCallback {
            sid: message.sid.clone(),
            status,
            answer: None,
        };
        (callback, letter)
    }
}

/// A request to be made.
#[derive(Clone)]
struct Letter {
    url: String,
    signature: String,
    form: String,
}

impl Letter {
    /// The status of the answer, if there is one. Over plain HTTP only.
    async fn send(self) -> Option<u16> {
        let url = Url::parse(&self.url)
            .ok()
            .filter(|url| url.scheme() == "http")?;
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let stream = TcpStream::connect((host, port)).await.ok()?;
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let request = Request::post(target)
            .header(HOST, format!("{host}:{port}"))
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .header("X-Twilio-Signature", self.signature)
            .body(Full::new(Bytes::from(self.form)))
            .ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let exchange = async move { sender.send_request(request).await };
        // The connection ends when the sender is gone.
        let (answer, _) = tokio::join!(exchange, connection);
        Some(answer.ok()?.status().as_u16())
    }
}
