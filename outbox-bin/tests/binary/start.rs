//! A database that cannot be used: one clear sentence, an exit code, no secret.

use crate::support::{Scene, Shop};
use std::net::TcpListener;
use tokio::join;

const DATABASE_COMMANDS: [&[&str]; 6] = [
    &["run"],
    &["dispatch"],
    &["status"],
    &["prune"],
    &["channels"],
    &["enqueue", "--type", "a", "--payload", "{}"],
];

#[tokio::test]
async fn a_server_that_is_not_there() {
    // Free at this moment, and not many look for one of these.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let scene = Scene::new()
        .set(
            "DATABASE_URL",
            format!("postgres://app:Geheim-4711@127.0.0.1:{port}/shop"),
        )
        .set("ADMIN_API_KEY", "k")
        .secret(Shop::PASSWORD)
        .file("[channels.a]\nkind = \"null\"\n");
    let (run, migrate) = join!(scene.outbox(&["run"]), scene.outbox(&["migrate"]));
    for log in [run.failed(1), migrate.failed(1)] {
        let place = format!(
            "error: the database at 127.0.0.1:{port}/shop (environment variable DATABASE_URL): \
             cannot reach the database: "
        );
        assert!(log.starts_with(&place), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_server_that_refuses() {
    let shop = Shop::empty().await;
    let url = shop.url().rsplit_once('/').unwrap().0;
    let scene = Scene::at(&shop).set("DATABASE_URL", format!("{url}/nowhere_4711"));
    let log = scene.outbox(&["status"]).await.failed(1);
    assert!(
        log.contains("database \"nowhere_4711\" does not exist\n"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[tokio::test]
async fn an_address_that_is_none() {
    for (url, complaint) in [
        ("mysql://app:Geheim-4711@db/shop", "expected postgres://"),
        (
            "postgres://app:Geheim-4711@db:port/shop",
            "invalid port number",
        ),
        ("Geheim-4711", "expected postgres://"),
    ] {
        let scene = Scene::new().set("DATABASE_URL", url).secret(Shop::PASSWORD);
        let log = scene.outbox(&["status"]).await.failed(2);
        assert!(
            log.starts_with("error: environment variable DATABASE_URL: `database.url`: "),
            "{log}"
        );
        assert!(log.contains(complaint), "{log}");
    }
    let log = Scene::new().outbox(&["status"]).await.failed(2);
    assert!(
        log.contains("no database is named: set DATABASE_URL"),
        "{log}"
    );
}

#[tokio::test]
async fn a_database_that_was_not_migrated() {
    let shop = Shop::empty().await;
    let scene = Scene::at(&shop);
    for command in DATABASE_COMMANDS {
        let log = scene.outbox(command).await.failed(1);
        assert!(
            log.contains(
                "error: the database lacks migration 0001_outbox.sql: run `outbox migrate`"
            ),
            "{log}"
        );
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version() {
    let shop = Shop::migrated().await;
    shop.sql("INSERT INTO outbox_migrations (version, file) VALUES (999, '0999_future.sql')")
        .await;
    let scene = Scene::at(&shop);
    for command in DATABASE_COMMANDS.into_iter().chain([&["migrate"][..]]) {
        let log = scene.outbox(command).await.failed(1);
        assert!(
            log.contains("0999_future.sql") && log.contains("install a newer version"),
            "{log}"
        );
    }
    let status = scene.ok(&["migrate", "status"]).await;
    assert!(
        status.contains("APPLIED 0999_future.sql (this version does not know it)"),
        "{status}"
    );
    assert!(status.contains("APPLIED 0001_outbox.sql\n"), "{status}");
}
