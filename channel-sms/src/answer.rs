//! From Twilio's answer to an outcome.

use crate::Message;
use outbox_channel::http::classify_status;
use outbox_channel::{ErrorClass, Receipt, SendError};
use serde::Deserialize;
use std::time::Duration;
use twilio_async::TwilioJson;

/// A message that Twilio took. It leaves null what it does not know yet, and adds statuses
/// over time, so only the sid is demanded and the status is text.
#[derive(Deserialize)]
struct Accepted {
    sid: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error_code: Option<u32>,
}

/// What Twilio's answer to `message` means.
///
/// # Errors
/// By the [crate](crate)'s table, with Twilio's error code where it gives one.
pub fn read_answer(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    message: &Message,
) -> Result<Receipt, SendError> {
    let success = matches!(status, 200..=299);
    match serde_json::from_slice(body).ok() {
        Some(TwilioJson::Success(accepted)) if success => receipt(accepted),
        Some(TwilioJson::<Accepted>::Fail {
            code,
            message: text,
            ..
        }) if !success => {
            let text = masked(&text, message);
            let error = SendError::new(
                classify(status, Some(code), message.has_sender()),
                code.to_string(),
                format!("Twilio refuses the message: {text}"),
            );
            Err(error.with_retry_after(retry_after))
        }
        // What cannot be read may repeat the message, so none of it is shown.
        _ if success => Err(SendError::ambiguous(
            "answer",
            format!("Twilio answered {status} without a sid and may have taken the message"),
        )),
        _ => Err(unreadable(status, retry_after)),
    }
}

