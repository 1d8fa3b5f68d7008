//! Short runs of the chaos suite; `make chaos` has long ones.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise"
)]

use clap::Parser;
use outbox_chaos::{Options, Report};

/// What `seed` leads to in a few seconds.
async fn run(seed: u64) -> Report {
    let mut options = Options::parse_from([
        "outbox-chaos",
        "--duration=10s",
        "--workers=3",
        "--rate=60",
        "--keys=5",
        "--lease=2s",
        "--outbox-binary",
        env!("CARGO_BIN_EXE_outbox-under-test"),
    ]);
    options.seed = Some(seed);
    outbox_chaos::run(&options).await.unwrap()
}

fn assert_fine(report: &Report) {
    assert!(report.is_fine(), "{report}");
    // A run in which nothing happened proves nothing.
    assert!(report.written.contains_key("committed"), "{report}");
    assert!(report.results.contains_key("delivered"), "{report}");
    assert!(!report.faults.is_empty(), "{report}");
    assert!(!report.operations.is_empty(), "{report}");
    assert!(report.pruned > 0, "{report}");
}

/// Known seeds, so that a run that fails can be looked at again; `make chaos` draws others.
#[tokio::test]
async fn the_guarantees_hold() {
    for seed in [235, 949] {
        let report = run(seed).await;
        eprintln!("{report}\n");
        assert_fine(&report);
    }
}
