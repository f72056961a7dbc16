//! Text from outside, as a person may see it (§5.9): the names, paths, values and error texts that
//! services, clients and brokers choose.
//!
//! A line end in such a text would forge a line of the log, an escape sequence would take over a
//! terminal, and a bidirectional mark would show another text than the one that is there. So the log
//! escapes every line that it writes, and so do all commands: see `logging` and `tools::say`.

use std::fmt::{self, Display, Write};

/// A text from outside. Its `Display` is one line without anything that a terminal obeys. There is no `Debug`: the log
/// would show the fields.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    text: &'a str,
    chars_max: usize,
    folded: bool,
}

impl<'a> Outside<'a> {
    /// All of it, escaped: `\n`, `\u{1b}`.
    pub fn new(text: &'a str) -> Outside<'a> {
        Outside {
            text,
            chars_max: usize::MAX,
            folded: false,
        }
    }

    /// What somebody says of an error: on one line, since tracebacks have many, and not longer than
    /// one should be.
    pub fn error(text: &'a str) -> Outside<'a> {
        Outside {
            text,
            chars_max: ERROR_CHARS_MAX,
            folded: true,
        }
    }

    /// Not more than so many characters, of which the last is `…` where some are left out.
    #[must_use]
    pub fn at_most(self, chars_max: usize) -> Outside<'a> {
        Outside { chars_max, ..self }
    }
}

impl Display for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.chars_max == usize::MAX {
            return Escaping::new(f, usize::MAX).write_str(self.text);
        }
        let mut shown = String::new();
        let mut to = Escaping::new(&mut shown, self.chars_max + 1);
        if self.folded {
            let ends = |letter: char| letter.is_whitespace() || letter.is_control();
            let words = self.text.split(ends).filter(|word| !word.is_empty());
            // No more of them than there is room for, however many there are.
            for (number, word) in words.take(self.chars_max + 1).enumerate() {
                if number > 0 {
                    to.write_char(' ')?;
                }
                to.write_str(word)?;
            }
        } else {
            to.write_str(self.text)?;
        }
        if shown.chars().nth(self.chars_max).is_some() {
            let kept = shown.char_indices().nth(self.chars_max.saturating_sub(1));
            shown.truncate(kept.map_or(0, |(at, _)| at));
            shown.push('…');
        }
        f.write_str(&shown)
    }
}

/// Escapes whatever is written through it, and ends it with `…` where it gets too long.
#[derive(Debug)]
pub struct Escaping<W> {
    to: W,
    /// How many characters there is still room for.
    room: usize,
    full: bool,
}

impl<W: Write> Escaping<W> {
    /// Writes to `to`, and not more than so many characters.
    pub fn new(to: W, chars_max: usize) -> Escaping<W> {
        Escaping {
            to,
            room: chars_max,
            full: false,
        }
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // What needs no escape is written in one piece.
        let mut plain = 0;
        for (at, letter) in text.char_indices() {
            if self.room == 0 {
                let rest = text.get(plain..at).unwrap_or_default();
                self.to.write_str(rest)?;
                if !self.full {
                    self.full = true;
                    self.to.write_char('…')?;
                }
                return Ok(());
            }
            self.room -= 1;
            if !is_plain(letter) {
                self.to.write_str(text.get(plain..at).unwrap_or_default())?;
                write!(self.to, "{}", letter.escape_default())?;
                plain = at + letter.len_utf8();
            }
        }
        self.to.write_str(text.get(plain..).unwrap_or_default())
    }
}

/// JSON, with escapes for what JSON lets stand and a terminal does not: the same document to a program.
/// Without white space between its parts, as we write it.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_plain(letter) {
            out.push(letter);
        } else {
            // Writing to a text cannot fail. None of them is beyond U+FFFF.
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        }
    }
    out
}

/// Whether a character shows itself and does nothing else.
pub fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            // Marks of direction (Unicode, UAX 9), line and paragraph separators.
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// What is said of an error at most.
const ERROR_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// All that nobody may see as it is.
    pub(crate) fn wicked() -> String {
        let ranges = [
            0..=0x1f,
            0x7f..=0x9f,
            0x61c..=0x61c,
            0x200e..=0x200f,
            0x2028..=0x202e,
            0x2066..=0x2069,
        ];
        ranges
            .into_iter()
            .flatten()
            .filter_map(char::from_u32)
            .collect()
    }

    #[test]
    fn s5_9_nothing_of_it_reaches_a_terminal() {
        let shown = Outside::new(&wicked()).to_string();
        assert!(shown.is_ascii() && !shown.contains(|c: char| c.is_ascii_control()));
        assert_eq!(
            Outside::new("a\nb\u{1b}[31m\u{202e}ü°").to_string(),
            r"a\nb\u{1b}[31m\u{202e}ü°"
        );
        // Piece by piece.
        let (mut out, piece) = (String::new(), "\u{9b}y\n");
        write!(Escaping::new(&mut out, 100), "x{piece}z").unwrap();
        assert_eq!(out, r"x\u{9b}y\nz");
    }

    #[test]
    fn s2_2_an_error_text_is_one_short_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Outside::error(text).to_string(), expected, "{text:?}");
        };
        check("", "");
        check("no such path", "no such path");
        check(
            "Traceback (most recent call last):\n  File \"x.py\", line 7\r\n\tValueError\u{85}\u{0}!\n",
            "Traceback (most recent call last): File \"x.py\", line 7 ValueError !",
        );
        check(&"é".repeat(200), &"é".repeat(200));
        check(&"é".repeat(201), &format!("{}…", "é".repeat(199)));
        check(&"ab ".repeat(200), &format!("{}a…", "ab ".repeat(66)));
        check("\u{1b}[2J\u{202e}", r"[2J\u{202e}");
    }

    #[test]
    fn nothing_is_longer_than_it_may_be() {
        assert_eq!(Outside::new("abcd").at_most(4).to_string(), "abcd");
        assert_eq!(Outside::new("abcde").at_most(4).to_string(), "abc…");
        // What an escape needs counts.
        assert_eq!(Outside::new("a\n\nde").at_most(4).to_string(), r"a\n…");
        assert_eq!(
            Outside::error(&"\u{202e}".repeat(300))
                .to_string()
                .chars()
                .count(),
            200
        );
        let mut out = String::new();
        let mut to = Escaping::new(&mut out, 3);
        for _ in 0..3 {
            write!(to, "ab").unwrap();
        }
        assert_eq!(out, "aba…");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({ "name": wicked(), "ü": 1 });
        let shown = json(&document.to_string());
        assert!(shown.chars().all(is_plain), "{shown}");
        let again: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(again, document);
    }
}
