//! Whatever a client does wrong, it gets a problem document that says what.

use crate::client::{Call, DISPATCH, STATS, dispatch, get};
use crate::fixture::{Fixture, KEY, delivering};
use axum::http::Method;

#[tokio::test]
async fn a_path_that_does_not_exist() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for path in [
        "/",
        "/api/admin/outbox",
        "/api/admin/outbox/dispatch/",
        "/%ff",
    ] {
        let answer = get(path).key(KEY).send(server.address).await;
        answer.assert_problem(404, "no such path");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for (method, path, allowed) in [
        (Method::POST, "/healthz", "GET,HEAD"),
        (Method::DELETE, "/readyz", "GET,HEAD"),
        (Method::GET, DISPATCH, "POST"),
        (Method::OPTIONS, DISPATCH, "POST"),
        (Method::POST, STATS, "GET,HEAD"),
    ] {
        let answer = Call::new(method, path).key(KEY).send(server.address).await;
        answer.assert_problem(405, "does not take that method");
        assert_eq!(answer.header("allow"), allowed, "{path}");
        let names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        assert!(!names.iter().any(|name| name.starts_with("access-control")));
    }
}

#[tokio::test]
async fn a_body_that_is_not_json() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for body in ["{", "limit=10", "{\"limit\": 1} x", "\u{0}"] {
        let answer = dispatch(body).send(server.address).await;
        answer.assert_problem(400, "JSON");
    }
}

#[tokio::test]
async fn json_that_says_something_else() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for (body, part) in [
        (r#"{"limt": 10}"#, "unknown field `limt`, expected `limit`"),
        (
            r#"{"limit": 10, "dry_run": true}"#,
            "unknown field `dry_run`",
        ),
        (r#"{"limit": "10"}"#, "limit: invalid type: string"),
        (r#"{"limit": 1.5}"#, "limit: invalid type: floating point"),
        ("7", "invalid type: integer"),
    ] {
        let answer = dispatch(body).send(server.address).await;
        answer.assert_problem(422, part);
    }
}

#[tokio::test]
async fn a_body_of_another_type() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let call = || Call::new(Method::POST, DISPATCH).key(KEY).body("{}");
    for call in [
        call(),
        call().header("content-type", "application/x-www-form-urlencoded"),
        call().header("content-type", "text/plain"),
    ] {
        let answer = call.send(server.address).await;
        answer.assert_problem(415, "application/json");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    let body = |length: usize| format!(r#"{{"limit": 1}}{:1$}"#, "", length - 12);
    let answer = dispatch(&body(64 * 1024)).send(server.address).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = dispatch(&body(64 * 1024 + 1)).send(server.address).await;
    answer.assert_problem(413, "larger than 65536 bytes");
}

#[tokio::test]
async fn every_answer_is_made_safe_for_browsers() {
    let fixture = Fixture::new().await;
    let server = fixture.serve(delivering(0)).await;
    for path in ["/healthz", "/nowhere", STATS, DISPATCH] {
        let answer = get(path).send(server.address).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
    }
}
