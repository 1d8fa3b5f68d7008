//! One mail over one connection.
//!
//! lettre's own `send` stops at the first refusal without telling which command it was about,
//! and then waits for the answer to a `QUIT`. Here its commands are given one by one, so that
//! at every moment it is known how far the server has come.

use crate::compose::Mail;
use crate::failure::{Cause, Failure, Step};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{Extension, MailBodyParameter, MailParameter, ServerInfo};
use lettre::transport::smtp::response::{Response, Severity};

/// How much of a message is encoded and written at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Submits `mail` and returns the server's last answer, which says that it has been taken.
/// `step` tells how far it went, also to a caller that drops this future.
///
/// After an error the connection may hold an unread answer and must not be used again.
pub(crate) async fn exchange(
    connection: &mut AsyncSmtpConnection,
    mail: &Mail,
    step: &mut Step,
) -> Result<Response, Failure> {
    *step = Step::Sender;
    let parameters = parameters(mail, connection.server_info())?;
    let sender = MailFrom::new(Some(mail.sender.clone()), parameters);
    expect(
        Severity::PositiveCompletion,
        *step,
        connection.command(sender).await,
    )?;
    for recipient in &mail.recipients {
        *step = Step::Recipient(recipient.place);
        let command = Rcpt::new(recipient.address.clone(), Vec::new());
        expect(
            Severity::PositiveCompletion,
            *step,
            connection.command(command).await,
        )?;
    }
    *step = Step::Message;
    expect(
        Severity::PositiveIntermediate,
        *step,
        connection.command(Data).await,
    )?;
    let chunks = Chunks {
        rest: &mail.message,
        step,
    };
    let answer = connection.message_iter(chunks).await;
    expect(Severity::PositiveCompletion, *step, answer)
}

/// What `MAIL` has to announce
/// ([RFC 6531, section 3.4](https://www.rfc-editor.org/rfc/rfc6531#section-3.4),
/// [RFC 6152](https://www.rfc-editor.org/rfc/rfc6152)).
fn parameters(mail: &Mail, server: &ServerInfo) -> Result<Vec<MailParameter>, Failure> {
    if mail.is_ascii() {
        return Ok(Vec::new());
    }
    for needed in [Extension::SmtpUtfEight, Extension::EightBitMime] {
        if !server.supports_feature(needed) {
            return Err(Failure::new(Step::Sender, Cause::NoUnicode));
        }
    }
    let eight_bit = MailParameter::Body(MailBodyParameter::EightBitMime);
    Ok(vec![MailParameter::SmtpUtfEight, eight_bit])
}

fn expect(
    severity: Severity,
    step: Step,
    answer: Result<Response, Error>,
) -> Result<Response, Failure> {
    match answer {
        Ok(answer) if answer.code().severity == severity => Ok(answer),
        Ok(_) => Err(Failure::new(step, Cause::Unreadable)),
        Err(error) => Err(Failure::from_lettre(step, &error)),
    }
}

/// Hands out the message piece by piece. The next piece is asked for when the one before is
/// written, so the end of the pieces is the moment from which the server may have it all.
struct Chunks<'a> {
    rest: &'a [u8],
    step: &'a mut Step,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            *self.step = Step::Answer;
            return None;
        }
        let (chunk, rest) = self.rest.split_at(self.rest.len().min(CHUNK));
        self.rest = rest;
        Some(chunk)
    }
}
