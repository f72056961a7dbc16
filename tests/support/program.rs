//! The program as a command that ends: what it prints, and its exit status.

use std::process::{Command, Stdio};

/// What the program printed, and how it ended.
#[derive(Debug, PartialEq)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub error: String,
}

/// The program, with this broker in its environment and time enough for a slow machine.
pub fn program(port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
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
