//! Who a mail is from and who gets it.

use crate::address::mailbox;
use crate::compose::{Defaults, malformed, refused};
use crate::payload::{Addresses, Payload};
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::{Mailbox, Mailboxes, MessageBuilder, header};
use outbox_channel::SendError;
use std::collections::HashSet;
use std::fmt;

/// All the addresses of a mail.
pub(crate) struct People {
    pub(crate) from: Mailbox,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Vec<Mailbox>,
}

/// One recipient of the envelope.
pub(crate) struct Recipient {
    pub(crate) address: Address,
    pub(crate) place: Place,
}

/// Where in the payload a recipient is named: `cc[0]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    field: &'static str,
    index: usize,
}

impl Place {
    pub(crate) const fn new(field: &'static str, index: usize) -> Self {
        Self { field, index }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.field, self.index)
    }
}

impl People {
    pub(crate) fn read(payload: &Payload, defaults: &Defaults) -> Result<Self, SendError> {
        let people = Self {
            from: sender(payload, defaults)?,
            to: mailboxes("to", &payload.to)?,
            cc: mailboxes("cc", &payload.cc)?,
            bcc: mailboxes("bcc", &payload.bcc)?,
            reply_to: mailboxes("reply_to", &payload.reply_to)?,
        };
        if people.to.is_empty() {
            return Err(refused("recipient", "`to` needs at least one address"));
        }
        Ok(people)
    }

    /// Everybody once, however often they are named.
    pub(crate) fn recipients(&self) -> Vec<Recipient> {
        let fields = [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)];
        let mut seen = HashSet::new();
        let mut recipients = Vec::new();
        for (field, mailboxes) in fields {
            for (index, mailbox) in mailboxes.iter().enumerate() {
                if seen.insert(&mailbox.email) {
                    recipients.push(Recipient {
                        address: mailbox.email.clone(),
                        place: Place::new(field, index),
                    });
                }
            }
        }
        recipients
    }

    /// Writes down who may know of whom: `bcc` stays in the envelope.
    pub(crate) fn address(
        self,
        message: MessageBuilder,
        recipients: &[Recipient],
    ) -> Result<MessageBuilder, SendError> {
        let addresses = recipients.iter().map(|recipient| recipient.address.clone());
        let envelope = Envelope::new(Some(self.from.email.clone()), addresses.collect())
            .map_err(|_| refused("recipient", "there is nobody to send it to"))?;
        let mut message = message
            .envelope(envelope)
            .header(header::From::from(Mailboxes::from(self.from)))
            .header(header::To::from(Mailboxes::from(self.to)));
        if !self.cc.is_empty() {
            message = message.header(header::Cc::from(Mailboxes::from(self.cc)));
        }
        if !self.reply_to.is_empty() {
            message = message.header(header::ReplyTo::from(Mailboxes::from(self.reply_to)));
        }
        Ok(message)
    }
}

fn sender(payload: &Payload, defaults: &Defaults) -> Result<Mailbox, SendError> {
    match (&payload.from, &defaults.from) {
        (Some(from), _) => mailbox(from).map_err(|problem| malformed("from", problem)),
        (None, Some(from)) => Ok(from.clone()),
        (None, None) => Err(refused(
            "sender",
            "neither the payload nor the channel's settings have a `from`",
        )),
    }
}

fn mailboxes(field: &'static str, addresses: &Addresses) -> Result<Vec<Mailbox>, SendError> {
    let read = |(index, text): (usize, &String)| {
        mailbox(text).map_err(|problem| malformed(Place::new(field, index), problem))
    };
    addresses.0.iter().enumerate().map(read).collect()
}
