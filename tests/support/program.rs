//! The program as a command that ends: what it prints, and its exit status.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The program as cargo built it for this test.
pub fn path() -> &'static Path {
    #[allow(clippy::option_env_unwrap)] // cargo names it to tests alone; the soak has it told
    let path = option_env!("CARGO_BIN_EXE_dbus-mqtt").expect("built for a test");
    Path::new(path)
}

/// What the program printed, and how it ended.
#[derive(Debug, PartialEq)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub error: String,
}

/// The program, with this broker in its environment and time enough for a slow machine.
pub fn program(port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command
        .args(arguments)
        .env_clear()
        .env("DBUS_MQTT_SERVER", format!("127.0.0.1:{port}"))
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said {
        status: output.status.code().unwrap(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    }
}

/// A directory with these files, and its path as an argument.
pub fn folder_of(files: &[(&str, &str)]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().display().to_string();
    (folder, path)
}
