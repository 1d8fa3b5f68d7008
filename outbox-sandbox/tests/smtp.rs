//! The SMTP stand-in, spoken to in its own protocol.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use outbox_sandbox::smtp::{SmtpFault, SmtpServer, SmtpStep};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(server: &SmtpServer) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// Connects and reads the greeting.
    async fn greeted(server: &SmtpServer) -> Self {
        let mut client = Self::connect(server).await;
        assert!(client.reply().await.starts_with("220 "));
        client
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// One reply, all its lines.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let read = self.0.read_line(&mut reply).await.unwrap();
            if read == 0 || reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    async fn say(&mut self, line: &str) -> String {
        self.write(&format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Goes through the commands, expects a success for each, and stands before the message.
    async fn begin(&mut self, recipients: &[&str]) {
        assert!(
            self.say("MAIL FROM:<me@example.org>")
                .await
                .starts_with("250")
        );
        for recipient in recipients {
            let answer = self.say(&format!("RCPT TO:<{recipient}>")).await;
            assert!(answer.starts_with("250"), "{answer}");
        }
        assert!(self.say("DATA").await.starts_with("354"));
    }

    async fn is_closed(&mut self) -> bool {
        self.0.read_to_end(&mut Vec::new()).await.unwrap() == 0
    }
}

#[tokio::test]
async fn a_mail_is_kept_with_its_envelope_and_without_dot_stuffing() {
    let server = SmtpServer::start().await.unwrap();
    let mut client = Client::greeted(&server).await;
    client.say("EHLO me").await;
    client.begin(&["ada@example.org", "bob@example.org"]).await;
    let answer = client
        .say("Subject: one\r\n two\r\nX: y\r\n\r\n..dot\r\n...\r\nlone\n.\r\nend\r\n.")
        .await;
    let mail = server.wait_for(1).await.remove(0);
    assert_eq!(
        answer.trim_end(),
        format!("250 2.0.0 Ok: queued as {}", mail.queue_id)
    );
    assert_eq!(mail.sender, "me@example.org");
    assert_eq!(mail.recipients, ["ada@example.org", "bob@example.org"]);
    assert_eq!(mail.header("subject").as_deref(), Some("one two"));
    assert_eq!(mail.header("end"), None);
    assert!(
        mail.text()
            .ends_with("\r\n\r\n.dot\r\n..\r\nlone\n.\r\nend\r\n")
    );
    assert_eq!(mail.connection, 1);
}

#[tokio::test]
async fn commands_may_come_in_one_go() {
    let server = SmtpServer::start().await.unwrap();
    let mut client = Client::greeted(&server).await;
    let greeting = client.say("EHLO me").await;
    for keyword in ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE "] {
        assert!(greeting.contains(keyword), "{greeting}");
    }
    client
        .write("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhi\r\n.\r\nQUIT\r\n")
        .await;
    for code in ["250", "250", "354", "250", "221"] {
        assert!(client.reply().await.starts_with(code));
    }
    assert!(client.is_closed().await);
    assert_eq!(server.mails()[0].text(), "hi\r\n");
}

#[tokio::test]
async fn commands_out_of_order_and_unknown_ones_are_refused() {
    let server = SmtpServer::start().await.unwrap();
    let mut client = Client::greeted(&server).await;
    let conversation = [
        ("HELO me", "250"),
        ("RCPT TO:<a@b>", "503"),
        ("DATA", "503"),
        ("MAIL a@b", "501"),
        ("MAIL FROM:<é@b>", "553"),
        ("MAIL FROM:<é@b> SMTPUTF8", "250"),
        ("MAIL FROM:<a@b>", "503"),
        ("RCPT a@b", "501"),
        ("RSET", "250"),
        ("RCPT TO:<a@b>", "503"),
        ("NOOP", "250"),
        ("VRFY a", "502"),
        ("STARTTLS", "502"),
        ("AUTH CRAM-MD5", "504"),
    ];
    for (line, code) in conversation {
        let answer = client.say(line).await;
        assert!(answer.starts_with(code), "{line}: {answer}");
    }
}

#[tokio::test]
async fn mail_is_taken_only_with_the_right_credentials() {
    let server = SmtpServer::builder()
        .credentials("ada", "s/same")
        .start()
        .await
        .unwrap();
    assert!(server.url().starts_with("smtp://ada:s%2Fsame@127.0.0.1:"));
    let mut client = Client::greeted(&server).await;
    assert!(client.say("EHLO me").await.contains("AUTH PLAIN LOGIN"));
    assert!(client.say("MAIL FROM:<a@b>").await.starts_with("530"));
    // \0ada\0wrong, then \0ada\0s/same
    assert!(
        client
            .say("AUTH PLAIN AGFkYQB3cm9uZw==")
            .await
            .starts_with("535")
    );
    assert!(client.say("AUTH PLAIN nonsense").await.starts_with("535"));
    assert!(
        client
            .say("AUTH PLAIN AGFkYQBzL3NhbWU=")
            .await
            .starts_with("235")
    );
    assert!(client.say("MAIL FROM:<a@b>").await.starts_with("250"));

    let mut client = Client::greeted(&server).await;
    assert_eq!(client.say("AUTH LOGIN").await, "334 VXNlcm5hbWU6\r\n");
    assert_eq!(client.say("YWRh").await, "334 UGFzc3dvcmQ6\r\n");
    assert!(client.say("cy9zYW1l").await.starts_with("235"));
}

#[tokio::test]
async fn the_last_mails_are_kept_and_all_are_counted() {
    let server = SmtpServer::builder().keep(2).start().await.unwrap();
    let mut client = Client::greeted(&server).await;
    for number in 1..=3 {
        client.begin(&["a@b"]).await;
        client.say(&format!("{number}\r\n.")).await;
    }
    let texts = server.wait_for(3).await.into_iter().map(|mail| mail.text());
    assert_eq!(texts.collect::<Vec<_>>(), ["2\r\n", "3\r\n"]);
    assert_eq!((server.mail_count(), server.connection_count()), (3, 1));
}

#[tokio::test]
async fn a_rejected_recipient_is_a_hard_bounce() {
    let server = SmtpServer::start().await.unwrap();
    server.reject_recipient("Bounce@example.org");
    let mut client = Client::greeted(&server).await;
    client.say("MAIL FROM:<a@b>").await;
    let answer = client.say("RCPT TO:<bounce@EXAMPLE.org>").await;
    assert!(answer.starts_with("550 5.1.1 "), "{answer}");
    assert!(
        client
            .say("RCPT TO:<other@example.org>")
            .await
            .starts_with("250")
    );
}

#[tokio::test]
async fn a_reply_fault_is_given_once_where_it_belongs() {
    let steps = [
        (SmtpStep::Mail, "MAIL FROM:<a@b>"),
        (SmtpStep::Recipient, "RCPT TO:<a@b>"),
        (SmtpStep::Data, "DATA"),
        (SmtpStep::End, "hi\r\n."),
    ];
    let server = SmtpServer::start().await.unwrap();
    for (step, _) in steps {
        server.faults().next(SmtpFault::reply(step, 451));
        let mut client = Client::greeted(&server).await;
        for (reached, line) in steps {
            let answer = client.say(line).await;
            assert_eq!(
                answer.starts_with("451"),
                reached == step,
                "{step:?} {line}"
            );
            if reached == step {
                break;
            }
        }
        assert!(client.say("RSET").await.starts_with("250"));
        client.begin(&["a@b"]).await;
        assert!(client.say(".").await.starts_with("250"), "{step:?}");
    }
    assert_eq!(server.mail_count(), 4);
}

#[tokio::test]
async fn a_421_closes_the_connection() {
    let server = SmtpServer::start().await.unwrap();
    server.faults().next(SmtpFault::reply(SmtpStep::Mail, 421));
    let mut client = Client::greeted(&server).await;
    assert!(client.say("MAIL FROM:<a@b>").await.starts_with("421"));
    assert!(client.is_closed().await);

    server
        .connection_faults()
        .next(SmtpFault::reply(SmtpStep::Greeting, 421));
    let mut client = Client::connect(&server).await;
    assert!(client.reply().await.starts_with("421"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_spoiled_answer_does_not_undo_the_mail() {
    let server = SmtpServer::start().await.unwrap();
    let faults = [
        SmtpFault::garbage(SmtpStep::End),
        SmtpFault::disconnect(SmtpStep::End),
        SmtpFault::stall(SmtpStep::End),
        SmtpFault::delay(SmtpStep::End, Duration::from_millis(1)),
    ];
    for (fault, count) in faults.into_iter().zip(1..) {
        server.faults().next(fault);
        let mut client = Client::greeted(&server).await;
        client.begin(&["a@b"]).await;
        client.write("hi\r\n.\r\n").await;
        server.wait_for(count).await;
        match count {
            1 => assert_eq!(client.reply().await, "?! not a reply\r\n"),
            2 => assert!(client.is_closed().await),
            3 => {}
            _ => assert!(client.reply().await.starts_with("250")),
        }
    }
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_and_the_connection_lives_on() {
    let server = SmtpServer::start().await.unwrap();
    let mut client = Client::greeted(&server).await;
    client.begin(&["a@b"]).await;
    let line = format!("{}\r\n", "x".repeat(1_048_574));
    for _ in 0..65 {
        client.write(&line).await;
    }
    assert!(client.say(".").await.starts_with("552"));
    assert!(client.say("NOOP").await.starts_with("250"));
    assert_eq!(server.mail_count(), 0);
}
