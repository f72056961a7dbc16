//! What a check has found, and how it is printed: one line each, for people or as JSON.

use std::io::Write;

use crate::error::{one_line, unless_unread};
use crate::model::outside;
use crate::tools::ToolError;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Fine,
    /// It may be meant so, or could not be found out.
    Note,
    /// It is wrong.
    Fault,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked, in a word.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn fine(check: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Fine,
            says: says.into(),
            remedy: String::new(),
        }
    }

    /// Not wrong, but to be known.
    pub fn note(
        check: &'static str,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            verdict: Verdict::Note,
            says: says.into(),
            remedy: remedy.into(),
        }
    }

    /// Wrong.
    pub fn fault(
        check: &'static str,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            verdict: Verdict::Fault,
            says: says.into(),
            remedy: remedy.into(),
        }
    }
}

/// Prints findings as they come, and counts them.
pub struct Report<W> {
    to: W,
    json: bool,
    colours: bool,
    checks: usize,
    faults: usize,
}

impl<W: Write> Report<W> {
    /// Prints to `to`.
    pub fn new(to: W, json: bool, colours: bool) -> Report<W> {
        Report {
            to,
            json,
            colours,
            checks: 0,
            faults: 0,
        }
    }

    /// Prints a finding.
    pub fn add(&mut self, finding: &Finding) -> Result<(), ToolError> {
        self.checks += 1;
        self.faults += usize::from(finding.verdict == Verdict::Fault);
        let line = if self.json {
            json(finding)
        } else {
            text(finding, self.colours)
        };
        let written = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
        unless_unread(written).map_err(ToolError::Output)
    }

    /// What comes of it all.
    pub fn finish(self) -> Result<(), ToolError> {
        let Report { checks, faults, .. } = self;
        match faults {
            0 => Ok(()),
            _ => Err(ToolError::Faults { faults, checks }),
        }
    }
}

fn text(finding: &Finding, colours: bool) -> String {
    let (word, colour) = match finding.verdict {
        Verdict::Fine => ("ok", "32"),
        Verdict::Note => ("note", "33"),
        Verdict::Fault => ("FAULT", "31"),
    };
    let (on, off) = if colours {
        (format!("\u{1b}[{colour}m"), "\u{1b}[0m")
    } else {
        (String::new(), "")
    };
    let arrow = if finding.remedy.is_empty() {
        ""
    } else {
        " -> "
    };
    let Finding {
        check,
        says,
        remedy,
        ..
    } = finding;
    // What others said of themselves must not paint the screen.
    let rest = one_line(&format!("{says}{arrow}{remedy}"));
    format!("{on}{word:5}{off}  {check:9}  {rest}")
}

fn json(finding: &Finding) -> String {
    let status = match finding.verdict {
        Verdict::Fine => "ok",
        Verdict::Note => "note",
        Verdict::Fault => "fault",
    };
    let object = serde_json::json!({
        "check": finding.check,
        "status": status,
        "says": finding.says,
        "do": finding.remedy,
    });
    outside::json(&object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(finding: &Finding, json: bool, colours: bool) -> (String, Result<(), String>) {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, json, colours);
        report.add(finding).unwrap();
        let end = report.finish().map_err(|error| error.to_string());
        (String::from_utf8(text).unwrap(), end)
    }

    #[test]
    fn a_finding_is_one_line() {
        let (text, end) = print(&Finding::fine("bus", "7 services"), false, false);
        assert_eq!(text, "ok     bus        7 services\n");
        assert_eq!(end, Ok(()));
        let fault = || Finding::fault("broker", "it\nsays \u{1b}[1mno", "ask");
        let (text, end) = print(&fault(), false, false);
        assert_eq!(text, "FAULT  broker     it\\nsays \\u{1b}[1mno -> ask\n");
        assert_eq!(end, Err("1 of 1 checks found a fault".to_owned()));
        let (text, _) = print(&fault(), false, true);
        assert!(
            text.starts_with("\u{1b}[31mFAULT\u{1b}[0m  broker"),
            "{text}"
        );
        let (text, end) = print(&Finding::note("bus", "none", "wait"), true, false);
        let expected = r#"{"check":"bus","status":"note","says":"none","do":"wait"}"#;
        assert_eq!(text, format!("{expected}\n"));
        assert_eq!(end, Ok(()));
    }
}
