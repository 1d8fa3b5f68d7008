//! Where the server's programs are.

use super::SandboxError;
use std::cmp::Reverse;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders that hold one folder per version: parent, how the version's folder begins, and where
/// in it the programs are.
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // Fedora, RHEL (from PGDG)
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/usr/lib", "postgresql", "bin"),           // openSUSE
    ("/opt/homebrew/opt", "postgresql@", "bin"), // macOS, Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),    // macOS, Intel
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // macOS, Postgres.app
];

/// Where `make install` puts it.
const FROM_SOURCE: &str = "/usr/local/pgsql/bin";

/// The folder of the server's programs on this system: the first of PATH, what `pg_config`
/// names, and the folders of the usual distributions, newest version first.
pub(super) fn find() -> Result<PathBuf, SandboxError> {
    first_complete(
        search_path()
            .into_iter()
            .chain(pg_config())
            .chain(VERSIONED.iter().flat_map(|(parent, prefix, programs)| {
                versions(Path::new(parent), prefix, programs)
            }))
            .chain([PathBuf::from(FROM_SOURCE)]),
    )
}

/// The first folder that holds all that a cluster needs.
fn first_complete(folders: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf, SandboxError> {
    folders
        .into_iter()
        .find(|folder| {
            ["initdb", "postgres"]
                .iter()
                .all(|program| folder.join(program).is_file())
        })
        .ok_or(SandboxError::NoServer)
}

/// Relative entries are left out: the server starts in a folder of its own.
fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| {
        env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .collect()
    })
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim()))
}

fn versions(parent: &Path, prefix: &str, programs: &str) -> Vec<PathBuf> {
    let Ok(entries) = parent.read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = version(name.strip_prefix(prefix)?)?;
            Some((version, entry.path().join(programs)))
        })
        .collect();
    found.sort_by_key(|(version, _)| Reverse(version.clone()));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// `"16"` and `"9.6"`, so that 16 comes after 9.6.
fn version(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn with_programs(folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        for program in ["initdb", "postgres"] {
            fs::write(folder.join(program), "").unwrap();
        }
        folder.to_owned()
    }

    #[test]
    fn without_binaries_one_sentence_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = first_complete([empty.path().to_owned(), "/nonexistent".into()]).unwrap_err();
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        for part in [
            "no PostgreSQL server found",
            "apt-get install postgresql",
            "dnf install postgresql-server",
            "apk add postgresql",
            "brew install postgresql@",
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn a_folder_that_lacks_initdb_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let client_only = root.path().join("client");
        fs::create_dir(&client_only).unwrap();
        fs::write(client_only.join("postgres"), "").unwrap();
        let server = with_programs(&root.path().join("server"));
        assert_eq!(
            first_complete([client_only, server.clone()]).unwrap(),
            server
        );
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["pgsql-9.6", "pgsql-16", "pgsql-14", "pgsql-common", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let expected: Vec<_> = ["pgsql-16/bin", "pgsql-14/bin", "pgsql-9.6/bin"]
            .map(|name| root.path().join(name))
            .into();
        assert_eq!(versions(root.path(), "pgsql-", "bin"), expected);
    }
}
