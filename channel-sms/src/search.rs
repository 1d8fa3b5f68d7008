//! What became of an earlier attempt, by Twilio's list of messages.

use crate::answer::classify;
use crate::{Message, Sender};
use chrono::{DateTime, TimeDelta, Utc};
use outbox_channel::{ErrorClass, Receipt, SendError, Verdict};
use serde::Deserialize;
use std::time::Duration;
use twilio_async::TwilioJson;

/// A page of Twilio's list, newest first
/// (<https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources>).
#[derive(Deserialize)]
pub struct MessagePage {
    messages: Vec<Listed>,
    #[serde(default)]
    next_page_uri: Option<String>,
}

/// As for a message that was just accepted, only the sid is demanded.
#[derive(Deserialize)]
struct Listed {
    sid: String,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    messaging_service_sid: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    direction: Option<String>,
    #[serde(default)]
    date_created: Option<String>,
}

/// Reads an answer to the request for a list.
///
/// # Errors
/// *Unavailable* when the account is refused, otherwise *transient*: whatever keeps Twilio
/// from listing its messages says nothing about the one that is looked for.
pub fn read_page(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<MessagePage, SendError> {
    let error = match serde_json::from_slice(body).ok() {
        Some(TwilioJson::Success(page)) if status == 200 => return Ok(page),
        Some(TwilioJson::<MessagePage>::Fail { code, .. }) if status != 200 => {
            not_listed(status, Some(code))
        }
        _ if status == 200 => {
            SendError::transient("answer", "Twilio's list of messages cannot be read")
        }
        _ => not_listed(status, None),
    };
    Err(error.with_retry_after(retry_after))
}

fn not_listed(status: u16, code: Option<usize>) -> SendError {
    let class = match classify(status, code, false) {
        ErrorClass::Unavailable => ErrorClass::Unavailable,
        _ => ErrorClass::Transient,
    };
    let message = format!("Twilio does not list its messages and answers {status}");
    let code = code.map_or(status.to_string(), |code| code.to_string());
    SendError::new(class, code, message)
}

/// How much a listed message is like the one that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Another,
    Perhaps,
    Same,
}

/// Looks for one message in Twilio's list; see the [crate](crate) for its rules.
pub struct Search<'a> {
    message: &'a Message,
    sender: &'a Sender,
    began: DateTime<Utc>,
    /// The sid of the first that is the same.
    found: Option<String>,
    several: bool,
    doubt: bool,
}

impl<'a> Search<'a> {
    /// `date_created` has whole seconds, and clocks that are kept right differ by less.
    const SLACK: TimeDelta = TimeDelta::seconds(5);
    /// How far the database's clock may be ahead of Twilio's before a message goes unnoticed.
    const TOLERANCE: TimeDelta = TimeDelta::seconds(60);

    /// For what an attempt that began then, by the database's clock, has sent.
    #[must_use]
    pub fn new(message: &'a Message, sender: &'a Sender, began: DateTime<Utc>) -> Self {
        Self {
            message,
            sender,
            began,
            found: None,
            several: false,
            doubt: false,
        }
    }

    /// Takes a page into account. Returns the query of the next one, unless what is looked
    /// for can't be there any more.
    pub fn look_at(&mut self, page: MessagePage) -> Option<String> {
        let mut past = !page.messages.is_empty();
        for listed in page.messages {
            let by_time = self.by_time(&listed);
            past &= by_time == Likeness::Another;
            match by_time.min(self.by_content(&listed)) {
                Likeness::Another => {}
                Likeness::Perhaps => self.doubt = true,
                Likeness::Same => match &self.found {
                    None => self.found = Some(listed.sid),
                    // Pages may overlap.
                    Some(sid) => self.several |= *sid != listed.sid,
                },
            }
        }
        // Only the query: the path is known, and credentials go to no other place.
        let next = page.next_page_uri.filter(|uri| !past && !uri.is_empty())?;
        let query = next.split_once('?').map(|(_, query)| query.to_owned());
        Some(query.unwrap_or(next))
    }

    /// What the whole list says. Until `listing_delay` after the beginning, a message that is
    /// not in it may still appear.
    ///
    /// # Errors
    /// *Transient*, code `too_early`, when it is too early to tell, with the time to wait.
    pub fn verdict(
        self,
        now: DateTime<Utc>,
        listing_delay: Duration,
    ) -> Result<Verdict, SendError> {
        let age = (now - self.began).to_std().unwrap_or_default();
        match self.found {
            Some(sid) if !self.several => {
                Ok(Verdict::Delivered(Receipt::new().with_provider_id(sid)))
            }
            Some(_) => Ok(Verdict::Unknown),
            None if age < listing_delay => {
                let message = "Twilio does not list the message, and may not have got to it yet";
                let error = SendError::transient("too_early", message);
                let wait = (listing_delay - age).max(Duration::from_secs(1));
                Err(error.with_retry_after(wait))
            }
            None if self.doubt => Ok(Verdict::Unknown),
            None => Ok(Verdict::NotDelivered),
        }
    }

    fn by_time(&self, listed: &Listed) -> Likeness {
        let created = listed.date_created.as_deref();
        let created = created.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        // Without a date it can be of any.
        let Some(created) = created else {
            return Likeness::Perhaps;
        };
        match self.began.signed_duration_since(created) {
            early if early <= Self::SLACK => Likeness::Same,
            early if early <= Self::TOLERANCE => Likeness::Perhaps,
            _ => Likeness::Another,
        }
    }

    fn by_content(&self, listed: &Listed) -> Likeness {
        let sent_by_request = listed.direction.as_deref().unwrap_or("outbound-api");
        if sent_by_request != "outbound-api" {
            return Likeness::Another;
        }
        let ours = self.message.text();
        let theirs = listed.body.as_deref().unwrap_or_default();
        // Media cannot be compared: its addresses are not in the list.
        let same_text = !ours.is_empty() && ours == theirs;
        if same_text && self.same_numbers(listed) {
            Likeness::Same
        } else if theirs.is_empty() || characters(theirs).contains(&characters(ours)) {
            Likeness::Perhaps
        } else {
            Likeness::Another
        }
    }

    fn same_numbers(&self, listed: &Listed) -> bool {
        let same_sender = match self.message.sent_by(self.sender) {
            // The service picks the number.
            (_, Some(service)) => listed.messaging_service_sid.as_deref() == Some(service),
            (Some(from), None) => {
                let theirs = listed.from.as_deref();
                theirs.is_some_and(|theirs| characters(theirs) == characters(from))
            }
            (None, None) => false,
        };
        same_sender && listed.to.as_deref() == Some(self.message.to())
    }
}

/// What is left of a text when Twilio has replaced quotes and spaces ("smart encoding"), added
/// a trial account's prefix or a link to media, or brought a number into its own form.
fn characters(text: &str) -> String {
    text.chars().filter(|each| each.is_alphanumeric()).collect()
}
