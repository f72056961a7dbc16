//! What was likely meant by a word that is not known.

/// The most similar of the known words; `None` where none is similar enough to be meant.
pub fn closest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let measured = known
        .into_iter()
        .filter_map(|word| Some((distance(given, word)?, word)));
    measured.min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

/// How many letters differ, where that is little enough for a slip; upper and lower case, `-` and `_` are
/// the same.
pub fn distance(given: &str, word: &str) -> Option<usize> {
    if given.len().max(word.len()) > LENGTH_MAX {
        return None;
    }
    let (a, b) = (letters(given), letters(word));
    let slips_max = (a.len().min(b.len()) / 3).clamp(1, 3);
    let far = edits(&a, &b);
    // A word of two letters has too little in common with any other.
    let enough = far == 0 || a.len().min(b.len()) > 2;
    (enough && far <= slips_max).then_some(far)
}

fn letters(text: &str) -> Vec<char> {
    let lower = text.chars().flat_map(char::to_lowercase);
    lower.map(|c| if c == '_' { '-' } else { c }).collect()
}

/// Letters to put in, take out or change; two that are swapped count once.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let change = at(&row, j).saturating_add(usize::from(x != y));
            let put = at(&next, j).saturating_add(1);
            let take = at(&row, j + 1).saturating_add(1);
            let mut least = change.min(put).min(take);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                least = least.min(at(&before, j - 1).saturating_add(1));
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

/// Longer words are not typing errors.
const LENGTH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_likely_meant() {
        let known = ["battery", "solarcharger", "vebus", "keep-alive", "ac"];
        let check = |given: &str, meant: Option<&str>| {
            assert_eq!(closest(given, known), meant, "{given}");
        };
        check("batery", Some("battery"));
        check("Battery", Some("battery"));
        check("bettary", Some("battery"));
        check("vbeus", Some("vebus"));
        check("keepalive", Some("keep-alive"));
        check("keep_alive", Some("keep-alive"));
        check("solar", None);
        check("tank", None);
        check("a", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}
