//! The grammar of schema paths: literal text, closed families that are expanded here, and open ones
//! that are matched when an item turns up.
//!
//! Owns the meaning of braces. Neighbour: `layout.rs` above has the marks for open places.

use super::super::layout::{NUMBER, TEXT, fill};
use super::error::Mistake;

/// How many rows one family may stand for.
pub(crate) const EXPANDED_MAX: usize = 1_000;

/// How many rows all files together may stand for: what the built-in tables can hold.
pub(crate) const PATHS_MAX: usize = 65_535;

/// How long a path may be; no longer one is published.
const PATH_BYTES_MAX: usize = 1_024;

/// A family stands for more than [`EXPANDED_MAX`] rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TooManyRows;

/// A path as a row declares it, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// One of the paths that a row stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expanded {
    pub(crate) path: String,
    /// What stands in the places of the family; `{1}` in the first that is open, and so on.
    pub(crate) places: Vec<String>,
}

impl Expanded {
    /// A name of the row for this path; the place that it has not is the error.
    pub(crate) fn name(&self, name: &str) -> Result<String, String> {
        let given = |place: usize| self.places.get(place.checked_sub(1)?).cloned();
        fill(name, given)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    /// `{1..3}`: each of these.
    Closed(Vec<String>),
    /// `{n}` or `{name}`: the mark for it.
    Open(char),
}

impl Template {
    /// Parses the path of a row.
    pub(crate) fn parse(path: &str) -> Result<Self, Mistake> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Mistake::PathLength {
                found: path.len(),
                max: PATH_BYTES_MAX,
            });
        }
        let Some(body) = path.strip_prefix('/') else {
            return Err(Mistake::PathStart {
                path: path.to_owned(),
            });
        };
        let mut parts = vec![];
        for segment in body.split('/') {
            parts.push(Part::Literal("/".to_owned()));
            if segment.is_empty() {
                return Err(Mistake::PathSegment {
                    path: path.to_owned(),
                });
            }
            let before = parts.len();
            parse_segment(path, segment, &mut parts)?;
            let open = parts
                .iter()
                .skip(before)
                .filter(|part| matches!(part, Part::Open(_)));
            if open.count() > 1 {
                return Err(Mistake::FamilyOpen {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self { parts })
    }

    /// Whether some place is open, so that the row is a pattern.
    pub(crate) fn is_pattern(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Open(_)))
    }

    /// Whether the row stands for more than one path.
    pub(crate) fn is_family(&self) -> bool {
        self.parts
            .iter()
            .any(|part| !matches!(part, Part::Literal(_)))
    }

    /// Every path that the row stands for, with marks in place of what is open.
    pub(crate) fn expand(&self) -> Result<Vec<Expanded>, TooManyRows> {
        let mut paths = vec![Expanded::default()];
        let mut open = 0;
        for part in &self.parts {
            match part {
                Part::Literal(text) => paths.iter_mut().for_each(|path| path.path.push_str(text)),
                Part::Open(mark) => {
                    open += 1;
                    for path in &mut paths {
                        path.path.push(*mark);
                        path.places.push(format!("{{{open}}}"));
                    }
                }
                Part::Closed(members) => {
                    if paths.len() * members.len() > EXPANDED_MAX {
                        return Err(TooManyRows);
                    }
                    let with = |path: &Expanded, member: &String| {
                        let mut path = path.clone();
                        path.path.push_str(member);
                        path.places.push(member.clone());
                        path
                    };
                    paths = paths
                        .iter()
                        .flat_map(|path| members.iter().map(move |member| with(path, member)))
                        .collect();
                }
            }
        }
        Ok(paths)
    }
}

/// The order in which patterns are tried: at the first segment that differs, literal text goes
/// before a number and a number before any text. Longer literals go first, so that `/A/Bc{n}` is
/// not taken for `/A/B{name}`.
pub(crate) fn specificity(pattern: &str) -> Vec<(u8, usize)> {
    let rank = |segment: &str| {
        let class = u8::from(segment.contains(NUMBER)) + 2 * u8::from(segment.contains(TEXT));
        (class, usize::MAX - segment.len())
    };
    pattern.split('/').map(rank).collect()
}

fn parse_segment(path: &str, segment: &str, parts: &mut Vec<Part>) -> Result<(), Mistake> {
    let brace = || Mistake::PathBrace {
        path: path.to_owned(),
    };
    let mut rest = segment;
    while !rest.is_empty() {
        let (literal, tail) = match rest.split_once('{') {
            Some((literal, tail)) => (literal, Some(tail)),
            None => (rest, None),
        };
        if literal.contains('}') {
            return Err(brace());
        }
        if let Some(found) = literal
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || *c == '_'))
        {
            return Err(Mistake::PathCharacter { found });
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        let Some(tail) = tail else { break };
        let (place, after) = tail.split_once('}').ok_or_else(brace)?;
        parts.push(parse_place(place)?);
        rest = after;
    }
    Ok(())
}

fn parse_place(place: &str) -> Result<Part, Mistake> {
    if place == "n" {
        return Ok(Part::Open(NUMBER));
    }
    if !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(Part::Open(TEXT));
    }
    let family = || Mistake::Family {
        place: place.to_owned(),
    };
    let order = || Mistake::FamilyOrder {
        place: place.to_owned(),
    };
    let (first, last) = place.split_once("..").ok_or_else(family)?;
    if let (Some(first), Some(last)) = (capital(first), capital(last)) {
        let members: Vec<_> = (first..=last).map(String::from).collect();
        return if members.len() > 1 {
            Ok(Part::Closed(members))
        } else {
            Err(order())
        };
    }
    let (first, last) = (
        number(first).ok_or_else(family)?,
        number(last).ok_or_else(family)?,
    );
    if last <= first {
        return Err(order());
    }
    Ok(Part::Closed(
        (first..=last).map(|member| member.to_string()).collect(),
    ))
}

fn capital(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars
        .next()
        .filter(|c| c.is_ascii_uppercase() && chars.next().is_none())
}

/// A number without sign or leading zeros, small enough that no family runs away.
fn number(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| plain)
}
