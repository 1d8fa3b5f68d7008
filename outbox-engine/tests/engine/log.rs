//! What is logged while a test runs, to see that it is said and not said too often.

use crate::common::PATIENCE;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// Keeps the lines of this thread, on which all of a test's tasks run.
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn start() -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let subscriber = Registry::default().with(Keeper(Arc::clone(&lines)));
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The lines that hold `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let matching = lines.iter().filter(|line| line.contains(text));
        matching.cloned().collect()
    }

    /// Waits for so many of them.
    pub(crate) async fn until(&self, text: &str, count: usize) {
        let coming = async {
            while self.lines(text).len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let come = tokio::time::timeout(PATIENCE, coming).await;
        come.unwrap_or_else(|_| panic!("no `{text}` in {:#?}", self.lines("")));
    }
}

struct Keeper(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || !metadata.target().starts_with("outbox") {
            return;
        }
        let mut line = Line(metadata.level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}
