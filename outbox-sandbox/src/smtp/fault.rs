//! The ways in which the server misbehaves.

use std::time::Duration;

/// The point of a conversation at which a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpStep {
    /// The first line the server says.
    Greeting,
    /// The answer to the credentials.
    Auth,
    /// The answer to `MAIL`.
    Mail,
    /// The answer to the first `RCPT`.
    Recipient,
    /// The answer to `DATA`.
    Data,
    /// While the message is being received.
    Body,
    /// The answer to the whole message.
    End,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// A reply with this code; 421 closes the connection as
    /// [RFC 5321, section 4.2.1](https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1) has it.
    Reply(u16),
    /// A line that is no SMTP reply.
    Garbage,
    /// The connection is cut without a word.
    Disconnect,
    /// No answer, for ever; the connection stays open until the client leaves.
    Stall,
    /// The right answer, this much later.
    Delay(Duration),
}

/// One fault: where in the conversation, and what.
///
/// After the whole message was received ([`SmtpStep::End`]) everything but
/// [`Misbehaviour::Reply`] takes the mail and only withholds or spoils the answer: the case
/// in which a sender cannot know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmtpFault {
    /// Where in the conversation.
    pub at: SmtpStep,
    /// What goes wrong there.
    pub what: Misbehaviour,
}

impl SmtpFault {
    /// The server answers `code` at that point.
    #[must_use]
    pub const fn reply(at: SmtpStep, code: u16) -> Self {
        let what = Misbehaviour::Reply(code);
        Self { at, what }
    }

    /// The server answers something unreadable at that point.
    #[must_use]
    pub const fn garbage(at: SmtpStep) -> Self {
        let what = Misbehaviour::Garbage;
        Self { at, what }
    }

    /// The server cuts the connection at that point.
    #[must_use]
    pub const fn disconnect(at: SmtpStep) -> Self {
        let what = Misbehaviour::Disconnect;
        Self { at, what }
    }

    /// The server never answers at that point.
    #[must_use]
    pub const fn stall(at: SmtpStep) -> Self {
        let what = Misbehaviour::Stall;
        Self { at, what }
    }

    /// The server answers rightly, but only after `wait`.
    #[must_use]
    pub const fn delay(at: SmtpStep, wait: Duration) -> Self {
        let what = Misbehaviour::Delay(wait);
        Self { at, what }
    }
}

/// What a server would say with that code.
pub(super) fn text_of(code: u16) -> &'static str {
    match code {
        421 => "4.3.2 closing the connection, come back later",
        450 => "4.2.0 mailbox busy",
        451 => "4.3.0 local error",
        452 => "4.3.1 insufficient storage",
        454 => "4.7.0 temporary authentication failure",
        530 => "5.7.0 authentication required",
        535 => "5.7.8 authentication failed",
        550 => "5.1.1 no such user here",
        552 => "5.3.4 message too big",
        554 => "5.6.0 transaction failed",
        400..=499 => "4.0.0 not now",
        500..=599 => "5.0.0 no",
        _ => "2.0.0 unexpected",
    }
}
