//! All that an SMTP server says, from its greeting on, whatever it is told: a mail is taken only
//! by a server that says so, and no error repeats the mail.
#![no_main]

use channel_email::{Email, EmailConfig, TlsMode};
use libfuzzer_sys::fuzz_target;
use outbox_channel::{ChannelFactory, Delivery, Receipt, SendError};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

const PAYLOAD: &str = r#"{"to": "qx7@example.org", "subject": "qx8 words", "text": "qx9 words"}"#;
const PATIENCE: Duration = Duration::from_secs(5);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
});

fuzz_target!(|data: &[u8]| {
    match RUNTIME.block_on(send_to_server_that_says(data)) {
        Ok(receipt) => {
            let text = String::from_utf8_lossy(data);
            assert!(text.lines().any(|line| line.starts_with('3')), "{text}");
            let id = receipt.provider_id();
            assert!(id.is_none_or(|id| (1..=255).contains(&id.len())), "{id:?}");
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            let said = |word: &str| data.windows(word.len()).any(|part| part == word.as_bytes());
            for word in ["qx7", "qx8", "qx9"] {
                assert!(!shown.contains(word) || said(word), "{shown}");
            }
        }
    }
});

async fn send_to_server_that_says(data: &[u8]) -> Result<Receipt, SendError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = EmailConfig {
        host: Some("127.0.0.1".to_owned()),
        port: Some(listener.local_addr().expect("an address").port()),
        tls: Some(TlsMode::None),
        from: Some("shop@example.org".to_owned()),
        ..EmailConfig::default()
    };
    let channel = Email::build(&"fuzz".parse().expect("a name"), config).expect("a channel");
    let delivery = Delivery::builder("fuzz", PAYLOAD).expect("JSON").build();
    let client = async {
        let sent = tokio::time::timeout(PATIENCE, channel.send(&delivery)).await;
        // The server waits until nobody talks to it any more.
        drop(channel);
        sent.expect("an end when the server has hung up")
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        // The client may have hung up by now.
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    tokio::join!(client, server).0
}
