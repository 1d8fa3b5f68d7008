//! Answers in Twilio's form, and those of faults.

use super::TwilioFault;
use super::message::Refusal;
use crate::http::Reply;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// The reply of a fault that changes nothing.
pub(super) fn refused(fault: &TwilioFault) -> Option<Reply> {
    match fault {
        TwilioFault::TooManyRequests { retry_after } => {
            let mut response = error(429, 20429, "Too Many Requests");
            let wait = HeaderValue::from(retry_after.as_secs());
            response.headers_mut().insert(RETRY_AFTER, wait);
            Some(Reply::Answer(response))
        }
        TwilioFault::Unavailable => {
            let response = error(503, 20503, "Service is temporarily unavailable");
            Some(Reply::Answer(response))
        }
        TwilioFault::Unauthorized => Some(unauthorized()),
        TwilioFault::Lose => Some(Reply::Silence),
        TwilioFault::Stall | TwilioFault::HangUp | TwilioFault::Garbage => None,
    }
}

/// The reply of a fault that comes when all is done.
pub(super) fn spoiled(fault: &TwilioFault) -> Option<Reply> {
    match fault {
        TwilioFault::Stall => Some(Reply::Silence),
        TwilioFault::HangUp => Some(Reply::HangUp),
        TwilioFault::Garbage => {
            let page = Bytes::from_static(b"<html>Welcome</html>");
            Some(Reply::Answer(Response::new(page)))
        }
        _ => None,
    }
}

pub(super) fn answer(status: u16, json: &Value) -> Reply {
    Reply::Answer(response(status, json))
}

pub(super) fn unauthorized() -> Reply {
    refusal((401, 20003, "Authenticate".to_owned()))
}

pub(super) fn not_found(path: &str) -> Reply {
    let text = format!("The requested resource {path} was not found");
    refusal((404, 20404, text))
}

pub(super) fn refusal((status, code, message): Refusal) -> Reply {
    Reply::Answer(error(status, code, &message))
}

/// The shape of Twilio's errors
/// (<https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions>).
fn error(status: u16, code: u32, message: &str) -> Response<Bytes> {
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    response(
        status,
        &json!({"code": code, "message": message, "more_info": more, "status": status}),
    )
}

fn response(status: u16, json: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(json.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static("application/json;charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
