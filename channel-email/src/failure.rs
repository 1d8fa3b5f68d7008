//! What went wrong between us and the server, and what it means for the mail.

use crate::people::Place;
use crate::server::Server;
use lettre::transport::smtp::Error;
use outbox_channel::{ErrorClass, SendError};
use std::borrow::Cow;
use std::error::Error as StdError;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Waiting for one of the allowed connections.
    Slot,
    /// Connecting, encrypting, greeting.
    Connect,
    /// Presenting the credentials.
    SignIn,
    /// Naming the sender.
    Sender,
    /// Naming a recipient.
    Recipient(Place),
    /// Sending the message.
    Message,
    /// All has been sent; only the server knows what it made of it.
    Answer,
}

/// Why it went no further.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The server said no.
    Reply {
        code: u16,
        text: String,
    },
    /// The server said something that makes no sense here, or hung up.
    Unreadable,
    /// The connection could not be made or was lost.
    Lost(String),
    TimedOut,
    /// TLS is asked for and `STARTTLS` not offered.
    NoStartTls,
    /// No mechanism offered that we know.
    NoMechanism,
    /// The mail has addresses that the server's protocol has no way to carry.
    NoUnicode,
}

/// An attempt that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    step: Step,
    cause: Cause,
}

impl Failure {
    pub(crate) fn new(step: Step, cause: Cause) -> Self {
        Self { step, cause }
    }

    pub(crate) fn timed_out(step: Step) -> Self {
        Self::new(step, Cause::TimedOut)
    }

    pub(crate) fn from_lettre(step: Step, error: &Error) -> Self {
        let detail = innermost(error);
        let cause = match error.status() {
            Some(code) => Cause::Reply {
                code: code.into(),
                text: detail,
            },
            None if error.is_response() => Cause::Unreadable,
            None => Cause::Lost(detail),
        };
        Self::new(step, cause)
    }

    /// Whether a connection that has been used before turned out to be closed, or about to be,
    /// before the mail had begun: a new connection may do.
    pub(crate) fn is_stale_connection(&self) -> bool {
        let closing = match self.cause {
            Cause::Reply { code, .. } => code == 421,
            Cause::Lost(_) | Cause::Unreadable => true,
            _ => false,
        };
        closing && self.step == Step::Sender
    }

    fn class(&self) -> ErrorClass {
        match (self.step, &self.cause) {
            (Step::Connect | Step::SignIn, _) => ErrorClass::Unavailable,
            // The server wants other credentials, or TLS, not another mail (RFC 4954, 3207).
            (
                _,
                Cause::Reply {
                    code: 530 | 534 | 535 | 538,
                    ..
                },
            ) => ErrorClass::Unavailable,
            (_, Cause::NoUnicode) => ErrorClass::Permanent,
            (_, Cause::Reply { code, .. }) if *code >= 500 => ErrorClass::Permanent,
            (_, Cause::Reply { .. }) => ErrorClass::Transient,
            (Step::Answer, _) => ErrorClass::Ambiguous,
            _ => ErrorClass::Transient,
        }
    }

    fn code(&self) -> Cow<'static, str> {
        match &self.cause {
            Cause::Reply { code, .. } => code.to_string().into(),
            Cause::Unreadable => "protocol".into(),
            Cause::Lost(_) => "connection".into(),
            Cause::TimedOut => "timeout".into(),
            Cause::NoStartTls => "starttls".into(),
            Cause::NoMechanism => "auth".into(),
            Cause::NoUnicode => "smtputf8".into(),
        }
    }

    /// As the engine is told. Names neither addresses nor credentials; the server's own words
    /// are kept beside the message.
    pub(crate) fn into_error(self, server: &Server) -> SendError {
        let object = self.object();
        let doubt = match self.class() {
            ErrorClass::Ambiguous => "; it may have been delivered",
            _ => "",
        };
        let message = match &self.cause {
            Cause::Reply { code, text } => {
                format!("{server} refused {object}: {code}{}", enhanced(text))
            }
            Cause::Unreadable => {
                format!("{server} hung up or answered nonsense to {object}{doubt}")
            }
            Cause::Lost(why) if self.step == Step::Connect => {
                format!("cannot connect to {server}: {why}")
            }
            Cause::Lost(why) => {
                format!("the connection to {server} was lost at {object}: {why}{doubt}")
            }
            Cause::TimedOut if self.step == Step::Slot => {
                format!("no connection to {server} became free in time; raise pool_size")
            }
            Cause::TimedOut => format!("{server} did not answer {object} in time{doubt}"),
            Cause::NoStartTls => format!(
                "{server} offers no STARTTLS; where plain text is meant, set tls = \"none\""
            ),
            Cause::NoMechanism => format!("{server} offers neither AUTH PLAIN nor LOGIN"),
            Cause::NoUnicode => {
                format!("{server} takes ASCII addresses only, and this mail has others")
            }
        };
        let error = SendError::new(self.class(), self.code(), message);
        match self.cause {
            Cause::Reply { code, text } => error.with_answer(format!("{code} {text}")),
            _ => error,
        }
    }

    fn object(&self) -> Cow<'static, str> {
        match self.step {
            Step::Slot | Step::Connect => "the connection".into(),
            Step::SignIn => "the credentials".into(),
            Step::Sender => "the sender".into(),
            Step::Recipient(place) => format!("recipient {place}").into(),
            Step::Message | Step::Answer => "the message".into(),
        }
    }
}