/// What Twilio's answer about the account means.
pub(crate) fn read_account(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<(), SendError> {
    match serde_json::from_slice(body).ok() {
        Some(TwilioJson::<Accepted>::Success(account)) if status == 200 => {
            match account.status.as_deref() {
                None | Some("active") => Ok(()),
                Some(_) => Err(SendError::unavailable(
                    "account",
                    "the Twilio account is suspended or closed",
                )),
            }
        }
        Some(TwilioJson::Fail { code, .. }) => {
            let message = format!("Twilio refuses the credentials with status {status}");
            let class = classify(status, Some(code), false);
            Err(SendError::new(class, code.to_string(), message).with_retry_after(retry_after))
        }
        _ => Err(unreadable(status, retry_after)),
    }
}

fn receipt(accepted: Accepted) -> Result<Receipt, SendError> {
    match accepted.status.as_deref() {
        Some("failed" | "undelivered" | "canceled") => {
            let code = accepted.error_code.map(|code| code.to_string());
            let code = code.unwrap_or_else(|| "failed".to_owned());
            let message = "Twilio took the message and could not deliver it";
            Err(SendError::permanent(code, message))
        }
        _ => Ok(Receipt::new().with_provider_id(accepted.sid)),
    }
}

fn unreadable(status: u16, retry_after: Option<Duration>) -> SendError {
    let message = format!("Twilio's API answered {status} and not in its own form");
    SendError::new(classify(status, None, false), status.to_string(), message)
        .with_retry_after(retry_after)
}

/// By Twilio's code (<https://www.twilio.com/docs/api/errors>), then by HTTP status.
pub(crate) fn classify(status: u16, code: Option<usize>, own_sender: bool) -> ErrorClass {
    match code {
        // The account: not active, out of funds, not allowed.
        Some(10001 | 10002 | 20003 | 20005 | 20006 | 20008 | 20403 | 20404 | 30002 | 63038) => {
            ErrorClass::Unavailable
        }
        // Too fast: requests, or messages that wait for their sender.
        Some(14107 | 20429 | 21611 | 30001 | 30022) => ErrorClass::Transient,
        // The sender does not exist, is not ours or cannot send. From the settings, it is
        // wrong for every message.
        Some(21212 | 21601 | 21660 | 21661 | 21701 | 21704 | 21705) if !own_sender => {
            ErrorClass::Unavailable
        }
        // The message, whatever the status: some of these come with 403.
        Some(21000..=21999 | 30003..=30999) => ErrorClass::Permanent,
        _ => match status {
            // The path has nothing in it but the account, and there is no place to go to.
            401..=404 | 407 | 100..=399 => ErrorClass::Unavailable,
            _ => classify_status(status),
        },
    }
}

/// Twilio's messages quote numbers, and may quote more.
fn masked(text: &str, message: &Message) -> String {
    const SHORTEST: usize = 4;
    let mut text = text.to_owned();
    for personal in message.personal() {
        if personal.len() >= SHORTEST {
            text = text.replace(personal, "***");
        }
    }
    let mask = |character: char| {
        if character.is_numeric() {
            '#'
        } else {
            character
        }
    };
    text.chars().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox_channel::Delivery;
    use serde_json::{Value, json};

    fn message(payload: &Value) -> Message {
        Message::read(
            &Delivery::builder("a", &payload.to_string())
                .unwrap()
                .build(),
        )
        .unwrap()
    }

    fn plain() -> Message {
        message(&json!({"to": "+15551234567", "body": "Your code is abcd"}))
    }

    fn answered(status: u16, body: &Value) -> Result<Receipt, SendError> {
        read_answer(status, None, body.to_string().as_bytes(), &plain())
    }

    fn refused(status: u16, code: u32) -> SendError {
        answered(
            status,
            &json!({"code": code, "message": "no", "status": status}),
        )
        .unwrap_err()
    }

    #[test]
    fn a_sid_is_all_that_is_needed() {
        for body in [
            json!({"sid": "SM1"}),
            json!({"sid": "SM1", "status": "queued", "error_code": null, "price": null}),
            json!({"sid": "SM1", "status": "a status of tomorrow"}),
        ] {
            let receipt = answered(201, &body).unwrap();
            assert_eq!(receipt.provider_id(), Some("SM1"));
        }
    }

    #[test]
    fn a_success_that_cannot_be_read_is_ambiguous_and_not_shown() {
        for body in [
            &b""[..],
            b"<html>",
            b"[]",
            b"{}",
            br#"{"body": "abcd", "sid"#,
        ] {
            let error = read_answer(200, None, body, &plain()).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Ambiguous);
            assert!(!format!("{error:?}").contains("abcd"));
        }
        let odd = answered(200, &json!({"code": 1, "message": "m", "status": 400}));
        assert_eq!(odd.unwrap_err().class(), ErrorClass::Ambiguous);
    }

    #[test]
    fn a_message_that_failed_at_once_is_permanent() {
        let error = answered(
            201,
            &json!({"sid": "SM1", "status": "failed", "error_code": 30006}),
        );
        let error = error.unwrap_err();
        assert_eq!(
            (error.class(), error.code()),
            (ErrorClass::Permanent, "30006")
        );
    }

    #[test]
    fn codes_decide_before_statuses() {
        use ErrorClass::{Permanent, Transient, Unavailable};
        for (status, code, class) in [
            (401, 20003, Unavailable),
            (403, 20005, Unavailable),
            (400, 10001, Unavailable),
            (404, 20404, Unavailable),
            (429, 63038, Unavailable),
            (400, 21660, Unavailable),
            (429, 20429, Transient),
            (400, 21611, Transient),
            (503, 20503, Transient),
            (500, 20500, Transient),
            (400, 21211, Permanent),
            (400, 21610, Permanent),
            (400, 21612, Permanent),
            (400, 21614, Permanent),
            (403, 21408, Permanent),
            (400, 30003, Permanent),
            (400, 20001, Permanent),
        ] {
            let error = refused(status, code);
            assert_eq!((error.class(), error.code()), (class, &*code.to_string()));
        }
    }

    #[test]
    fn a_bad_sender_is_the_channels_fault_only_if_the_channel_chose_it() {
        let body = json!({"code": 21212, "message": "no", "status": 400}).to_string();
        let own = message(&json!({"to": "+15551234567", "body": "hi", "from": "Nobody"}));
        let error = read_answer(400, None, body.as_bytes(), &own).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Permanent);
        assert_eq!(refused(400, 21212).class(), ErrorClass::Unavailable);
    }

    #[test]
    fn without_a_code_the_status_decides() {
        for (status, class) in [
            (301, ErrorClass::Unavailable),
            (400, ErrorClass::Permanent),
            (401, ErrorClass::Unavailable),
            (403, ErrorClass::Unavailable),
            (404, ErrorClass::Unavailable),
            (408, ErrorClass::Transient),
            (429, ErrorClass::Transient),
            (502, ErrorClass::Transient),
        ] {
            let error = read_answer(status, None, b"<html>abcd</html>", &plain()).unwrap_err();
            assert_eq!((error.class(), error.code()), (class, &*status.to_string()));
            assert!(!format!("{error:?}").contains("abcd"));
        }
    }

    #[test]
    fn numbers_and_texts_are_masked() {
        let text = "The number +15551234567 (1 555 123-4567) cannot get 'Your code is abcd'";
        let error = answered(400, &json!({"code": 21211, "message": text, "status": 400}));
        let error = error.unwrap_err();
        let shown = format!("{error:?}");
        for personal in ["555", "4567", "abcd"] {
            assert!(!shown.contains(personal), "{shown}");
        }
        assert!(
            error.message().contains("The number *** (# ### ###-####)"),
            "{error}"
        );
    }

    #[test]
    fn an_account_must_be_active() {
        let account = |status, body: Value| read_account(status, None, body.to_string().as_bytes());
        assert!(account(200, json!({"sid": "AC1", "status": "active"})).is_ok());
        let suspended = account(200, json!({"sid": "AC1", "status": "suspended"}));
        assert_eq!(suspended.unwrap_err().class(), ErrorClass::Unavailable);
        let refused = account(401, json!({"code": 20003, "message": "no", "status": 401}));
        assert_eq!(refused.unwrap_err().code(), "20003");
        assert!(read_account(200, None, b"<html>").is_err());
    }
}
