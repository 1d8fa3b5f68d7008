//! What a run is to be like.

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Breaks a running Outbox at random, and judges from a ledger outside of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "outbox-chaos", version, about)]
pub struct Options {
    /// Decides which faults come when, and what is written [default: a random one, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long faults and traffic last
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Worker processes
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    pub workers: usize,
    /// Events written per second, over all producers, while nothing holds them up
    #[arg(long, default_value_t = 80.0, value_parser = positive)]
    pub rate: f64,
    /// How many keys the events have; 0: none has one
    #[arg(long, default_value_t = 20)]
    pub keys: u32,
    /// The workers' lease, and the deadline of an attempt
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub lease: Duration,
    /// How long the workers may take to empty the queue once nothing is broken any more
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// The `outbox` binary [default: outbox-under-test beside this one]
    #[arg(long, value_name = "PATH")]
    pub outbox_binary: Option<PathBuf>,
    /// Keep the logs here, and the database of a run that fails [default: a temporary folder,
    /// kept when the run fails]
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The command that repeats a run with these options and `seed`.
    #[must_use]
    pub fn again(&self, seed: u64) -> String {
        let time = |time| {
            humantime::format_duration(time)
                .to_string()
                .replace(' ', "")
        };
        format!(
            "make chaos ARGS=\"--seed {seed} --duration {} --workers {} --rate {} --keys {} \
             --lease {} --drain {}\"",
            time(self.duration),
            self.workers,
            self.rate,
            self.keys,
            time(self.lease),
            time(self.drain),
        )
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1 on".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_run_can_be_repeated() {
        let written = [
            "outbox-chaos",
            "--duration=90s",
            "--rate=2.5",
            "--lease=2500ms",
        ];
        let again = Options::parse_from(written).again(7);
        let arguments = again.split('"').nth(1).unwrap().split(' ');
        let read = Options::parse_from(["outbox-chaos"].into_iter().chain(arguments));
        assert_eq!((read.seed, read.again(7)), (Some(7), again));
    }
}
