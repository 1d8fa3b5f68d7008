//! From a status callback to what it reports
//! (<https://www.twilio.com/docs/messaging/guides/track-outbound-message-status>).

use crate::form::Form;
use crate::signature::Signature;
use outbox_channel::{BuildError, Callback, CallbackError, Report, ReportedStatus};
use secrecy::SecretString;

/// Checks and reads Twilio's status callbacks.
///
/// ```
/// use channel_sms::StatusCallbacks;
/// use outbox_channel::{Callback, ReportedStatus};
///
/// let url = "https://outbox.example.org/hooks/twilio/sms";
/// let callbacks = StatusCallbacks::new(url, &"a token".into())?;
/// let callback = Callback::new("MessageSid=SM1&MessageStatus=delivered")
///     .with_header("content-type", "application/x-www-form-urlencoded")
///     .with_header("x-twilio-signature", "k0F1ddHFnSbrQkFVSZJ+RCnB5B4=");
/// let report = callbacks.read(&callback)?.unwrap();
/// assert_eq!((report.provider_id(), report.status()), ("SM1", ReportedStatus::Delivered));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StatusCallbacks(Signature);

impl StatusCallbacks {
    /// For callbacks to `url`, exactly as Twilio was given it, from the account with that
    /// token.
    ///
    /// # Errors
    /// When Twilio could not call the URL.
    pub fn new(url: &str, auth_token: &SecretString) -> Result<Self, BuildError> {
        let signature = Signature::new(url, auth_token);
        signature
            .map(Self)
            .map_err(|reason| BuildError::new("status_callback", reason))
    }

    /// What a callback reports; `None` for a status that means nothing to us.
    ///
    /// # Errors
    /// Forged, when the signature is missing or wrong; malformed, when it is not a form with a
    /// message's sid and status.
    pub fn read(&self, callback: &Callback) -> Result<Option<Report>, CallbackError> {
        let Some(given) = callback.header("x-twilio-signature") else {
            let message = "there is no header X-Twilio-Signature, or more than one";
            return Err(CallbackError::forged(message));
        };
        if !callback.header("content-type").is_some_and(is_form) {
            let message = "send a form, with content-type: application/x-www-form-urlencoded";
            return Err(CallbackError::malformed(message));
        }
        let form = Form::read(callback.body()).ok_or_else(|| {
            CallbackError::malformed("the body is not application/x-www-form-urlencoded")
        })?;
        if !self.0.fits(&form, given) {
            return Err(CallbackError::forged(
                "the signature does not fit: status_callback must be, letter by letter, the URL \
                 that Twilio calls, and auth_token the account's primary token",
            ));
        }
        read(&form)
    }
}

