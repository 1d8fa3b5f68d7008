//! The folder a server lives in, and who clears it away.

use super::SandboxError;
use nix::unistd::{Gid, Uid, User, geteuid};
use std::env;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A Unix socket's path has at most 103 bytes (macOS); what comes below the folder for temporary
/// files takes 42 of them.
const LONGEST_BASE: usize = 60;

const WATCHDOG: &str = include_str!("watchdog.sh");

/// A new folder of its own, owned by the user that the server's programs run as. Ends them and
/// removes the folder when dropped, and when the process that holds it ends in whatever way.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    /// Whom the programs run as; `None` for whoever we are.
    account: Option<(Uid, Gid)>,
    /// `None`: to be kept.
    watchdog: Option<Child>,
}

impl Home {
    pub(super) fn create(keep: bool) -> Result<Self, SandboxError> {
        let account = account()?;
        let name = format!("outbox-pg-{:016x}", rand::random::<u64>());
        let mut home = Self {
            folder: base(account.is_some())?.join(name),
            account,
            watchdog: None,
        };
        if !keep {
            let watchdog = home.watchdog.insert(start_watchdog()?);
            // Before there is a folder: from its first moment on somebody removes it.
            tell(watchdog, &home.folder)
                .map_err(SandboxError::system("talk to `sh`, which is to clear away"))?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&home.folder)
            .map_err(SandboxError::system("make a temporary folder"))?;
        if let Some((uid, gid)) = home.account {
            chown(&home.folder, Some(uid.as_raw()), Some(gid.as_raw())).map_err(
                SandboxError::system("hand the temporary folder to its user"),
            )?;
        }
        Ok(home)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whom the programs run as; `None` for whoever we are.
    #[cfg(feature = "pgbouncer")]
    pub(super) fn account(&self) -> Option<(Uid, Gid)> {
        self.account
    }

    /// The server's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's log file.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether server and folder outlive this process.
    pub(super) fn is_kept(&self) -> bool {
        self.watchdog.is_none()
    }

    /// A program that runs as the server's user, and that a Ctrl-C at the terminal does not
    /// reach.
    pub(super) fn command(&self, program: &Path) -> Command {
        let group = self.watchdog.as_ref().map_or(0, Child::id);
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder) // the owner's may be closed to the user
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .process_group(group.cast_signed());
        if let Some((uid, gid)) = self.account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            // Closes the pipe first. What it answers does not matter: it ends by a signal.
            let _ = watchdog.wait();
        }
    }
}

/// Whom the server runs as when it may not run as the present user.
fn account() -> Result<Option<(Uid, Gid)>, SandboxError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(|user| Some((user.uid, user.gid)))
        .ok_or(SandboxError::NoUser)
}

/// The folder for temporary files: the system's, or if that does not suit, a common one.
fn base(for_somebody_else: bool) -> Result<PathBuf, SandboxError> {
    let candidates = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    candidates
        .iter()
        .find(|folder| {
            let bytes = folder.as_os_str().as_bytes();
            bytes.len() <= LONGEST_BASE
                && !bytes.contains(&b'\n') // ends the watchdog's line
                && folder.is_absolute() // the programs start elsewhere
                && folder.is_dir()
                && (!for_somebody_else || open_to_all(folder))
        })
        .cloned()
        .ok_or_else(|| SandboxError::NoFolder {
            tried: candidates.map(|path| path.display().to_string()).join(", "),
        })
}

/// Whether any user may pass through `folder` and all that it is in.
fn open_to_all(folder: &Path) -> bool {
    folder.canonicalize().is_ok_and(|folder| {
        folder
            .ancestors()
            .all(|part| part.metadata().is_ok_and(|data| data.mode() & 0o001 != 0))
    })
}

/// In a process group of its own, which a Ctrl-C at the terminal does not reach.
fn start_watchdog() -> Result<Child, SandboxError> {
    Command::new("sh")
        .args(["-c", WATCHDOG, "outbox-sandbox-watchdog"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(SandboxError::system("start `sh`, which is to clear away"))
}

/// Tells the watchdog which folder it is to remove.
fn tell(watchdog: &mut Child, folder: &Path) -> io::Result<()> {
    let mut line = folder.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    watchdog
        .stdin
        .as_mut()
        .ok_or(io::ErrorKind::BrokenPipe)?
        .write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_closed_folder_anywhere_above_closes_the_path() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o711)).unwrap();
        assert!(open_to_all(&inner));
        fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
        assert!(!open_to_all(&inner));
    }
}
