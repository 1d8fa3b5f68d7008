//! One client's conversation.

use super::fault::{Misbehaviour, SmtpFault, SmtpStep, text_of};
use super::inbox::ReceivedMail;
use super::shared::Shared;
use super::wire::{Stream, Wire, path};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::io;
use std::sync::Arc;

/// As many as every server must take
/// ([RFC 5321, section 4.5.3.1.8](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.8)).
const MAX_RECIPIENTS: usize = 100;

/// How the server has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// As it should.
    Rightly,
    /// A fault made it refuse.
    Refused,
    /// Whatever it was, it was the last thing.
    Closing,
}

pub(super) struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    connection: u64,
    /// What goes wrong with the connection.
    fault: Option<SmtpFault>,
    encrypted: bool,
    authenticated: bool,
    transaction: Option<Transaction>,
}

struct Transaction {
    sender: String,
    recipients: Vec<String>,
    /// What goes wrong with this mail.
    fault: Option<SmtpFault>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, stream: Stream, connection: u64) -> Self {
        Self {
            fault: shared.connection_faults.take(),
            authenticated: shared.credentials.is_none(),
            wire: Wire::new(stream),
            shared,
            connection,
            encrypted: false,
            transaction: None,
        }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        let greeting = "localhost ESMTP sandbox";
        let mut said = self.answer(SmtpStep::Greeting, 220, greeting).await?;
        if said == Said::Refused {
            return Ok(());
        }
        while said != Said::Closing {
            let Some(line) = self.wire.command().await? else {
                break;
            };
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            said = self
                .obey(&verb.to_ascii_uppercase(), argument.trim())
                .await?;
        }
        Ok(())
    }

    async fn obey(&mut self, verb: &str, argument: &str) -> io::Result<Said> {
        match verb {
            "EHLO" => self.hello().await,
            "HELO" => self.say(250, "localhost").await,
            "STARTTLS" => self.starttls().await,
            "AUTH" => self.auth(argument).await,
            "MAIL" => self.mail(argument).await,
            "RCPT" => self.recipient(argument).await,
            "DATA" => self.data().await,
            "RSET" => {
                self.transaction = None;
                self.say(250, "2.0.0 Ok").await
            }
            "NOOP" => self.say(250, "2.0.0 Ok").await,
            "QUIT" => {
                self.wire.reply(221, "2.0.0 Bye").await?;
                Ok(Said::Closing)
            }
            _ => self.say(502, "5.5.2 command not recognised").await,
        }
    }

    async fn hello(&mut self) -> io::Result<Said> {
        self.transaction = None;
        let size = format!("SIZE {}", Shared::MAX_MESSAGE);
        let mut keywords = vec!["PIPELINING", "8BITMIME", "SMTPUTF8", &size];
        if self.shared.starttls().is_some() && !self.encrypted {
            keywords.push("STARTTLS");
        }
        if self.shared.credentials.is_some() {
            keywords.push("AUTH PLAIN LOGIN");
        }
        keywords.retain(|keyword| !self.shared.hidden.iter().any(|hidden| hidden == keyword));
        let text = format!("localhost\n{}", keywords.join("\n"));
        self.say(250, &text).await
    }

    async fn starttls(&mut self) -> io::Result<Said> {
        let shared = Arc::clone(&self.shared);
        let Some(tls) = shared.starttls().filter(|_| !self.encrypted) else {
            return self.say(502, "5.5.1 not available").await;
        };
        self.wire.reply(220, "2.0.0 go ahead").await?;
        self.wire.encrypt(tls).await?;
        self.encrypted = true;
        // What was said in the clear is forgotten (RFC 3207, section 4.2).
        self.authenticated = shared.credentials.is_none();
        self.transaction = None;
        Ok(Said::Rightly)
    }

    /// `PLAIN` and `LOGIN` of [RFC 4954](https://www.rfc-editor.org/rfc/rfc4954).
    async fn auth(&mut self, argument: &str) -> io::Result<Said> {
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let initial = (!initial.is_empty()).then(|| initial.to_owned());
        let claimed = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = self.challenge("", initial).await?;
                let mut parts = answer.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            "LOGIN" => {
                let user = self.challenge("Username:", initial).await?;
                Some((user, self.challenge("Password:", None).await?))
            }
            _ => return self.say(504, "5.5.4 mechanism not supported").await,
        };
        if claimed.is_none() || claimed != self.shared.credentials {
            return self.say(535, text_of(535)).await;
        }
        let welcome = "2.7.0 authentication successful";
        let said = self.answer(SmtpStep::Auth, 235, welcome).await?;
        self.authenticated = said == Said::Rightly;
        Ok(said)
    }

    /// The client's answer, decoded; empty when it makes no sense.
    async fn challenge(&mut self, question: &str, given: Option<String>) -> io::Result<String> {
        let answer = match given {
            Some(answer) => answer,
            None => {
                let question = format!("334 {}\r\n", BASE64_STANDARD.encode(question));
                self.wire.write(question.as_bytes()).await?;
                self.wire.command().await?.unwrap_or_default()
            }
        };
        let decoded = BASE64_STANDARD.decode(answer).unwrap_or_default();
        Ok(String::from_utf8(decoded).unwrap_or_default())
    }

    async fn mail(&mut self, argument: &str) -> io::Result<Said> {
        if !self.authenticated {
            return self.say(530, text_of(530)).await;
        }
        if self.transaction.is_some() {
            return self.say(503, "5.5.1 nested MAIL command").await;
        }
        let Some((sender, parameters)) = path(argument, "FROM:") else {
            return self.say(501, "5.5.4 syntax: MAIL FROM:<address>").await;
        };
        if !sender.is_ascii() && !parameters.contains("SMTPUTF8") {
            return self.say(553, "5.6.7 the address needs SMTPUTF8").await;
        }
        self.transaction = Some(Transaction {
            sender: sender.to_owned(),
            recipients: Vec::new(),
            fault: self.shared.faults.take(),
        });
        let said = self.answer(SmtpStep::Mail, 250, "2.1.0 Ok").await?;
        if said == Said::Refused {
            self.transaction = None;
        }
        Ok(said)
    }

    async fn recipient(&mut self, argument: &str) -> io::Result<Said> {
        let Some(transaction) = &self.transaction else {
            return self.say(503, "5.5.1 MAIL first").await;
        };
        let Some((recipient, _)) = path(argument, "TO:") else {
            return self.say(501, "5.5.4 syntax: RCPT TO:<address>").await;
        };
        if transaction.recipients.len() == MAX_RECIPIENTS {
            return self.say(452, "4.5.3 too many recipients").await;
        }
        if self.shared.rejects(recipient) {
            let text = format!("5.1.1 <{recipient}>: no such user here");
            return self.say(550, &text).await;
        }
        let said = self.answer(SmtpStep::Recipient, 250, "2.1.5 Ok").await?;
        if let Some(transaction) = &mut self.transaction
            && said == Said::Rightly
        {
            transaction.recipients.push(recipient.to_owned());
        }
        Ok(said)
    }

    async fn data(&mut self) -> io::Result<Said> {
        let ready = |transaction: &Transaction| !transaction.recipients.is_empty();
        if !self.transaction.as_ref().is_some_and(ready) {
            return self.say(503, "5.5.1 RCPT first").await;
        }
        let go_on = "end data with <CR><LF>.<CR><LF>";
        let said = self.answer(SmtpStep::Data, 354, go_on).await?;
        if said != Said::Rightly {
            return Ok(said);
        }
        if self.due(SmtpStep::Body).is_some() {
            self.answer(SmtpStep::Body, 451, text_of(451)).await?;
            return Ok(Said::Closing);
        }
        let Some(message) = self.wire.message(Shared::MAX_MESSAGE).await? else {
            self.transaction = None;
            return self.say(552, text_of(552)).await;
        };
        let queue_id = self.shared.queue_id();
        if !matches!(self.due(SmtpStep::End), Some(Misbehaviour::Reply(_))) {
            self.keep(message, &queue_id);
        }
        let taken = format!("2.0.0 Ok: queued as {queue_id}");
        let said = self.answer(SmtpStep::End, 250, &taken).await;
        self.transaction = None;
        said
    }

    fn keep(&mut self, data: Vec<u8>, queue_id: &str) {
        if let Some(transaction) = &mut self.transaction {
            self.shared.inbox.put(ReceivedMail {
                sender: std::mem::take(&mut transaction.sender),
                recipients: std::mem::take(&mut transaction.recipients),
                data,
                connection: self.connection,
                queue_id: queue_id.to_owned(),
            });
        }
    }

    /// What is to go wrong at `step`.
    fn due(&self, step: SmtpStep) -> Option<Misbehaviour> {
        let with_mail = self.transaction.as_ref().and_then(|mail| mail.fault);
        [self.fault, with_mail]
            .into_iter()
            .flatten()
            .find(|fault| fault.at == step)
            .map(|fault| fault.what)
    }

    /// Says what is right at `step`, or what the fault that is due there has it say.
    async fn answer(&mut self, step: SmtpStep, code: u16, text: &str) -> io::Result<Said> {
        match self.due(step) {
            None => self.say(code, text).await,
            Some(Misbehaviour::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                self.say(code, text).await
            }
            Some(Misbehaviour::Garbage) => {
                self.wire.write(b"?! not a reply\r\n").await?;
                Ok(Said::Rightly)
            }
            Some(Misbehaviour::Reply(code)) => {
                self.wire.reply(code, text_of(code)).await?;
                Ok(if code == 421 {
                    Said::Closing
                } else {
                    Said::Refused
                })
            }
            Some(Misbehaviour::Disconnect) => Ok(Said::Closing),
            Some(Misbehaviour::Stall) => {
                self.wire.stall().await?;
                Ok(Said::Closing)
            }
        }
    }

    async fn say(&mut self, code: u16, text: &str) -> io::Result<Said> {
        self.wire.reply(code, text).await?;
        Ok(Said::Rightly)
    }
}
