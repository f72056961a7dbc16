//! What is written about the program: its completions, its manual page, its help, and docs/client.md, which
//! has to show what the program prints.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::support::bridge::Bridge;
use crate::support::broker::free_port;
use crate::support::process::find;
use crate::support::program::{program, run};
use crate::support::{PATIENCE, poll};

// --- completions, the manual page, the help ---

#[test]
fn completions_and_the_manual_page_are_printed() {
    let port = free_port();
    let bash = run(&mut program(port, &["completions", "bash"]));
    assert_eq!((bash.status, bash.error.as_str()), (0, ""));
    for command in [
        "devices", "get", "set", "watch", "demo", "fleet", "record", "replay", "doctor", "man",
    ] {
        assert!(
            bash.out.contains(&format!("dbus__mqtt__subcmd__{command}")),
            "{command}: {}",
            bash.out
        );
    }
    let page = run(&mut program(port, &["man"]));
    assert_eq!((page.status, page.error.as_str()), (0, ""));
    assert!(page.out.contains(".SH \"EXIT STATUS\""), "{}", page.out);
    let page = run(&mut program(port, &["man", "watch"]));
    assert!(page.out.contains(".TH dbus-mqtt-watch 1"), "{}", page.out);
    let help = run(&mut program(port, &["--help"])).out;
    for command in ["devices", "get", "watch", "set", "completions", "man"] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
    // What a shell makes of its script.
    if find("bash").is_some() {
        let mut shell = Command::new("bash");
        shell.args(["-n", "-c", &bash.out]);
        assert_eq!(run(&mut shell).error, "");
    }
}

// --- docs/client.md ---

/// The commands of a block of the page and what they print there.
fn transcript(page: &str, heading: &str) -> Vec<(String, String)> {
    let section = page.split_once(heading).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in section.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push((command.to_owned(), String::new()));
            } else {
                let (_, printed) = commands.last_mut().unwrap();
                *printed += line;
                *printed += "\n";
            }
        }
    }
    commands
}

/// What is printed, without what differs from one minute to the next: the numbers behind a topic,
/// with what they mean.
fn masked(printed: &str) -> String {
    let mask = |line: &str| match line.split_once("  ") {
        Some((topic, rest)) if topic.contains('/') => {
            let mut out = format!("{topic} ");
            let mut number = false;
            for c in rest.trim().chars() {
                let part_of_it = c.is_ascii_digit() || (c == '.' && number) || c == '-';
                if part_of_it && !number {
                    out.push('#');
                }
                if !part_of_it {
                    out.push(c);
                }
                number = part_of_it;
            }
            out
        }
        _ => match line.split_once("\"value\":") {
            Some((before, after)) => {
                let end = after.find([',', '}']).unwrap();
                format!("{before}\"value\":#{}", &after[end..])
            }
            None => line.to_owned(),
        },
    };
    printed.lines().map(|line| mask(line) + "\n").collect()
}

#[test]
fn the_page_shows_what_the_demo_prints() {
    let port = free_port();
    let demo = Bridge::spawn(&["demo", "--port", &port.to_string()]);
    demo.wait_log(&["/Mode on"]);
    poll("the broker of the demo", PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/client.md");
    let page = std::fs::read_to_string(file).unwrap();
    let commands = transcript(&page, "# The command-line client\n");
    assert!(commands.len() >= 5, "{commands:?}");
    let (mut expected, mut actual) = (String::new(), String::new());
    let mut differs = Vec::new();
    for (command, printed) in &commands {
        let mut shell = Command::new("sh");
        let program = Path::new(env!("CARGO_BIN_EXE_dbus-mqtt"));
        let folder = program.parent().unwrap().display();
        shell
            .args(["-c", &format!("{command} 2>&1")])
            .env_clear()
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .env("DBUS_MQTT_SERVER", format!("127.0.0.1:{port}"));
        let said = run(&mut shell);
        write!(expected, "$ {command}\n{printed}").unwrap();
        write!(actual, "$ {command}\n{}", said.out).unwrap();
        if masked(&said.out) != masked(printed) {
            differs.push(command);
        }
    }
    if !differs.is_empty() && std::env::var_os("UPDATE_EXPECT").is_some_and(|set| set == "1") {
        assert!(page.contains(&expected), "one block holds them all");
        std::fs::write(file, page.replace(&expected, &actual)).unwrap();
        return;
    }
    assert!(
        differs.is_empty(),
        "{differs:?} print something else (UPDATE_EXPECT=1 writes it down); all of it:\n{actual}"
    );
}
