//! Alone in its process, as what it shows depends on which subscribers there are.

use outbox_sandbox::log::every_thread_is_heard;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[test]
fn a_line_that_another_thread_came_to_first_is_heard_on_this_one() {
    every_thread_is_heard();
    let heard = Arc::new(AtomicU32::new(0));
    let _guard = tracing::subscriber::set_default(Listener(Arc::clone(&heard)));
    let elsewhere = thread::spawn(line);
    assert!(elsewhere.join().is_ok());
    assert_eq!(heard.load(Ordering::Relaxed), 0, "it is this thread's own");
    line();
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}

fn line() {
    tracing::info!("one and the same line");
}

/// Counts what is logged.
struct Listener(Arc<AtomicU32>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
