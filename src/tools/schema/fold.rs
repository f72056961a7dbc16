//! Families, put together again: the tables have a row for each member of `/Ac/L{1..3}/Power`, and
//! people want to read one.

use std::collections::BTreeMap;
use std::fmt;

use crate::schema::{Known, Rule};

/// Rows that say the same of neighbouring paths, as one.
#[derive(Debug, PartialEq)]
pub struct Family<'s> {
    /// As a schema file writes it.
    pub path: String,
    /// How many paths or patterns it stands for.
    pub rows: usize,
    /// What is known of each.
    pub rule: &'s Rule,
    /// What each is, in a few words.
    pub description: &'s str,
}

/// Puts rows together where they say the same and their paths differ by a number or a letter
/// that runs without a gap.
pub fn fold<'s>(rows: &BTreeMap<String, Known<'s>>) -> Vec<Family<'s>> {
    // Rows with one rule share it, so that its address tells it; the order is that of the paths.
    let mut groups: Vec<(Known<'s>, Vec<Path>)> = Vec::new();
    for (path, row) in rows {
        let path = Path::parse(path);
        match groups.iter_mut().find(|(known, _)| {
            std::ptr::eq(known.rule, row.rule) && known.description == row.description
        }) {
            Some((_, paths)) => paths.push(path),
            None => groups.push((*row, vec![path])),
        }
    }
    let mut families: Vec<_> = groups
        .into_iter()
        .flat_map(|(known, paths)| join(paths).into_iter().map(move |path| (path, known)))
        .collect();
    families.sort_by_cached_key(|(path, _)| path.order());
    let family = |(path, known): (Path, Known<'s>)| Family {
        path: path.to_string(),
        rows: path.0.iter().map(Part::members).product(),
        rule: known.rule,
        description: known.description,
    };
    families.into_iter().map(family).collect()
}

/// Joins what runs without a gap, place by place.
fn join(mut paths: Vec<Path>) -> Vec<Path> {
    let longest = paths.iter().map(|path| path.0.len()).max().unwrap_or(0);
    for place in 0..longest {
        paths.sort_by_cached_key(|path| (path.without(place), path.0.get(place).cloned()));
        let mut joined: Vec<Path> = Vec::with_capacity(paths.len());
        for path in paths {
            let same = joined
                .last_mut()
                .filter(|last| last.without(place) == path.without(place));
            let parts = same.and_then(|last| Some((last.0.get_mut(place)?, path.0.get(place)?)));
            if !parts.is_some_and(|(last, next)| last.extend(next)) {
                joined.push(path);
            }
        }
        paths = joined;
    }
    paths
}

/// A path in parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Path(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Letters(char, char),
    Numbers(u32, u32),
    Text(String),
}

impl Path {
    fn parse(path: &str) -> Path {
        let mut parts = Vec::new();
        for segment in path.split_inclusive('/') {
            let bare = segment.trim_end_matches('/');
            let mut letters = bare.chars();
            if let (Some(letter @ 'A'..='Z'), None) = (letters.next(), letters.next()) {
                parts.push(Part::Letters(letter, letter));
                parts.push(Part::Text(segment.split_at(bare.len()).1.to_owned()));
                continue;
            }
            let mut rest = segment;
            while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
                let (text, tail) = rest.split_at(start);
                let end = tail
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(tail.len());
                let (digits, tail) = tail.split_at(end);
                parts.push(Part::Text(text.to_owned()));
                let number = digits.parse().ok();
                // What is not a plain number stays a text.
                parts.push(
                    match number.filter(|number: &u32| number.to_string() == digits) {
                        Some(number) => Part::Numbers(number, number),
                        None => Part::Text(digits.to_owned()),
                    },
                );
                rest = tail;
            }
            parts.push(Part::Text(rest.to_owned()));
        }
        Path(parts)
    }

    /// What people sort by: numbers by size, everything else as text.
    fn order(&self) -> Vec<(u32, String)> {
        let part = |part: &Part| match part {
            Part::Text(text) => (u32::MAX, text.clone()),
            Part::Letters(letter, _) => (u32::MAX, letter.to_string()),
            Part::Numbers(from, _) => (*from, String::new()),
        };
        self.0.iter().map(part).collect()
    }

    /// All but one part, to compare by.
    fn without(&self, place: usize) -> Vec<Part> {
        let mut parts = self.0.clone();
        if let Some(Part::Letters(..) | Part::Numbers(..)) = parts.get(place) {
            parts.remove(place);
            parts.push(Part::Text("\0".to_owned()));
        }
        parts
    }
}

