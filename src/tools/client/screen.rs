//! What the client prints: values as lines, devices as a table; coloured on a terminal only.

use std::io::{self, IsTerminal, Write};

use super::reading::{Reading, Words};
use super::task::Show;
use crate::cli::client::FormArgs;
use crate::config::Machine;
use crate::model::outside::{self, Outside};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// A line of JSON for each.
    Json,
    /// The bare value.
    Raw,
}

/// Where it is printed, and how.
#[derive(Debug)]
pub struct Screen<W> {
    to: W,
    form: Form,
    colours: bool,
    /// Whether `to` is a terminal, which control characters would take over.
    terminal: bool,
    /// The width of the topics so far.
    width: usize,
}

impl From<FormArgs> for Form {
    fn from(args: FormArgs) -> Form {
        match args {
            FormArgs { json: true, .. } => Form::Json,
            FormArgs { raw: true, .. } => Form::Raw,
            FormArgs { .. } => Form::Text,
        }
    }
}

impl Screen<io::Stdout> {
    /// The standard output.
    pub fn stdout(form: Form, machine: &Machine) -> Screen<io::Stdout> {
        let terminal = io::stdout().is_terminal();
        Screen::new(io::stdout(), form, terminal, machine.colours(terminal))
    }
}

impl<W: Write> Screen<W> {
    /// A screen.
    pub fn new(to: W, form: Form, terminal: bool, colours: bool) -> Screen<W> {
        Screen {
            to,
            form,
            colours,
            terminal,
            width: 0,
        }
    }

