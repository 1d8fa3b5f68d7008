//! What a failure is called, and that it stays with the mail it belongs to.

use crate::{build, delivery, hasty, pair, settings, short};
use outbox_channel::{Channel, Delivery, ErrorClass, SendError};
use outbox_sandbox::smtp::{SmtpFault, SmtpServer, SmtpStep};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;

use ErrorClass::{Ambiguous, Permanent, Transient, Unavailable};

async fn failed(channel: &dyn Channel, delivery: &Delivery) -> SendError {
    channel.send(delivery).await.unwrap_err()
}

/// The mails with that subject that the server has taken.
fn count(server: &SmtpServer, subject: &str) -> usize {
    let mails = server.mails();
    let is_it = |mail: &&_| {
        outbox_sandbox::smtp::ReceivedMail::header(mail, "Subject").as_deref() == Some(subject)
    };
    mails.iter().filter(is_it).count()
}

#[tokio::test]
async fn a_fault_has_its_class_and_code() {
    let table = [
        (SmtpFault::reply(SmtpStep::Mail, 421), Transient, "421"),
        (SmtpFault::reply(SmtpStep::Mail, 451), Transient, "451"),
        (SmtpFault::reply(SmtpStep::Mail, 550), Permanent, "550"),
        (SmtpFault::reply(SmtpStep::Recipient, 450), Transient, "450"),
        (SmtpFault::reply(SmtpStep::Recipient, 452), Transient, "452"),
        (SmtpFault::reply(SmtpStep::Recipient, 421), Transient, "421"),
        (SmtpFault::reply(SmtpStep::Recipient, 550), Permanent, "550"),
        (SmtpFault::reply(SmtpStep::Data, 451), Transient, "451"),
        (SmtpFault::reply(SmtpStep::Data, 554), Permanent, "554"),
        (SmtpFault::reply(SmtpStep::Data, 250), Transient, "protocol"),
        (SmtpFault::reply(SmtpStep::End, 452), Transient, "452"),
        (SmtpFault::reply(SmtpStep::End, 554), Permanent, "554"),
        (SmtpFault::reply(SmtpStep::End, 354), Ambiguous, "protocol"),
        (SmtpFault::garbage(SmtpStep::Mail), Transient, "protocol"),
        (SmtpFault::disconnect(SmtpStep::Data), Transient, "protocol"),
        (SmtpFault::garbage(SmtpStep::End), Ambiguous, "protocol"),
        (SmtpFault::disconnect(SmtpStep::End), Ambiguous, "protocol"),
    ];
    for (fault, class, code) in table {
        let (server, channel) = pair().await;
        server.faults().next(fault);
        let error = failed(&*channel, &short("one")).await;
        assert_eq!(
            (error.class(), error.code()),
            (class, code),
            "{fault:?}: {error}"
        );
        let doubt = error.message().contains("may have been delivered");
        assert_eq!(doubt, class == Ambiguous, "{fault:?}: {error}");
        if code != "protocol" {
            assert!(
                error
                    .answer()
                    .is_some_and(|answer| answer.starts_with(code)),
                "{fault:?}"
            );
        }
        // Whatever it was, the next mail is not affected.
        let receipt = channel.send(&short("two")).await.unwrap();
        let queued = server.mails().pop().unwrap().queue_id;
        assert_eq!(receipt.provider_id(), Some(&*queued), "{fault:?}");
        assert_eq!(count(&server, "two"), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn trouble_before_the_first_mail_is_the_channels() {
    let faults = [
        (SmtpFault::reply(SmtpStep::Greeting, 421), "421"),
        (SmtpFault::reply(SmtpStep::Greeting, 554), "554"),
        (SmtpFault::garbage(SmtpStep::Greeting), "protocol"),
        (SmtpFault::disconnect(SmtpStep::Greeting), "protocol"),
        (SmtpFault::reply(SmtpStep::Auth, 454), "454"),
        (SmtpFault::reply(SmtpStep::Auth, 535), "535"),
    ];
    for (fault, code) in faults {
        let server = SmtpServer::builder().credentials("ada", "sesame");
        let server = server.start().await.unwrap();
        let channel = build(settings(&server)).unwrap();
        server.connection_faults().next(fault);
        let error = failed(&*channel, &short("one")).await;
        assert_eq!(
            (error.class(), error.code()),
            (Unavailable, code),
            "{fault:?}: {error}"
        );
        assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
        channel.send(&short("two")).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.url = Some(format!("smtp://ada:sesame@{address}?tls=none").into());
    let channel = build(config).unwrap();
    for error in [
        failed(&*channel, &short("one")).await,
        channel.check().await.unwrap_err(),
    ] {
        assert_eq!((error.class(), error.code()), (Unavailable, "connection"));
        let place = format!("cannot connect to {address}: ");
        assert!(error.message().starts_with(&place), "{error}");
    }
}

#[tokio::test]
async fn silence_is_judged_by_how_far_the_mail_has_come() {
    let (server, channel) = pair().await;
    for (step, class) in [
        (SmtpStep::Mail, Transient),
        (SmtpStep::Recipient, Transient),
        (SmtpStep::Data, Transient),
        (SmtpStep::End, Ambiguous),
    ] {
        server.faults().next(SmtpFault::stall(step));
        let error = failed(&*channel, &hasty("one")).await;
        assert_eq!(
            (error.class(), error.code()),
            (class, "timeout"),
            "{step:?}: {error}"
        );
    }
    server
        .connection_faults()
        .next(SmtpFault::stall(SmtpStep::Greeting));
    let error = failed(&*channel, &hasty("one")).await;
    assert_eq!((error.class(), error.code()), (Unavailable, "timeout"));
}

#[tokio::test]
async fn a_connection_lost_in_the_middle_of_a_message_is_transient() {
    let (server, channel) = pair().await;
    server.faults().next(SmtpFault::disconnect(SmtpStep::Body));
    // More than the sockets' buffers hold, so that it cannot be written to the end.
    let payload = json!({"to": "ada@example.org", "text": "x\n".repeat(8 * 1024 * 1024)});
    let error = failed(&*channel, &delivery(&payload)).await;
    assert_eq!(
        (error.class(), error.code()),
        (Transient, "connection"),
        "{error}"
    );
}

/// lettre's pool would hand the second mail the connection on which the first one's answer is
/// still to come.
#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_mails() {
    let (server, channel) = pair().await;
    for fault in [
        SmtpFault::stall(SmtpStep::End),
        SmtpFault::delay(SmtpStep::End, Duration::from_millis(2_500)),
    ] {
        let before = server.mail_count();
        let used = server.connection_count();
        server.faults().next(fault);
        let error = failed(&*channel, &hasty("stalled")).await;
        assert_eq!(
            (error.class(), error.code()),
            (Ambiguous, "timeout"),
            "{error}"
        );

        // The next mail would have been refused, had it got an answer of its own.
        server.faults().next(SmtpFault::reply(SmtpStep::End, 554));
        let error = failed(&*channel, &short("refused")).await;
        assert_eq!((error.class(), error.code()), (Permanent, "554"), "{error}");

        let receipt = channel.send(&short("delivered")).await.unwrap();
        let mails = server.wait_for(before + 2).await;
        let last = mails.last().unwrap();
        assert_eq!(last.header("Subject").as_deref(), Some("delivered"));
        assert_eq!(receipt.provider_id(), Some(&*last.queue_id));
        assert!(last.connection > used);
    }
    assert_eq!(count(&server, "delivered"), 2);
    assert_eq!(count(&server, "refused"), 0);
}

#[tokio::test]
async fn a_send_that_is_dropped_leaves_no_connection_behind() {
    let (server, channel) = pair().await;
    channel.send(&short("one")).await.unwrap();
    server.faults().next(SmtpFault::stall(SmtpStep::End));
    let stalled = short("two");
    tokio::select! {
        outcome = channel.send(&stalled) => panic!("{outcome:?}"),
        _ = server.wait_for(2) => {}
    }
    channel.send(&short("three")).await.unwrap();
    let mails = server.wait_for(3).await;
    let connections: Vec<_> = mails.iter().map(|mail| mail.connection).collect();
    assert_eq!(connections, [1, 1, 2]);
}

#[tokio::test]
async fn one_refused_recipient_keeps_the_mail_from_all() {
    let (server, channel) = pair().await;
    server.reject_recipient("bounce@example.org");
    let payload = json!({
        "to": ["ada@example.org", "bob@example.org"],
        "cc": ["eve@example.org", "bounce@example.org"],
        "text": "hi",
    });
    let error = failed(&*channel, &delivery(&payload)).await;
    assert_eq!((error.class(), error.code()), (Permanent, "550"));
    let expected = format!("{} refused recipient cc[1]: 550 5.1.1", server.address());
    assert_eq!(error.message(), expected);
    assert!(error.answer().unwrap().contains("no such user"));
    assert_eq!(server.mail_count(), 0);
}

#[tokio::test]
async fn a_full_pool_is_told_apart_from_a_dead_server() {
    let server = SmtpServer::start().await.unwrap();
    let mut config = settings(&server);
    config.pool_size = Some(1);
    let channel = build(config).unwrap();
    server.faults().next(SmtpFault::stall(SmtpStep::End));
    let (first, second) = (hasty("one"), hasty("two"));
    let (first, second) = tokio::join!(failed(&*channel, &first), failed(&*channel, &second),);
    assert_eq!((first.class(), first.code()), (Ambiguous, "timeout"));
    assert_eq!((second.class(), second.code()), (Transient, "timeout"));
    assert!(second.message().contains("raise pool_size"), "{second}");
}
