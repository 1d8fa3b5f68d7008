//! Where settings are read from.

use super::error::{Origin, Problem, SettingsError};
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

const FILE: &str = "outbox.toml";
const DOTENV: &str = ".env";

/// No settings file is longer; a longer one is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// The texts that settings are made of, weakest first. Nothing is parsed yet, and nothing is
/// written to the process environment.
///
/// Has no `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The settings file: its path as told to the operator, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The variables of the `.env` file.
    pub dotenv: Vec<(String, String)>,
    /// The environment.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// Reads what this process has: the file (`config`, else `OUTBOX_CONFIG`, else
    /// `outbox.toml` in the working directory if there is one), `.env` in the working
    /// directory if there is one, and the environment.
    ///
    /// # Errors
    /// When a file that is there, or was asked for, can't be read.
    pub fn of_process(config: Option<&Path>) -> Result<Self, SettingsError> {
        let environment = std::env::vars_os()
            .map(text_pair)
            .collect::<Result<Vec<_>, _>>()?;
        let environment = environment.into_iter().flatten().collect();
        Self::in_folder(Path::new(""), config, environment)
    }

    /// As [`of_process`](Self::of_process), with the given folder and environment.
    ///
    /// # Errors
    /// When a file that is there, or was asked for, can't be read.
    pub fn in_folder(
        folder: &Path,
        config: Option<&Path>,
        environment: Vec<(String, String)>,
    ) -> Result<Self, SettingsError> {
        let dotenv = match read_text(&folder.join(DOTENV))? {
            Some(text) => parse_dotenv(&folder.join(DOTENV), &text)?,
            None => Vec::new(),
        };
        let named = || {
            last(&environment)
                .or_else(|| last(&dotenv))
                .map(PathBuf::from)
        };
        let file = match config.map(Path::to_owned).or_else(named) {
            Some(path) => {
                let path = folder.join(path);
                let text = read_text(&path)?.ok_or_else(|| missing(&path))?;
                Some((path, text))
            }
            None => {
                let path = folder.join(FILE);
                read_text(&path)?.map(|text| (path, text))
            }
        };
        Ok(Self {
            file,
            dotenv,
            environment,
        })
    }
}

/// `OUTBOX_CONFIG`, when it is set to something.
fn last(variables: &[(String, String)]) -> Option<&str> {
    let mut set = variables.iter().rev();
    let (_, path) = set.find(|(name, _)| name == "OUTBOX_CONFIG")?;
    Some(path.as_str()).filter(|path| !path.is_empty())
}

/// A variable as text; one whose name is not text is nobody's setting.
fn text_pair((name, value): (OsString, OsString)) -> Result<Option<(String, String)>, Problem> {
    let Ok(name) = name.into_string() else {
        return Ok(None);
    };
    match value.into_string() {
        Ok(value) => Ok(Some((name, value))),
        Err(_) if super::variables::concerns_us(&name) => {
            let message = "is not UTF-8: set it to plain text";
            Err(Problem::new(Origin::Environment(name), "", message))
        }
        Err(_) => Ok(None),
    }
}

fn missing(path: &Path) -> Problem {
    let message = "there is no such settings file: check --config and OUTBOX_CONFIG";
    Problem::new(Origin::File(path.to_owned()), "", message)
}

/// The file's text, `None` when it does not exist.
fn read_text(path: &Path) -> Result<Option<String>, Problem> {
    let problem = |message: String| Problem::new(Origin::File(path.to_owned()), "", message);
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > MAX_BYTES => Err(problem(
            "longer than 1 MiB: this is no settings file".to_owned(),
        )),
        Ok(_) => Ok(Some(text.trim_start_matches('\u{feff}').to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(problem("not UTF-8: save it as UTF-8 text".to_owned()))
        }
        Err(error) => Err(problem(format!("cannot be read: {error}"))),
    }
}

fn parse_dotenv(path: &Path, text: &str) -> Result<Vec<(String, String)>, Problem> {
    let parsed: Result<Vec<_>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
    parsed.map_err(|error| {
        // The error quotes the line, which may hold a secret: its number has to do.
        let line = match &error {
            dotenvy::Error::LineParse(line, _) => text
                .find(line.trim_end())
                .map(|at| text[..at].matches('\n').count() + 1),
            _ => None,
        };
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        let message = format!("{place}expected NAME=value, with quotes around spaces");
        Problem::new(Origin::File(path.to_owned()), "", message)
    })
}
