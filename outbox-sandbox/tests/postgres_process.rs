//! The binary, and what is left of a cluster when its owner ends.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise"
)]

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A sandbox that runs, in a process group of its own, as at a terminal.
struct Sandbox {
    process: Child,
    lines: BufReader<ChildStdout>,
}

fn sandbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-sandbox"));
    command
        .args(arguments)
        .env_remove("TEST_DATABASE_URL")
        .env_remove("OUTBOX_SANDBOX_KEEP")
        .process_group(0);
    command
}

impl Sandbox {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }
}

/// What must vanish: the folder above the data directory, and the port.
struct Traces {
    home: PathBuf,
    port: u16,
}

impl Traces {
    fn of(url: &str) -> Self {
        let query = async {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::query_scalar("SHOW data_directory")
                .fetch_one(&mut connection)
                .await
                .unwrap()
        };
        let data: String = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(query);
        Self {
            home: Path::new(&data).parent().unwrap().to_owned(),
            port: url::Url::parse(url).unwrap().port().unwrap(),
        }
    }

    fn are_gone(&self) -> bool {
        !self.home.exists() && TcpStream::connect(("127.0.0.1", self.port)).is_err()
    }
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "still not so after a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_when_the_owner_is_killed() {
    let mut sandbox = Sandbox::start(&mut sandbox(&["postgres"]));
    let traces = Traces::of(&sandbox.line());
    assert!(!traces.are_gone());
    sandbox.process.kill().unwrap();
    sandbox.process.wait().unwrap();
    eventually(|| traces.are_gone());
}

#[test]
fn nothing_is_left_when_the_owner_is_killed_while_it_starts() {
    for moment in ["", "data", "data/base/1", "data/postmaster.pid"] {
        let tmp = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
        let mut sandbox = Sandbox::start(sandbox(&["postgres"]).env("TMPDIR", tmp.path()));
        let home = || Some(tmp.path().read_dir().unwrap().next()?.unwrap().path());
        while !home().is_some_and(|home| home.join(moment).exists()) {
            assert!(sandbox.process.try_wait().unwrap().is_none());
            thread::yield_now();
        }
        sandbox.process.kill().unwrap();
        sandbox.process.wait().unwrap();
        eventually(|| home().is_none());
    }
}

#[test]
fn ctrl_c_at_the_terminal_ends_it_and_leaves_nothing() {
    let mut sandbox = Sandbox::start(&mut sandbox(&["postgres"]));
    let traces = Traces::of(&sandbox.line());
    killpg(sandbox.pid(), Signal::SIGINT).unwrap();
    assert!(sandbox.process.wait().unwrap().success());
    assert!(traces.are_gone());
}

#[test]
fn keep_keeps_it_and_says_how_to_remove_it() {
    let mut command = sandbox(&["postgres"]);
    let stderr = tempfile::NamedTempFile::new().unwrap();
    command
        .env("OUTBOX_SANDBOX_KEEP", "1")
        .stderr(stderr.reopen().unwrap());
    let mut sandbox = Sandbox::start(&mut command);
    let url = sandbox.line();
    let traces = Traces::of(&url);
    kill(sandbox.pid(), Signal::SIGTERM).unwrap();
    assert!(sandbox.process.wait().unwrap().success());
    assert!(!traces.are_gone());

    let said = fs::read_to_string(stderr.path()).unwrap();
    assert!(said.contains(&url), "{said}");
    let remove = said
        .lines()
        .find_map(|line| line.strip_prefix("to remove it: "));
    let status = Command::new("sh").args(["-c", remove.unwrap()]).status();
    assert!(status.unwrap().success());
    eventually(|| traces.are_gone());
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

#[test]
fn exec_gives_the_command_a_server_and_takes_its_code() {
    let script = r#"echo "${DATABASE_URL-none}"; echo "$TEST_DATABASE_URL"; read -r _; exit 7"#;
    let mut command = sandbox(&["exec", "--", "sh", "-c", script]);
    command
        .env("DATABASE_URL", "postgres://somebody@production/real")
        .stdin(Stdio::piped());
    let mut sandbox = Sandbox::start(&mut command);
    assert_eq!(sandbox.line(), "none");
    let traces = Traces::of(&sandbox.line());
    // Lets the script go on to its end.
    drop(sandbox.process.stdin.take());
    assert_eq!(sandbox.process.wait().unwrap().code(), Some(7));
    assert!(traces.are_gone());
}

#[test]
fn exec_leaves_a_server_that_is_given_as_it_is() {
    let given = "postgres://me@127.0.0.1:1/tests";
    let mut command = sandbox(&["exec", "--", "sh", "-c", "echo $TEST_DATABASE_URL"]);
    let output = run(command.env("TEST_DATABASE_URL", given));
    assert!(output.status.success());
    assert_eq!(stdout(&output), given);
}

#[test]
fn exec_lets_the_command_decide_what_ctrl_c_means() {
    let script = r#"trap "exit 5" INT; echo "$TEST_DATABASE_URL"; while :; do sleep 0.05; done"#;
    let mut sandbox = Sandbox::start(&mut sandbox(&["exec", "--", "sh", "-c", script]));
    let traces = Traces::of(&sandbox.line());
    killpg(sandbox.pid(), Signal::SIGINT).unwrap();
    assert_eq!(sandbox.process.wait().unwrap().code(), Some(5));
    assert!(traces.are_gone());
}

#[test]
fn exec_passes_sigterm_on() {
    let script = r#"trap "exit 6" TERM; echo "$TEST_DATABASE_URL"; while :; do sleep 0.05; done"#;
    let mut sandbox = Sandbox::start(&mut sandbox(&["exec", "--", "sh", "-c", script]));
    let traces = Traces::of(&sandbox.line());
    kill(sandbox.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(sandbox.process.wait().unwrap().code(), Some(6));
    assert!(traces.are_gone());
}

#[test]
fn codes_tell_what_went_wrong() {
    let given = ("TEST_DATABASE_URL", "postgres://me@127.0.0.1:1/tests");
    for (arguments, code) in [
        (&["exec", "--", "sh", "-c", "kill -TERM $$"][..], 128 + 15),
        (&["exec", "--", "no-such-command"], 127),
        (&["exec", "--"], 2),
        (&["exec", "true"], 2),
        (&[], 2),
        (&["--help"], 0),
    ] {
        let output = run(sandbox(arguments).env(given.0, given.1));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}
