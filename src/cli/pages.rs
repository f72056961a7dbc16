//! What is made of the declaration of the arguments: shell completions and the manual page.

use std::io;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Args;

/// The completions for a shell, as a script that it can read.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), NAME, &mut script);
    script
}

/// The manual page, for `man -l`: the bridge first, then a section for each command.
pub fn man() -> io::Result<Vec<u8>> {
    let mut command = Args::command();
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).section("1").render(&mut page)?;
    for command in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        page.extend(section(command)?);
    }
    Ok(page)
}

/// A command as a section of the page; what would be sections of its own page are parts of it.
fn section(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let title = command.get_name().to_uppercase();
    let parts = String::from_utf8_lossy(&parts).replace("\n.SH ", "\n.SS ");
    let parts = match parts.strip_prefix(".SH ") {
        Some(rest) => format!(".SS {rest}"),
        None => parts,
    };
    Ok(format!(".SH \"{NAME} {title}\"\n{parts}").into_bytes())
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
    fn the_manual_page_has_every_command_and_flag() {
        let page = String::from_utf8(man().unwrap()).unwrap();
        let mut sections = page.split("\n.SH ");
        let head = sections.next().unwrap();
        assert!(head.contains(".TH dbus-mqtt 1"), "{head}");
        let sections: Vec<&str> = sections.collect();
        for (command, flags) in declared() {
            let title = format!("\"dbus-mqtt {}\"\n", command.to_uppercase());
            let found = sections.iter().find(|section| section.starts_with(&title));
            let section = found.unwrap_or_else(|| panic!("{command}: {page}"));
            assert!(section.contains(".SS SYNOPSIS"), "{section}");
            for flag in flags {
                let escaped = flag.replace('-', "\\-");
                assert!(section.contains(&escaped), "{command} {flag}: {section}");
            }
        }
    }
}
