//! The `outbox` binary: the channels of this build, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    outbox_bin::run(outbox_bin::builtin_channels())
}
