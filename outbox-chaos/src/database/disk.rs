//! A small disk that may be filled.

use anyhow::Context;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system in memory, gone when this is dropped or its process ends. Only root can make one.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    holder: Child,
}

const HOLDER: &str = include_str!("disk.sh");
/// What an event takes with all that hangs on it, while it is not removed; in bytes.
const EVENT: f64 = 2_500.0;
const LEAST: f64 = 64e6;

impl Disk {
    /// For whoever owns `data`, with room for so many `events`; else a sentence that says why
    /// there is none.
    pub(super) fn mount(data: &Path, events: f64) -> Result<Self, String> {
        Self::try_mount(data, events).map_err(|error| format!("{error:#}"))
    }

    fn try_mount(data: &Path, events: f64) -> anyhow::Result<Self> {
        let owner = data.metadata()?;
        // Where the server's user gets to.
        let base = data.parent().and_then(Path::parent);
        let base = base.context("the data are in no folder")?;
        let folder = tempfile::Builder::new()
            .prefix("outbox-chaos-disk-")
            .tempdir_in(base)?
            .keep();
        let mut holder = Command::new("sh")
            .args(["-c", HOLDER, "outbox-chaos-disk"])
            .arg(&folder)
            .arg(format!("{:.0}", LEAST + events * EVENT))
            .args([owner.uid().to_string(), owner.gid().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal does not reach it.
            .process_group(0)
            .spawn()?;
        let mut said = String::new();
        let stdout = holder
            .stdout
            .take()
            .context("its standard output is gone")?;
        BufReader::new(stdout).read_line(&mut said)?;
        let disk = Self { folder, holder };
        let said = said.trim();
        anyhow::ensure!(said == "mounted", "no disk could be mounted: {said}");
        Ok(disk)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes until nothing fits any more.
    pub(super) fn fill(&self) -> io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        // The last bytes as well: a page of a table has eight thousand.
        for size in [1 << 20, 1 << 12] {
            let zeros = vec![0; size];
            loop {
                match ballast.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    pub(super) fn relieve(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Closes the pipe first. How it ends does not matter: nothing is left to do.
        let _ = self.holder.wait();
    }
}
