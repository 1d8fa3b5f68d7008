//! A process that runs the binary.

use super::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What no output may hold.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn add(&mut self, secret: &str) {
        self.0.push(secret.to_owned());
    }

    fn check(&self, text: &str) {
        for secret in &self.0 {
            assert!(!text.contains(secret.as_str()), "{secret} is in: {text}");
        }
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
}

impl Done {
    /// It succeeded, and reported this.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It failed with this exit code, reported nothing, and complained about this.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(!self.log.contains("panicked"), "{self:?}");
        self.log
    }
}

/// A process under way. Killed when dropped; when its test has failed, its log is shown.
pub(crate) struct Running {
    child: Child,
    out: Lines,
    log: Lines,
    secrets: Secrets,
}

impl Running {
    pub(super) fn start<'v>(
        folder: &Path,
        arguments: &[&str],
        variables: impl Iterator<Item = (&'v str, &'v str)>,
        secrets: Secrets,
    ) -> Self {
        let home = |name: &str| (name.to_owned(), std::env::var_os(name).unwrap_or_default());
        let mut child = Command::new(env!("CARGO_BIN_EXE_outbox"))
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs([home("PATH"), home("HOME")])
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            out: Lines::of(child.stdout.take().unwrap()),
            log: Lines::of(child.stderr.take().unwrap()),
            child,
            secrets,
        }
    }

    /// Gives it all of its standard input.
    pub(super) async fn write(&mut self, input: &[u8]) {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it has ended already");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// The first line of its log with this text, as soon as it is there.
    pub(crate) async fn line(&self, text: &str) -> String {
        self.log.find(text).await
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Done {
        drop(self.child.stdin.take());
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("does not end: {}", self.log.so_far()));
        let done = Done {
            code: status.unwrap().code(),
            out: self.out.all().await,
            log: self.log.all().await,
        };
        self.secrets.check(&done.out);
        self.secrets.check(&done.log);
        done
    }

    /// Asks it to end, waits, and wants it to have ended well.
    pub(crate) async fn stop(self) -> Done {
        self.signal(Signal::SIGTERM);
        let done = self.end().await;
        assert_eq!(done.code, Some(0), "{done:?}");
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the log of a process that was under way:\n{}",
                self.log.so_far()
            );
        }
    }
}

/// What a process writes, line by line.
struct Lines {
    text: Arc<watch::Sender<String>>,
    reading: JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(watch::Sender::new(String::new()));
        let reading = tokio::spawn({
            let text = Arc::clone(&text);
            async move {
                let mut lines = BufReader::new(stream).lines();
                while let Some(line) = lines.next_line().await.unwrap() {
                    text.send_modify(|text| {
                        text.push_str(&line);
                        text.push('\n');
                    });
                }
            }
        });
        Self { text, reading }
    }

    fn so_far(&self) -> String {
        self.text.borrow().clone()
    }

    async fn find(&self, wanted: &str) -> String {
        let mut text = self.text.subscribe();
        let found = timeout(PATIENCE, text.wait_for(|text| text.contains(wanted))).await;
        let text = match found {
            Ok(text) => text.unwrap().clone(),
            Err(_) => panic!("no `{wanted}` in: {}", self.so_far()),
        };
        let mut lines = text.lines();
        lines.find(|line| line.contains(wanted)).unwrap().to_owned()
    }

    async fn all(&mut self) -> String {
        (&mut self.reading).await.unwrap();
        self.so_far()
    }
}