    /// How values are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Makes room for these topics, so that the values stand below each other.
    pub fn make_room<'r>(&mut self, readings: impl IntoIterator<Item = &'r Reading>) {
        let widths = readings
            .into_iter()
            .map(|reading| width(&shown(&reading.topic)));
        self.width = widths.max().unwrap_or_default().max(self.width);
    }

    /// Prints a value, and what is to be said beside it.
    pub fn value(&mut self, reading: &Reading, beside: &str) -> io::Result<()> {
        match self.form {
            Form::Json => self.json(&serde_json::Value::Object(reading.json())),
            Form::Raw if self.terminal => {
                writeln!(self.to, "{}", Outside::new(&reading.raw()))
            }
            Form::Raw => writeln!(self.to, "{}", reading.raw()),
            Form::Text => {
                self.make_room([reading]);
                let topic = padded(&shown(&reading.topic), self.width);
                let Words { value, meaning } = reading.words();
                let mut parts = vec![topic, String::new(), self.paint(BOLD, &value)];
                if !meaning.is_empty() {
                    parts.push(self.paint(DIM, &meaning));
                }
                if !beside.is_empty() {
                    parts.extend([String::new(), self.paint(DIM, beside)]);
                }
                writeln!(self.to, "{}", parts.join(" "))
            }
        }
    }

    /// Prints a line for people.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.to, "{}", Outside::new(line))
    }

    /// Prints a line of JSON.
    pub fn json(&mut self, json: &serde_json::Value) -> io::Result<()> {
        writeln!(self.to, "{}", outside::json(&json.to_string()))
    }

    /// Prints columns below their titles. The last one is of numbers.
    pub fn table<const N: usize>(
        &mut self,
        titles: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let titles = titles.map(ToOwned::to_owned);
        let rows = rows
            .iter()
            .map(|row| row.each_ref().map(|cell| shown(cell)));
        let rows: Vec<[String; N]> = rows.collect();
        let all = || std::iter::once(&titles).chain(&rows);
        let mut widths = [0; N];
        for row in all() {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = width(cell).max(*wide);
            }
        }
        for (number, row) in all().enumerate() {
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.map(|(column, (cell, wide))| {
                if column + 1 == N {
                    format!("{cell:>wide$}")
                } else {
                    padded(cell, wide)
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = if number == 0 {
                self.paint(BOLD, &line)
            } else {
                line
            };
            writeln!(self.to, "{line}")?;
        }
        Ok(())
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{colour}m{}\u{1b}[0m", Outside::new(text))
        } else {
            shown(text)
        }
    }
}

impl<W: Write> Show for Screen<W> {
    fn show(&mut self, reading: &Reading) -> io::Result<()> {
        self.value(reading, "")
    }

    fn note(&mut self, text: &str) {
        // Where nobody reads it, nobody misses it.
        let _ = writeln!(io::stderr(), "dbus-mqtt: {}", Outside::new(text));
    }
}

/// A text that does nothing to a terminal.
fn shown(text: &str) -> String {
    Outside::new(text).to_string()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn padded(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

const BOLD: &str = "1";
const DIM: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: Form, colours: bool, print: impl Fn(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        print(&mut Screen::new(&mut out, form, colours, colours));
        String::from_utf8(out).unwrap()
    }

    fn readings() -> [Reading; 2] {
        [
            Reading::parse("battery/288/Soc", br#"{"value": 84.5}"#),
            Reading::parse("vebus/276/Mode", br#"{"value": 3, "min": 1, "max": 4}"#),
        ]
    }

    fn all(screen: &mut Screen<&mut Vec<u8>>) {
        let readings = readings();
        screen.make_room(&readings);
        for reading in &readings {
            screen.show(reading).unwrap();
        }
    }

    #[test]
    fn values_stand_below_each_other() {
        assert_eq!(
            printed(Form::Text, false, all),
            "battery/288/Soc  84.5 %\nvebus/276/Mode   3 (on)\n"
        );
        assert_eq!(printed(Form::Raw, false, all), "84.5\n3\n");
        assert_eq!(
            printed(Form::Json, true, all),
            "{\"topic\":\"battery/288/Soc\",\"value\":84.5,\"unit\":\"%\"}\n\
             {\"topic\":\"vebus/276/Mode\",\"value\":3,\"label\":\"on\",\"min\":1,\"max\":4}\n"
        );
        let said = printed(Form::Text, false, |screen| {
            screen.value(&readings()[1], "was 4 (off)").unwrap();
        });
        assert_eq!(said, "vebus/276/Mode  3 (on)  was 4 (off)\n");
    }

    #[test]
    fn colours_are_for_terminals_and_texts_cannot_bring_their_own() {
        let text = printed(Form::Text, true, all);
        assert!(
            text.starts_with("battery/288/Soc  \u{1b}[1m84.5\u{1b}[0m \u{1b}[2m%"),
            "{text:?}"
        );
        let evil = Reading::parse(
            "a/1/Name\u{202e}\n",
            r#"{"value": "\u001b[2J\u202e\n\u009b"}"#.as_bytes(),
        );
        for (form, line) in [
            (Form::Text, r"a/1/Name\u{202e}\n  \u{1b}[2J\u{202e}\n\u{9b}"),
            (
                Form::Json,
                r#"{"topic":"a/1/Name\u202e\n","value":"\u001b[2J\u202e\n\u009b"}"#,
            ),
        ] {
            let text = printed(form, false, |screen| screen.show(&evil).unwrap());
            assert_eq!(text, format!("{line}\n"));
        }
        let evil = Reading::parse("a/1/Name", br#"{"value": "\u001b[2J"}"#);
        for form in [Form::Raw, Form::Json] {
            let text = printed(form, true, |screen| screen.show(&evil).unwrap());
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
        // For a program a text is what it is.
        let raw = printed(Form::Raw, false, |screen| screen.show(&evil).unwrap());
        assert_eq!(raw, "\u{1b}[2J\n");
    }

    #[test]
    fn a_table_has_straight_columns() {
        let rows = [
            ["tank".to_owned(), "Süßwasser".to_owned(), "7".to_owned()],
            ["battery".to_owned(), "-".to_owned(), "1234".to_owned()],
        ];
        let table = printed(Form::Text, false, |screen| {
            screen.table(["TYPE", "NAME", "TOPICS"], &rows).unwrap();
        });
        assert_eq!(
            table,
            "TYPE     NAME       TOPICS\n\
             tank     Süßwasser       7\n\
             battery  -            1234\n"
        );
    }
}
