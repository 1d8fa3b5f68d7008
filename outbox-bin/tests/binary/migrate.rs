//! `migrate` and `migrate status`.

use crate::support::{Scene, Shop};
use tokio::join;

/// In the order in which they are applied.
fn files() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

/// A line per file.
fn lines(word: &str) -> String {
    let line = |file: String| format!("{word} {file}\n");
    files().into_iter().map(line).collect()
}

#[tokio::test]
async fn applies_what_is_pending_once() {
    let shop = Shop::empty().await;
    let scene = Scene::at(&shop);
    let pending = format!("{}pending: {}\n", lines("PENDING"), files().len());
    assert_eq!(scene.ok(&["migrate", "status"]).await, pending);

    let applied = format!("{}pending: 0\n", lines("APPLIED"));
    assert_eq!(scene.ok(&["migrate"]).await, applied);
    assert_eq!(scene.ok(&["migrate"]).await, "pending: 0\n");
    assert_eq!(scene.ok(&["migrate", "status"]).await, applied);
}

#[tokio::test]
async fn reports_as_json() {
    let shop = Shop::empty().await;
    let scene = Scene::at(&shop);
    let status = scene.json(&["migrate", "status"]).await;
    assert_eq!(status["pending"], serde_json::json!(files()));
    let applied = scene.json(&["migrate"]).await;
    assert_eq!(
        applied,
        serde_json::json!({ "applied": files(), "pending": [] })
    );
    let status = scene.json(&["migrate", "status"]).await;
    assert_eq!(status["applied"][0]["file"], files()[0]);
    assert_eq!(status["pending"], serde_json::json!([]));
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let shop = Shop::empty().await;
    let scene = Scene::at(&shop);
    let (one, other) = join!(scene.ok(&["migrate"]), scene.ok(&["migrate"]));
    for out in [&one, &other] {
        assert!(out.ends_with("pending: 0\n"), "{out}");
    }
    for file in files() {
        let applied = format!("APPLIED {file}\n");
        assert!(format!("{one}{other}").contains(&applied), "{one}{other}");
    }
    let rows = shop.count("SELECT count(*) FROM outbox_migrations").await;
    assert_eq!(usize::try_from(rows), Ok(files().len()));
}

#[tokio::test]
async fn a_schema_of_its_own_leaves_the_others_alone() {
    let shop = Shop::empty().await;
    let scene = Scene::at(&shop).set("OUTBOX_DATABASE__SCHEMA", "events");
    scene.ok(&["migrate"]).await;
    scene
        .ok(&["enqueue", "--type", "a", "--payload", "{}"])
        .await;
    assert_eq!(
        shop.count("SELECT count(*) FROM events.outbox_events")
            .await,
        1
    );
    let elsewhere = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(shop.count(elsewhere).await, 0);
}
