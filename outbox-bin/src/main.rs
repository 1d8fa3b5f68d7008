//! The `outbox` binary: the channels of this build, and nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outbox_bin::run(outbox_bin::builtin_channels())
}
