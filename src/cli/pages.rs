//! What is made of the declaration of the arguments: shell completions and the manual pages, one for each
//! command.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Args;
use crate::config::RawConfig;

/// The completions for a shell, as a script that it can read.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), NAME, &mut script);
    script
}

/// The manual page of the program, or of one of its commands, for `man -l`.
pub fn man(command: Option<&str>) -> io::Result<Vec<u8>> {
    let program = built();
    let found = command.and_then(|name| program.find_subcommand(name));
    page(&program, found)
}

/// Writes the pages of the program and of every command into a folder, as `man` looks for them.
pub fn write_all(folder: &Path) -> io::Result<()> {
    let program = built();
    let commands = commands(&program).map(Some);
    for command in [None].into_iter().chain(commands) {
        let name = title(command);
        fs::write(folder.join(format!("{name}.1")), page(&program, command)?)?;
    }
    Ok(())
}

/// A command that has a separate page.
pub fn page_name(name: &str) -> Result<String, String> {
    let program = built();
    let mut names = commands(&program).map(Command::get_name);
    if names.any(|known| known == name) {
        Ok(name.to_owned())
    } else {
        Err(format!("there is no command {name:?}"))
    }
}

fn built() -> Command {
    let mut program = Args::command();
    program.build();
    program
}

fn commands(program: &Command) -> impl Iterator<Item = &Command> {
    let all = program.get_subcommands();
    all.filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn title(command: Option<&Command>) -> String {
    match command {
        None => NAME.to_owned(),
        Some(command) => format!("{NAME}-{}", command.get_name()),
    }
}

/// A page: what the parser of arguments knows, and what belongs to every page besides.
fn page(program: &Command, command: Option<&Command>) -> io::Result<Vec<u8>> {
    let shown = command.unwrap_or(program).clone();
    let man = Man::new(shown).title(title(command)).section("1");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.is_none() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut more = String::from(".SH \"EXIT STATUS\"\n");
    entry(&mut more, "0", "Success.");
    entry(
        &mut more,
        "1",
        "Any failure but those of 2; one line on the standard error says which.",
    );
    entry(
        &mut more,
        "2",
        "A mistake in arguments, environment or settings file; one line says what and where.",
    );
    more.push_str(".SH ENVIRONMENT\n");
    for setting in RawConfig::settings() {
        let is_taken = command.unwrap_or(program).get_arguments();
        let mut is_taken = is_taken.filter_map(|argument| argument.get_long());
        if is_taken.any(|long| long == setting.key) {
            entry(
                &mut more,
                &setting.variable(),
                &format!("As --{}.", setting.key),
            );
        }
    }
    entry(
        &mut more,
        "RUST_LOG",
        "What to log, such as dbus_mqtt=debug.",
    );
    entry(
        &mut more,
        "DBUS_SESSION_BUS_ADDRESS, DBUS_SYSTEM_BUS_ADDRESS",
        "The D-Bus, without --dbus.",
    );
    entry(&mut more, "NO_COLOR", "No colours on a terminal.");
    more.push_str(".SH FILES\n");
    entry(
        &mut more,
        "/data/conf/dbus-mqtt.toml",
        "A usual place for the settings file, which --config names.",
    );
    entry(
        &mut more,
        "/data/venus/unique-id",
        "The portal id of a GX device.",
    );
    entry(
        &mut more,
        "/data/conf/mqtt_password.txt",
        "The password of this device at VRM, with --init-broker.",
    );
    more.push_str(".SH \"SEE ALSO\"\n");
    let pages = commands(program).map(Some);
    let pages = [None].into_iter().chain(pages).map(title);
    let pages = pages.filter(|name| *name != title(command));
    let pages: Vec<String> = pages
        .map(|name| format!("\\fB{}\\fR(1)", escaped(&name)))
        .collect();
    more.push_str(&pages.join(",\n"));
    more.push_str(",\n\\fBmosquitto\\fR(8)\n");
    page.extend(more.into_bytes());
    // Examples and where settings come from.
    if command.unwrap_or(program).get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    Ok(page)
}

/// A term and what it means.
fn entry(page: &mut String, term: &str, text: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(text));
}

/// A dash is a minus, which can be searched for and copied.
fn escaped(text: &str) -> String {
    text.replace('-', "\\-")
}

const NAME: &str = "dbus-mqtt";

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// Every command that is shown in the help, and the flags of each.
    fn declared() -> Vec<(String, Vec<String>)> {
        let mut command = Args::command();
        command.build();
        let shown = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let flags = |command: &Command| {
            let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
            flags
                .filter_map(clap::Arg::get_long)
                .map(ToOwned::to_owned)
                .collect()
        };
        shown
            .map(|command| (command.get_name().to_owned(), flags(command)))
            .collect()
    }

    #[test]
    fn completions_know_every_command_and_flag() {
        let commands = declared();
        assert!(commands.len() >= 7, "{commands:?}");
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).unwrap();
            for (command, flags) in &commands {
                assert!(script.contains(command.as_str()), "{shell}: {command}");
                for flag in flags {
                    assert!(script.contains(flag.as_str()), "{shell}: {command} {flag}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page_with_every_flag() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let main = String::from_utf8(man(None).unwrap()).unwrap();
        assert!(main.contains(".TH dbus-mqtt 1"), "{main}");
        assert!(main.contains("DBUS_MQTT_KEEP_ALIVE"), "{main}");
        for (command, flags) in declared() {
            if command == "help" {
                continue;
            }
            assert_eq!(page_name(&command), Ok(command.clone()));
            let page = fs::read(folder.path().join(format!("dbus-mqtt-{command}.1"))).unwrap();
            assert_eq!(page, man(Some(&command)).unwrap());
            let page = String::from_utf8(page).unwrap();
            for section in [
                "NAME",
                "SYNOPSIS",
                "\"EXIT STATUS\"",
                "ENVIRONMENT",
                "FILES",
                "\"SEE ALSO\"",
            ] {
                assert!(
                    page.contains(&format!(".SH {section}\n")),
                    "{section}: {page}"
                );
            }
            assert!(main.contains(&command), "{command}: {main}");
            for flag in flags {
                let escaped = flag.replace('-', "\\-");
                assert!(page.contains(&escaped), "{command} {flag}: {page}");
            }
        }
        assert!(page_name("x").is_err());
    }
}
