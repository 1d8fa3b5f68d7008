//! From a payload to the bytes of a mail. Pure: no network, no clock, no chance.

use crate::address::Malformed;
use crate::body::{Part, body};
use crate::payload::Payload;
use crate::people::{People, Recipient};
use lettre::message::header::{self, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::{Address, Message};
use outbox_channel::{Delivery, SendError};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

/// What the settings say for mails that say nothing themselves.
#[doc(hidden)]
pub struct Defaults {
    /// The sender.
    pub from: Option<Mailbox>,
    /// What stands behind the `@` of a `Message-ID`; else it is the sender's domain.
    pub message_id_domain: Option<String>,
    /// The longest message, in bytes.
    pub max_message_bytes: usize,
}

/// A mail ready to be submitted.
#[doc(hidden)]
pub struct Mail {
    pub(crate) sender: Address,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) message: Vec<u8>,
}

impl Mail {
    /// The message as it is sent: header and body.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Whether any server can carry it. Only an address can have other characters, all else
    /// is encoded.
    pub(crate) fn is_ascii(&self) -> bool {
        let address = |recipient: &Recipient| AsRef::<str>::as_ref(&recipient.address).is_ascii();
        self.message.is_ascii() && self.recipients.iter().all(address)
    }
}

/// Makes the mail for `delivery`.
///
/// # Errors
/// A permanent [`SendError`]: what is wrong with a payload stays wrong.
#[doc(hidden)]
pub fn compose(delivery: &Delivery, defaults: &Defaults) -> Result<Mail, SendError> {
    let mut payload: Payload = delivery.message()?;
    within(defaults.max_message_bytes, payload.weight())?;
    let people = People::read(&payload, defaults)?;
    let recipients = people.recipients();
    let sender = people.from.email.clone();
    let domain = defaults.message_id_domain.as_deref();
    let id = format!("<{}@{}>", delivery.id(), domain.unwrap_or(sender.domain()));
    let message = Message::builder()
        .header(header::Date::new(date(delivery)))
        .header(header::MessageId::from(id));
    let mut message = people.address(message, &recipients)?;
    if let Some(subject) = &payload.subject {
        let subject = header_text("subject", subject)?;
        message = message.header(header::Subject::from(subject.to_owned()));
    }
    message = own_headers(message, payload.headers.take().unwrap_or_default())?;
    let message = match body(&mut payload)? {
        Part::Single(part) => message.singlepart(part),
        Part::Multi(part) => message.multipart(part),
    };
    let message = message.map_err(|_| refused("payload", "the mail cannot be put together"))?;
    Ok(Mail {
        sender,
        recipients,
        message: formatted(&message, defaults)?,
    })
}

fn formatted(message: &Message, defaults: &Defaults) -> Result<Vec<u8>, SendError> {
    let mut bytes = message.formatted();
    within(defaults.max_message_bytes, bytes.len())?;
    // Contents are encoded to short lines, so it is one of a header: they break at spaces.
    if bytes
        .split(|byte| *byte == b'\n')
        .any(|line| line.len() > MAX_LINE)
    {
        let problem = "a header field of the mail has a word of more than 998 bytes";
        return Err(refused("header", problem));
    }
    // The end of the message brings a line break of its own.
    if bytes.ends_with(b"\r\n") {
        bytes.truncate(bytes.len() - 2);
    }
    Ok(bytes)
}

/// With a carriage return at its end; servers refuse longer ones or break them anywhere
/// ([RFC 5322, section 2.1.1](https://www.rfc-editor.org/rfc/rfc5322#section-2.1.1)).
const MAX_LINE: usize = 998 + 1;

fn within(limit: usize, bytes: usize) -> Result<(), SendError> {
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the mail has {bytes} bytes or more, max_message_bytes is {limit}");
    Err(refused("too_large", message))
}

/// When the event was written, the same on every attempt; within what a `Date` can say.
fn date(delivery: &Delivery) -> SystemTime {
    const YEAR_9999: i64 = 253_402_300_799;
    let seconds = delivery.event().created_at.timestamp().clamp(0, YEAR_9999);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())
}

/// More than any mail needs.
const MAX_HEADERS: usize = 100;

fn own_headers(
    mut message: MessageBuilder,
    headers: BTreeMap<String, String>,
) -> Result<MessageBuilder, SendError> {
    if headers.len() > MAX_HEADERS {
        let problem = format!("`headers` has more than {MAX_HEADERS} entries");
        return Err(refused("header", problem));
    }
    for (name, value) in headers {
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':')
        {
            return Err(refused("header", "`headers` has a malformed name"));
        }
        if is_reserved(&name) {
            let problem = format!("`headers.{name}` is for the channel to set");
            return Err(refused("header", problem));
        }
        let value = header_text(&format!("headers.{name}"), &value)?.to_owned();
        let name = HeaderName::new_from_ascii(name)
            .map_err(|_| refused("header", "`headers` has a malformed name"))?;
        message = message.raw_header(HeaderValue::new(name, value));
    }
    Ok(message)
}

/// Whether a header field says who, when or how, which other fields of the payload and the
/// servers on the way decide.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "received",
        "return-path",
        "authentication-results",
    ];
    const PREFIXES: [&str; 4] = ["content-", "dkim-", "arc-", "resent-"];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Longer than any header field that servers take as a whole.
const MAX_HEADER_TEXT: usize = 8_000;

/// Lets `text` into the header only if it cannot start a line of its own there.
pub(crate) fn header_text<'a>(field: &str, text: &'a str) -> Result<&'a str, SendError> {
    if text.chars().any(char::is_control) {
        return Err(malformed(field, Malformed::Control));
    }
    if text.len() > MAX_HEADER_TEXT {
        let problem = format!("`{field}` is longer than {MAX_HEADER_TEXT} bytes");
        return Err(refused("header", problem));
    }
    Ok(text)
}

pub(crate) fn malformed(field: impl fmt::Display, problem: Malformed) -> SendError {
    let code = match problem {
        Malformed::Control => "header",
        Malformed::Syntax => "recipient",
    };
    refused(code, format!("`{field}` {problem}"))
}

/// A mail that can never be sent.
pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> SendError {
    SendError::permanent(code, message)
}
