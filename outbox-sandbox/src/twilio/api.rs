//! Routes and credentials.

use super::answer::{answer, not_found, refusal, refused, spoiled, unauthorized};
use super::callback::Callbacks;
use super::list::Query;
use super::{SentMessage, TwilioFault};
use crate::Faults;
use crate::http::Reply;
use crate::ledger::Ledger;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Api {
    account: String,
    authorization: String,
    messages: Arc<Ledger<SentMessage>>,
    faults: Faults<TwilioFault>,
    list_faults: Faults<TwilioFault>,
    callbacks: Arc<Callbacks>,
    /// When it started: no other stand-in gives its messages the same names.
    started: i64,
    last_sid: AtomicU64,
}

impl Api {
    pub(super) fn new(
        account: &str,
        token: &str,
        messages: Arc<Ledger<SentMessage>>,
        faults: Faults<TwilioFault>,
        list_faults: Faults<TwilioFault>,
        callbacks: Arc<Callbacks>,
    ) -> Self {
        Self {
            account: account.to_owned(),
            authorization: format!("Basic {}", STANDARD.encode(format!("{account}:{token}"))),
            messages,
            faults,
            list_faults,
            callbacks,
            started: Utc::now().timestamp_micros(),
            last_sid: AtomicU64::new(0),
        }
    }

    pub(super) fn reply(&self, request: &Request<Bytes>) -> Reply {
        let credentials = request.headers().get(AUTHORIZATION);
        if credentials.is_none_or(|given| given.as_bytes() != self.authorization.as_bytes()) {
            return unauthorized();
        }
        let path = request.uri().path();
        let account = format!("/2010-04-01/Accounts/{}", self.account);
        match (request.method(), path.strip_prefix(&account)) {
            (&Method::POST, Some("/Messages.json")) => self.create(request),
            (&Method::GET, Some("/Messages.json")) => {
                self.list(request.uri().query().unwrap_or_default())
            }
            (&Method::GET, Some(".json")) => answer(200, &self.account_json()),
            (&Method::GET, Some(rest)) => self.show(rest).unwrap_or_else(|| not_found(path)),
            _ => not_found(path),
        }
    }

    fn create(&self, request: &Request<Bytes>) -> Reply {
        let content_type = request.headers().get(CONTENT_TYPE);
        if content_type.is_none_or(|given| given != "application/x-www-form-urlencoded") {
            return refusal((400, 20001, "Unsupported content type".to_owned()));
        }
        let mut message = match SentMessage::read(request.body(), Utc::now()) {
            Ok(message) => message,
            Err(reason) => return refusal(reason),
        };
        let fault = self.faults.take();
        if let Some(refused) = fault.as_ref().and_then(refused) {
            return refused;
        }
        let kind = if message.media_urls.is_empty() {
            "SM"
        } else {
            "MM"
        };
        let number = self.last_sid.fetch_add(1, Ordering::Relaxed) + 1;
        message.sid = format!("{kind}{:016x}{number:016x}", self.started);
        let accepted = message.json(&self.account, false);
        self.callbacks.begin(&message);
        self.messages.add(message);
        let spoiled = fault.as_ref().and_then(spoiled);
        spoiled.unwrap_or_else(|| answer(201, &accepted))
    }

    fn list(&self, query: &str) -> Reply {
        let fault = self.list_faults.take();
        let failed = fault
            .as_ref()
            .and_then(|fault| refused(fault).or_else(|| spoiled(fault)));
        failed.unwrap_or_else(|| {
            let page = Query::read(query).page(&self.messages.entries(), &self.account);
            answer(200, &page)
        })
    }

    fn show(&self, rest: &str) -> Option<Reply> {
        let sid = rest.strip_prefix("/Messages/")?.strip_suffix(".json")?;
        let entries = self.messages.entries();
        let message = entries.iter().find(|message| message.sid == sid)?;
        Some(answer(200, &message.json(&self.account, true)))
    }