/// The enhanced status code at the start of an answer, with a space before it
/// ([RFC 3463](https://www.rfc-editor.org/rfc/rfc3463)).
fn enhanced(text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    let mut parts = first.split('.');
    let mut number = |most: usize| {
        let digits = |part: &&str| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        parts.next().filter(digits).is_some()
    };
    if number(1) && number(3) && number(3) && parts.next().is_none() {
        format!(" {first}")
    } else {
        String::new()
    }
}

/// lettre wraps an error several times; the last one says what happened.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorClass::{Ambiguous, Permanent, Transient, Unavailable};

    const STEPS: [Step; 7] = [
        Step::Slot,
        Step::Connect,
        Step::SignIn,
        Step::Sender,
        Step::Recipient(Place::new("to", 0)),
        Step::Message,
        Step::Answer,
    ];

    fn classes(cause: impl Fn() -> Cause) -> [ErrorClass; 7] {
        STEPS.map(|step| Failure::new(step, cause()).class())
    }

    fn reply(code: u16) -> impl Fn() -> Cause {
        move || Cause::Reply {
            code,
            text: String::new(),
        }
    }

    #[test]
    fn a_reply_says_what_may_be_done() {
        let table = [
            (421, Transient),
            (450, Transient),
            (452, Transient),
            (530, Unavailable),
            (535, Unavailable),
            (550, Permanent),
            (552, Permanent),
            (554, Permanent),
        ];
        for (code, class) in table {
            let [_, connect, sign_in, of_the_mail @ ..] = classes(reply(code));
            assert_eq!([connect, sign_in], [Unavailable; 2], "{code}");
            assert_eq!(of_the_mail, [class; 4], "{code}");
        }
    }

    #[test]
    fn silence_is_ambiguous_only_when_all_was_sent() {
        let causes: [fn() -> Cause; 3] = [
            || Cause::TimedOut,
            || Cause::Unreadable,
            || Cause::Lost(String::new()),
        ];
        for cause in causes {
            assert_eq!(
                classes(cause),
                [
                    Transient,
                    Unavailable,
                    Unavailable,
                    Transient,
                    Transient,
                    Transient,
                    Ambiguous
                ]
            );
        }
    }

    #[test]
    fn only_a_mail_that_had_not_begun_is_tried_on_a_new_connection() {
        let stale = |step, cause| Failure::new(step, cause).is_stale_connection();
        assert!(stale(Step::Sender, reply(421)()));
        assert!(stale(Step::Sender, Cause::Unreadable));
        assert!(stale(Step::Sender, Cause::Lost(String::new())));
        assert!(!stale(Step::Sender, reply(451)()));
        assert!(!stale(Step::Sender, Cause::TimedOut));
        assert!(!stale(Step::Message, Cause::Unreadable));
        assert!(!stale(Step::Answer, Cause::Unreadable));
    }

    #[test]
    fn an_enhanced_code_is_recognised() {
        assert_eq!(enhanced("5.1.1 <a@b>: no such user"), " 5.1.1");
        assert_eq!(enhanced("4.7.139 slow down"), " 4.7.139");
        for other in [
            "",
            "no such user",
            "5.1 x",
            "5.1.1.1 x",
            "127.0.0.1 x",
            "5.x.1",
        ] {
            assert_eq!(enhanced(other), "", "{other}");
        }
    }
}
