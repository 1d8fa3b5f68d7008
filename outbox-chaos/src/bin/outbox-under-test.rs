//! The `outbox` binary under another name.

use std::process::ExitCode;

fn main() -> ExitCode {
    outbox_bin::run(outbox_bin::builtin_channels())
}
