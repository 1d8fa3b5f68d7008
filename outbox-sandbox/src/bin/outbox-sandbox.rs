//! A throwaway PostgreSQL from the command line; see `USAGE`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outbox_sandbox::postgres::{Cluster, ClusterOptions};
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::{env, iter};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: outbox-sandbox exec -- COMMAND [ARGUMENT]...
           runs COMMAND with TEST_DATABASE_URL set to a throwaway PostgreSQL (or as it is, if it
           is set) and without DATABASE_URL, and exits with its code
       outbox-sandbox postgres
           starts a throwaway PostgreSQL, prints its URL, and removes it on Ctrl-C
OUTBOX_SANDBOX_KEEP=1 keeps the server running";

/// Wrong usage.
const BAD_USAGE: u8 = 2;

/// The shells' code for a command that cannot be run.
const CANNOT_RUN: u8 = 127;

type Outcome = Result<ExitCode, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        .collect();
    let outcome = match words[..] {
        ["exec", "--", _, ..] => exec(&arguments[2..]),
        ["postgres"] => postgres(),
        ["help" | "--help" | "-h"] => print_line(USAGE).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            return BAD_USAGE.into();
        }
    };
    outcome.unwrap_or_else(|error| {
        let causes = iter::successors(Some(&*error), |&cause: &&dyn Error| cause.source());
        let chain: Vec<_> = causes.map(ToString::to_string).collect();
        eprintln!("outbox-sandbox: {}", chain.join(": "));
        ExitCode::FAILURE
    })
}

/// Runs a command with a server at its disposal.
fn exec(command: &[OsString]) -> Outcome {
    let given = env::var_os("TEST_DATABASE_URL").filter(|url| !url.is_empty());
    // Held until the command has ended.
    let (_cluster, url) = match given {
        Some(url) => (None, url),
        None => {
            let cluster = throwaway()?;
            let url = cluster.url("postgres").into();
            (Some(cluster), url)
        }
    };
    let mut prepared = Command::new(&command[0]);
    prepared
        .args(&command[1..])
        .env("TEST_DATABASE_URL", url)
        .env_remove("DATABASE_URL");
    runtime()?.block_on(async {
        // Before the command starts: from here on it decides what a signal means.
        let interrupts = signal(SignalKind::interrupt())?;
        let terminations = signal(SignalKind::terminate())?;
        match prepared.spawn() {
            Ok(child) => {
                let status = wait(child, interrupts, terminations).await?;
                Ok(code(status).into())
            }
            Err(error) => {
                eprintln!("outbox-sandbox: {}: {error}", command[0].display());
                Ok(CANNOT_RUN.into())
            }
        }
    })
}

/// Waits for the command's end, whatever signals come: the terminal sends Ctrl-C to the command
/// too; a SIGTERM, which it does not get, is passed on.
async fn wait(
    mut child: Child,
    mut interrupts: tokio::signal::unix::Signal,
    mut terminations: tokio::signal::unix::Signal,
) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {
                if let Some(pid) = child.id() {
                    // It may have just ended; then there is nothing to tell it.
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
                }
            }
        }
    }
}

/// As shells tell it: 128 and the signal's number for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|number| 128 + number);
    status
        .code()
        .or_else(signal)
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}

/// Keeps a server until SIGINT or SIGTERM.
fn postgres() -> Outcome {
    let cluster = throwaway()?;
    runtime()?.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        print_line(&cluster.url("postgres"))?;
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn throwaway() -> Result<Cluster, Box<dyn Error>> {
    Ok(Cluster::start(ClusterOptions {
        durable: false,
        ..ClusterOptions::default()
    })?)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn print_line(line: &str) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