    fn account_json(&self) -> Value {
        json!({
            "friendly_name": "Stand-in",
            "sid": self.account,
            "status": "active",
            "type": "Full",
            "uri": format!("/2010-04-01/Accounts/{}.json", self.account),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/2010-04-01/Accounts/AC1";

    fn api() -> Api {
        let messages = Arc::new(Ledger::new(10));
        let callbacks = Arc::new(Callbacks::new("AC1", "t"));
        let faults = Faults::default;
        Api::new("AC1", "t", messages, faults(), faults(), callbacks)
    }

    fn call(api: &Api, method: &str, path: &str, form: &str) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{ROOT}{path}"))
            .header(AUTHORIZATION, "Basic QUMxOnQ=")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::copy_from_slice(form.as_bytes()))
            .unwrap();
        let Reply::Answer(response) = api.reply(&request) else {
            panic!("an answer was due");
        };
        let status = response.status().as_u16();
        (status, serde_json::from_slice(response.body()).unwrap())
    }

    fn send(api: &Api, to: &str) -> Value {
        let form = format!("To={}&From=Outbox&Body=hi", to.replace('+', "%2B"));
        let (status, message) = call(api, "POST", "/Messages.json", &form);
        assert_eq!(status, 201);
        message
    }

    fn listed(api: &Api, query: &str) -> usize {
        let (status, list) = call(api, "GET", &format!("/Messages.json?{query}"), "");
        assert_eq!(status, 200);
        list["messages"].as_array().unwrap().len()
    }

    #[test]
    fn a_new_message_has_the_nulls_of_a_new_message() {
        let message = send(&api(), "+15551234567");
        assert_eq!(message["status"], "queued");
        assert_eq!(message["to"], "+15551234567");
        for field in ["price", "date_sent", "error_code", "messaging_service_sid"] {
            assert!(message[field].is_null(), "{field}");
        }
    }

    #[test]
    fn messages_are_listed_by_number_and_date() {
        let api = api();
        send(&api, "+15551234567");
        send(&api, "+15551234567");
        send(&api, "+15557654321");
        let today = Utc::now().date_naive();
        let tomorrow = today.succ_opt().unwrap();
        assert_eq!(listed(&api, ""), 3);
        assert_eq!(listed(&api, "PageSize=2"), 2);
        assert_eq!(listed(&api, "To=%2B15551234567"), 2);
        assert_eq!(
            listed(&api, &format!("To=%2B15557654321&DateSent%3E={today}")),
            1
        );
        assert_eq!(
            listed(&api, &format!("DateSent%3E={tomorrow}T12:00:00Z")),
            0
        );
        assert_eq!(listed(&api, "DateSent%3C=2020-01-01"), 0);
    }

    #[test]
    fn pages_follow_each_other_whatever_is_sent_in_between() {
        let api = api();
        let sent: Vec<_> = (0..5).map(|_| send(&api, "+15551234567")).collect();
        send(&api, "+15557654321");
        let mut uri = "/Messages.json?To=%2B15551234567&PageSize=2".to_owned();
        let mut listed = Vec::new();
        for number in 0..3 {
            let (_, page) = call(&api, "GET", &uri, "");
            assert_eq!(page["page"], number);
            listed.extend(page["messages"].as_array().unwrap().clone());
            send(&api, "+15551234567");
            let next = page["next_page_uri"].as_str();
            uri = next.map_or(String::new(), |next| next.replacen(ROOT, "", 1));
        }
        assert_eq!(uri, "", "the third page is the last");
        let sids = |messages: &[Value]| messages.iter().map(|each| each["sid"].clone()).collect();
        let mut listed: Vec<Value> = sids(&listed);
        listed.reverse();
        let sent: Vec<Value> = sids(&sent);
        assert_eq!(listed, sent);
        let date = api.messages.entries()[0].created_at.to_rfc2822();
        let (_, first) = call(&api, "GET", "/Messages.json?PageSize=1000", "");
        assert_eq!(first["messages"][8]["date_created"], date);
    }

    #[test]
    fn a_message_and_the_account_can_be_looked_at() {
        let api = api();
        let sid = send(&api, "+15551234567")["sid"].clone();
        let path = format!("/Messages/{}.json", sid.as_str().unwrap());
        assert_eq!(call(&api, "GET", &path, "").1["status"], "sent");
        assert_eq!(call(&api, "GET", ".json", "").1["status"], "active");
        assert_eq!(call(&api, "GET", "/Messages/SM0.json", "").0, 404);
    }

    #[test]
    fn bad_parameters_are_told_by_code() {
        for (form, code) in [
            ("From=Outbox&Body=hi", 21604),
            ("To=%2B15551234567&Body=hi", 21603),
            ("To=%2B15551234567&From=Outbox", 21602),
            ("To=%2B15005550001&From=Outbox&Body=hi", 21211),
            ("To=%2B15551234567&From=%2B15005550007&Body=hi", 21606),
            (
                "To=%2B15551234567&From=Outbox&Body=hi&ValidityPeriod=36001",
                21624,
            ),
        ] {
            let (status, error) = call(&api(), "POST", "/Messages.json", form);
            assert_eq!((status, &error["code"]), (400, &json!(code)), "{form}");
        }
    }
}