/// What is behind the type are parameters such as a charset, of which there is but one: UTF-8.
fn is_form(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The names are those of messages; what is older knows them with `Sms`.
fn read(form: &Form) -> Result<Option<Report>, CallbackError> {
    let sid = form.get("MessageSid").or_else(|| form.get("SmsSid"));
    let Some(sid) = sid.filter(|sid| is_sid(sid)) else {
        return Err(CallbackError::malformed("MessageSid is missing, or no sid"));
    };
    let status = form.get("MessageStatus").or_else(|| form.get("SmsStatus"));
    let Some(status) = status else {
        return Err(CallbackError::malformed("MessageStatus is missing"));
    };
    let code = form.get("ErrorCode").filter(|code| is_code(code));
    Ok(meaning(status).map(|meaning| {
        let report = Report::new(sid, meaning);
        match code {
            Some(code) => report.with_code(code),
            // Twilio gives no code for what its customer has taken back.
            None if status == "canceled" => report.with_code(status),
            None => report,
        }
    }))
}

/// By the [crate](crate)'s table
/// (<https://www.twilio.com/docs/messaging/api/message-resource#message-status-values>).
fn meaning(status: &str) -> Option<ReportedStatus> {
    Some(match status {
        "accepted" | "scheduled" | "queued" | "sending" => ReportedStatus::Accepted,
        "sent" => ReportedStatus::Sent,
        "delivered" | "read" => ReportedStatus::Delivered,
        "undelivered" => ReportedStatus::Undelivered,
        "failed" | "canceled" => ReportedStatus::Failed,
        _ => return None,
    })
}

/// `SM` or `MM` and 32 hexadecimal digits (<https://www.twilio.com/docs/glossary/what-is-a-sid>),
/// not held to the letter.
fn is_sid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A number such as 30003.
fn is_code(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};

    const URL: &str = "https://outbox.example.org/hooks/twilio/sms?a=1";

    /// `fields` are in the order in which they are signed.
    fn read(fields: &[(&str, &str)]) -> Result<Option<Report>, CallbackError> {
        let signed: String = fields
            .iter()
            .flat_map(|(name, value)| [*name, *value])
            .collect();
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"t");
        let signature = STANDARD.encode(sign(&key, format!("{URL}{signed}").as_bytes()));
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let callback = Callback::new(fields.join("&"))
            .with_header(
                "Content-Type",
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .with_header("X-Twilio-Signature", signature);
        StatusCallbacks::new(URL, &"t".into())
            .unwrap()
            .read(&callback)
    }

    #[test]
    fn each_status_has_its_meaning() {
        use ReportedStatus::{Accepted, Delivered, Failed, Sent, Undelivered};
        for (status, meaning) in [
            ("accepted", Accepted),
            ("scheduled", Accepted),
            ("queued", Accepted),
            ("sending", Accepted),
            ("sent", Sent),
            ("delivered", Delivered),
            ("read", Delivered),
            ("undelivered", Undelivered),
            ("failed", Failed),
            ("canceled", Failed),
        ] {
            let fields = [
                ("ErrorCode", "30003"),
                ("MessageSid", "SM1"),
                ("MessageStatus", status),
            ];
            let expected = Report::new("SM1", meaning).with_code("30003");
            assert_eq!(read(&fields).unwrap(), Some(expected));
            let old = [("SmsSid", "SM1"), ("SmsStatus", status)];
            let report = read(&old).unwrap().unwrap();
            assert_eq!((report.provider_id(), report.status()), ("SM1", meaning));
            assert_eq!(report.code(), (status == "canceled").then_some("canceled"));
        }
        for status in ["received", "a-status-of-tomorrow", "", "Delivered"] {
            let fields = [("MessageSid", "SM1"), ("MessageStatus", status)];
            assert_eq!(read(&fields).unwrap(), None, "{status}");
        }
    }

    #[test]
    fn a_signed_form_without_sid_or_status_is_malformed() {
        let long = "S".repeat(65);
        for fields in [
            &[][..],
            &[("MessageSid", "SM1")],
            &[("MessageStatus", "sent")],
            &[("MessageSid", ""), ("MessageStatus", "sent")],
            &[("MessageSid", "SM/1"), ("MessageStatus", "sent")],
            &[("MessageSid", &long), ("MessageStatus", "sent")],
            &[
                ("MessageSid", "SM1"),
                ("MessageSid", "SM2"),
                ("MessageStatus", "sent"),
            ],
            &[
                ("MessageSid", "SM1"),
                ("MessageStatus", "failed"),
                ("MessageStatus", "sent"),
            ],
        ] {
            assert!(!read(fields).unwrap_err().is_forged(), "{fields:?}");
        }
    }

    #[test]
    fn a_code_that_is_no_number_is_left_out() {
        for code in ["", "E1", "12345678901"] {
            let fields = [
                ("ErrorCode", code),
                ("MessageSid", "SM1"),
                ("MessageStatus", "failed"),
            ];
            assert_eq!(read(&fields).unwrap().unwrap().code(), None);
        }
    }

    #[test]
    fn without_a_signature_nothing_else_is_told() {
        let callbacks = StatusCallbacks::new(URL, &"t".into()).unwrap();
        let bare = Callback::new("%");
        assert!(callbacks.read(&bare).unwrap_err().is_forged());
        let signed = bare.with_header("x-twilio-signature", "AAAA");
        assert!(!callbacks.read(&signed).unwrap_err().is_forged());
        let form = signed.with_header("content-type", "application/x-www-form-urlencoded");
        assert!(!callbacks.read(&form).unwrap_err().is_forged());
    }

    #[test]
    fn a_wrong_signature_is_told_without_the_right_one() {
        let callback = Callback::new("MessageSid=SM1&MessageStatus=sent")
            .with_header("content-type", "application/x-www-form-urlencoded")
            .with_header("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        let callbacks = StatusCallbacks::new(URL, &"s3cret".into()).unwrap();
        let error = callbacks.read(&callback).unwrap_err();
        assert!(error.is_forged());
        assert!(!format!("{error:?} {callbacks:?}").contains("s3cret"));
    }
}
