//! What the schema compiler and the lookup must agree on: the hash that places a row in the table,
//! and the marks that stand for the open places of a family.
//!
//! `build/compile.rs` includes this file by path, so it imports nothing of the crate. Neighbours:
//! `build/emit.rs` writes the tables, `built_in.rs` reads them.

/// Stands for `{n}` in a pattern: one or more digits.
pub(super) const NUMBER: char = '\u{1}';

/// Stands for a named place in a pattern: any text of at least one byte without `/`.
pub(super) const TEXT: char = '\u{2}';

/// The name under which the tables have the rows of every service type, after `_default.toml`.
pub(super) const EVERY_TYPE: &str = "_default";

/// The path of a slot in which there is no row.
pub(super) const EMPTY: u16 = u16::MAX;

/// Where the search for a row begins, and the mark of its slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    /// A slot below the number of homes.
    pub(super) slot: usize,
    /// Differs for most other rows, so that few of them have to be compared as text.
    pub(super) tag: u8,
}

/// The home of a row. The same on every machine, since the table is made on another one.
#[allow(
    clippy::cast_possible_truncation,
    reason = "32 bits times a usize, shifted back by 32 bits, is below that usize; the tag is a byte"
)]
pub(super) fn home(service_type: &str, path: &str, homes: usize) -> Home {
    let hash = fold(fold(0, service_type), path);
    Home {
        slot: (((hash >> 32) * homes as u64) >> 32) as usize,
        tag: hash as u8,
    }
}

/// The mark of a path by its last segment, so that few patterns have to be compared as text.
#[allow(clippy::cast_possible_truncation, reason = "a byte is wanted")]
pub(super) fn ending(path: &str) -> u8 {
    fold(0, path.rsplit('/').next().unwrap_or(path)) as u8
}

/// Folds a text into a hash, eight bytes at a time.
fn fold(seed: u64, text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let state = words
        .iter()
        .fold(seed, |state, word| mix(state ^ u64::from_le_bytes(*word)));
    mix(state ^ u64::from_le_bytes(last) ^ ((text.len() as u64) << 56))
}

/// Spreads every bit of a word over the others.
fn mix(word: u64) -> u64 {
    let product = (word ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    product ^ (product >> 32)
}

/// Whether a path has open places.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains([NUMBER, TEXT])
}

/// A path or pattern as people write it.
pub(super) fn readable(path: &str) -> String {
    path.replace(NUMBER, "{n}").replace(TEXT, "{name}")
}

/// Whether a path is one of those that a pattern stands for.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// The name of an entity that goes by the name of its device.
pub(super) const DEVICE: &str = "{device}";

/// What stands in the open places of a pattern, in a path that it matches.
pub(super) fn places<'p>(pattern: &str, path: &'p str) -> Vec<&'p str> {
    let segments = pattern.split('/').zip(path.split('/'));
    let open = segments.filter_map(|(pattern, segment)| {
        let (before, after) = pattern.split_once([NUMBER, TEXT])?;
        segment.strip_prefix(before)?.strip_suffix(after)
    });
    open.collect()
}

/// A name with what stands in the places of its row: `{1}` is the first of them, `{1+1}` one more
/// than the number there. `given` says by what a place is replaced; the first place that has nothing
/// is the error.
pub(super) fn fill(name: &str, given: impl Fn(usize) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, tail)) = rest.split_once('{') {
        out.push_str(before);
        let (place, after) = tail.split_once('}').ok_or_else(|| tail.to_owned())?;
        if name == DEVICE {
            return Ok(name.to_owned());
        }
        let (number, more) = match place.split_once('+') {
            Some((number, "1")) => (number, true),
            Some(_) => return Err(place.to_owned()),
            None => (place, false),
        };
        let text = number.parse().ok().and_then(&given);
        let text = text.ok_or_else(|| place.to_owned())?;
        match text.parse::<u64>() {
            _ if text.starts_with('{') && more => {
                out.push_str(text.trim_end_matches('}'));
                out.push_str("+1}");
            }
            Ok(number) if more => out.push_str(&number.saturating_add(1).to_string()),
            Ok(_) | Err(_) => out.push_str(&text),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    let Some((before, after)) = pattern.split_once([NUMBER, TEXT]) else {
        return pattern == segment;
    };
    let inner = segment
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    let any = pattern.contains(TEXT);
    inner.is_some_and(|text| {
        !text.is_empty() && (any || text.bytes().all(|byte| byte.is_ascii_digit()))
    })
}
