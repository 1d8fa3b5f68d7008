//! The channel that accepts everything and sends nothing: for rehearsals, tests and
//! benchmarks.

use crate::settings::values::some_duration;
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, Receipt, SendError, async_trait,
};
use serde::Deserialize;
use std::time::Duration;

/// `kind = "null"`: every message is accepted, none goes anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null {
    latency: Duration,
}

/// `[channels.NAME.settings]` of a `null` channel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NullConfig {
    /// How long each delivery takes, to rehearse a slow provider; nothing unless set.
    #[serde(default, deserialize_with = "some_duration")]
    latency: Option<Duration>,
}

#[async_trait]
impl Channel for Null {
    async fn send(&self, _: &Delivery) -> Result<Receipt, SendError> {
        // A sleep of nothing would still cost a timer.
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        Ok(Receipt::new())
    }
}

impl ChannelFactory for Null {
    const KIND: &'static str = "null";
    type Config = NullConfig;

    fn build(_: &ChannelName, config: NullConfig) -> Result<Box<dyn Channel>, BuildError> {
        let latency = config.latency.unwrap_or_default();
        Ok(Box::new(Self { latency }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn takes_everything_after_its_latency() {
        let latency = Some(Duration::from_secs(3));
        let name = "nowhere".parse().unwrap();
        let channel = Null::build(&name, NullConfig { latency }).unwrap();
        let delivery = Delivery::builder("any", "[]").unwrap().build();
        let start = tokio::time::Instant::now();
        assert_eq!(channel.send(&delivery).await.unwrap(), Receipt::new());
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        channel.check().await.unwrap();
    }
}
