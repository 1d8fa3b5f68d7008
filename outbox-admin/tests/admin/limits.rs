//! Clients that take their time. The clock is paused: timers fire as soon as everybody waits.

use crate::client::{DISPATCH, get};
use crate::fixture::{Fixture, KEY, delivering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for sent in ["", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        tokio::time::pause();
        let answer = rest(&mut stream).await;
        tokio::time::resume();
        assert!(!answer.contains("200"), "{answer}");
    }
    assert_eq!(get("/healthz").send(server.address).await.status, 200);
}

#[tokio::test]
async fn a_connection_that_is_not_used_again_is_closed() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    tokio::time::pause();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {DISPATCH} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\n\
         content-type: application/json\r\ncontent-length: 13\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::pause();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

/// What still comes until the server ends the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    let read = stream.read_to_string(&mut rest);
    // Later than every timer under test.
    timeout(Duration::from_secs(50), read)
        .await
        .unwrap()
        .unwrap();
    rest
}
