//! The outbox binary with a channel of one's own: `kind = "slack"`.

use channel_slack::Slack;
use std::process::ExitCode;

fn main() -> ExitCode {
    outbox_bin::run(outbox_bin::builtin_channels().register::<Slack>())
}
