//! Which files are read, and what is said of those that can't be.

use crate::pairs;
use outbox_bin::Settings;
use outbox_bin::settings::Sources;
use std::path::{Path, PathBuf};

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("outbox-settings-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn sources(
        &self,
        config: Option<&str>,
        environment: crate::Pairs<'_>,
    ) -> Result<Sources, String> {
        Sources::in_folder(&self.0, config.map(Path::new), pairs(environment))
            .map_err(|error| error.to_string())
    }

    fn batch_size(&self, config: Option<&str>, environment: crate::Pairs<'_>) -> u32 {
        let sources = self.sources(config, environment).unwrap();
        Settings::load(&sources).unwrap().worker.batch_size
    }

    fn refusal(&self, config: Option<&str>) -> String {
        self.sources(config, &[]).err().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_file_is_the_argument_else_the_variable_else_the_usual_name() {
    let folder = Folder::new("order");
    let variable = &[("OUTBOX_CONFIG", "variable.toml")];
    assert_eq!(folder.batch_size(None, &[]), 100);
    folder.write("outbox.toml", "worker.batch_size = 1");
    folder.write("variable.toml", "worker.batch_size = 2");
    folder.write("argument.toml", "worker.batch_size = 3");
    assert_eq!(folder.batch_size(None, &[]), 1);
    assert_eq!(folder.batch_size(None, &[("OUTBOX_CONFIG", "")]), 1);
    assert_eq!(folder.batch_size(None, variable), 2);
    assert_eq!(folder.batch_size(Some("argument.toml"), variable), 3);
    folder.write(".env", "OUTBOX_CONFIG=argument.toml");
    assert_eq!(folder.batch_size(None, &[]), 3);
    assert_eq!(folder.batch_size(None, variable), 2);
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let folder = Folder::new("missing");
    let error = folder.refusal(Some("absent.toml"));
    assert!(
        error.contains("absent.toml: there is no such settings file: check --config"),
        "{error}"
    );
}

#[test]
fn dotenv_is_parsed_and_not_exported() {
    let folder = Folder::new("dotenv");
    let text = "\u{feff}# a comment\n\
                export OUTBOX_BATCH_SIZE=1\n\
                OUTBOX_BATCH_SIZE='7' # the last one counts\n\
                OUTBOX_WORKER__SHUTDOWN_GRACE=\"3s\"\n";
    folder.write(".env", text);
    let sources = folder.sources(None, &[]).unwrap();
    let settings = Settings::load(&sources).unwrap();
    assert_eq!(settings.worker.batch_size, 7);
    assert_eq!(settings.worker.shutdown_grace.as_secs(), 3);
    assert!(std::env::var_os("OUTBOX_WORKER__SHUTDOWN_GRACE").is_none());
}

#[test]
fn a_broken_dotenv_names_the_line_and_does_not_quote_it() {
    let folder = Folder::new("broken-dotenv");
    folder.write(".env", "A=b\n\nADMIN_API_KEY=hunter2 hunter2\n");
    let error = folder.refusal(None);
    assert!(
        error.contains(".env: line 3: expected NAME=value"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn files_that_are_no_settings() {
    let folder = Folder::new("odd");
    folder.write("binary.toml", [0xff, 0xfe, 0x00]);
    folder.write("long.toml", " ".repeat(1024 * 1024 + 1));
    std::fs::create_dir(folder.0.join("folder.toml")).unwrap();
    let cases = [
        ("binary.toml", "not UTF-8"),
        ("long.toml", "longer than 1 MiB"),
        ("folder.toml", "cannot be read"),
    ];
    for (name, expected) in cases {
        let error = folder.refusal(Some(name));
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    let folder = Folder::new("bom");
    folder.write("outbox.toml", "\u{feff}worker.batch_size = 9");
    assert_eq!(folder.batch_size(None, &[]), 9);
}
