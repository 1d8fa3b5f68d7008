//! Payloads of several sizes.

use super::{fresh_drain, rates};
use crate::bench::Bench;
use crate::database::Fill;
use crate::drain::{Drained, Tuning};
use crate::report::{Row, Section};
use crate::stats::Spread;

/// Name, bytes, and which part of the usual number of events has to do.
const SIZES: [(&str, usize, f64); 3] = [
    ("300 B", 300, 1.0),
    ("4 KB", 4_096, 0.25),
    ("100 KB", 102_400, 0.01),
];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    let mut all: [Vec<Drained>; 3] = Default::default();
    for _ in 0..bench.run.repeat {
        for (drained, (_, bytes, share)) in all.iter_mut().zip(SIZES) {
            let fill = Fill::new(bench.events(share), bytes);
            drained.push(fresh_drain(bench, &fill, Tuning::RUSH).await?);
        }
    }
    let mut section = Section::new(
        "payload",
        "Payload sizes",
        format!("Drained through the null channel; {}.", Tuning::RUSH),
    );
    for (drained, (what, ..)) in all.iter().zip(SIZES) {
        section.add(Row::new(what, "events/s", rates(drained)));
    }
    for (drained, (what, bytes, _)) in all.iter().zip(SIZES) {
        #[expect(clippy::cast_precision_loss, reason = "a few kilobytes")]
        let megabytes = drained
            .iter()
            .map(|drained| drained.rate() * bytes as f64 / 1e6);
        section.add(Row::new(
            format!("{what}, throughput"),
            "MB/s",
            Spread::of(megabytes),
        ));
        let cpu = drained.iter().map(Drained::own_cpu_per_100k);
        let row = Row::new(
            format!("{what}, worker CPU per 100,000"),
            "s",
            Spread::of_all(cpu),
        );
        section.add(row);
    }
    Ok(section)
}