impl Part {
    /// Takes the next in, where it follows without a gap.
    fn extend(&mut self, next: &Part) -> bool {
        match (self, next) {
            (Part::Numbers(_, last), Part::Numbers(from, to))
                if last.checked_add(1) == Some(*from) =>
            {
                *last = *to;
                true
            }
            (Part::Letters(_, last), Part::Letters(from, to))
                if u32::from(*last) + 1 == u32::from(*from) =>
            {
                *last = *to;
                true
            }
            _ => false,
        }
    }

    fn members(&self) -> usize {
        let count = match self {
            Part::Text(_) => 1,
            Part::Letters(from, to) => u32::from(*to) - u32::from(*from) + 1,
            Part::Numbers(from, to) => to - from + 1,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Letters(from, to) if from == to => write!(f, "{from}")?,
                Part::Letters(from, to) => write!(f, "{{{from}..{to}}}")?,
                Part::Numbers(from, to) if from == to => write!(f, "{from}")?,
                Part::Numbers(from, to) => write!(f, "{{{from}..{to}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], expected: &[&str]) {
        static RULE: Rule = Rule::DEFAULT;
        let row = Known {
            rule: &RULE,
            description: "a word",
            name: "",
        };
        let rows = paths.iter().map(|path| ((*path).to_owned(), row));
        let families = fold(&rows.collect());
        let found: Vec<_> = families.iter().map(|family| &*family.path).collect();
        assert_eq!(found, expected);
        let rows: usize = families.iter().map(|family| family.rows).sum();
        assert_eq!(rows, paths.len());
    }

    #[test]
    fn what_runs_without_a_gap_is_a_family() {
        check(
            &["/Ac/L1/Power", "/Ac/L2/Power", "/Ac/L3/Power"],
            &["/Ac/L{1..3}/Power"],
        );
        check(&["/A/1/B", "/A/3/B"], &["/A/1/B", "/A/3/B"]);
        check(
            &["/X/0/P/1", "/X/0/P/2", "/X/1/P/1", "/X/1/P/2"],
            &["/X/{0..1}/P/{1..2}"],
        );
        check(
            &["/X/A/Status", "/X/B/Status", "/X/D/Status"],
            &["/X/{A..B}/Status", "/X/D/Status"],
        );
        check(&["/X/A", "/X/B"], &["/X/{A..B}"]);
        check(&["/X9", "/X10", "/X/{n}"], &["/X{9..10}", "/X/{n}"]);
        check(&["/X01", "/X02"], &["/X01", "/X02"]);
    }

    #[test]
    fn only_rows_with_the_same_rule_and_words_are_one() {
        let (one, other) = (Rule::DEFAULT, Rule::DEFAULT);
        let fold_two = |first: (&Rule, &str), second: (&Rule, &str)| {
            let row = |(rule, description)| Known {
                rule,
                description,
                name: "",
            };
            let rows = [("/A1", row(first)), ("/A2", row(second))];
            fold(&rows.map(|(path, row)| (path.to_owned(), row)).into()).len()
        };
        assert_eq!(fold_two((&one, ""), (&one, "")), 1);
        assert_eq!(fold_two((&one, ""), (&other, "")), 2);
        assert_eq!(fold_two((&one, "left"), (&one, "right")), 2);
    }
}
