//! Real webhooks to a receiver on this machine.

use crate::bench::Bench;
use crate::database::{Fill, PAYLOAD_BYTES, payload};
use crate::drain::{Tuning, Until, drain_through};
use crate::null::spec;
use crate::report::{Row, Section};
use crate::stats::Spread;
use anyhow::Context;
use channel_webhook::Webhook;
use outbox_engine::{ChannelFactory, ChannelSpec};
use outbox_sandbox::webhook::WebhookReceiver;
use reqwest::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

const CONCURRENCY: usize = 64;
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Section> {
    // Only the first caller's counts, and they are all the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..bench.run.repeat {
        bare.push(bare_rate(bench.events(0.2)).await?);
        ours.push(our_rate(bench).await?);
    }
    let mut section = Section::new(
        "webhook",
        "Webhooks to a local receiver",
        format!(
            "{CONCURRENCY} at once, signed; the bare loop sends the same body with reqwest, \
             unsigned, to the same receiver, which runs in the same process and keeps what it gets."
        ),
    );
    let row = Row::new("outbox", "events/s", Spread::of(ours));
    let bare = Spread::of(bare);
    section.add(row.against("bare reqwest loop", bare).at_least(0.6));
    section.add(Row::new("bare reqwest loop", "events/s", bare));
    Ok(section)
}

async fn our_rate(bench: &Bench) -> anyhow::Result<f64> {
    let receiver = WebhookReceiver::start(&[]).await?;
    let config = serde_json::from_value(serde_json::json!({
        "url": receiver.url(), "secret": SECRET, "allow_private": true
    }))?;
    let name = "webhook".parse()?;
    let channel = Webhook::build(&name, config)?;
    let channels = vec![ChannelSpec {
        channel,
        ..spec("webhook", crate::null::Null::default(), CONCURRENCY)?
    }];
    let database = bench.database().await?;
    let fill = Fill::new(bench.events(0.2), PAYLOAD_BYTES);
    database.fill(&fill).await?;
    let tuning = Tuning {
        batch_size: 1_000,
        concurrency: CONCURRENCY,
        connections: 4,
    };
    let until = Until::Empty(fill.count);
    let drained = drain_through(&database, tuning, channels, until, || receiver.total()).await?;
    database.finish().await?;
    Ok(drained.rate())
}

async fn bare_rate(count: u64) -> anyhow::Result<f64> {
    let receiver = WebhookReceiver::start(&[]).await?;
    let client = Client::builder().no_proxy().build()?;
    let body =
        payload(PAYLOAD_BYTES + "{\"type\":\"bench\",\"timestamp\":\"\",\"data\":}".len() + 24);
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (client, url, body) = (client.clone(), receiver.url(), body.to_string());
        let next = Arc::clone(&next);
        loops.spawn(async move {
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= count {
                    return anyhow::Ok(());
                }
                let request = client.post(&url).header("webhook-id", id.to_string());
                let request = request.header("content-type", "application/json");
                request
                    .body(body.clone())
                    .send()
                    .await?
                    .error_for_status()?
                    .bytes()
                    .await?;
            }
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended?.context("the bare loop failed")?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 of them")]
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
