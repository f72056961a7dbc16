//! What an entity is called where its row has no name: its path in words.

use super::words::Words;

/// The longest name, serial number or version, in characters.
const CUT_CHARS_MAX: usize = 100;

/// The path in words: `/Ac/ActiveIn/L1/P` with unit W is "AC active in L1 power".
pub fn of_path(path: &str, unit: &str, words: &Words) -> String {
    let mut name = String::new();
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let noun = words.unit(unit, path).and_then(|unit| unit.noun.as_deref());
        if parts.peek().is_none() && part.chars().count() == 1 && !name.is_empty() {
            push(&mut name, noun.unwrap_or(part));
        } else {
            for word in split(part) {
                match words.name.spelling.get(word) {
                    Some(spelling) => push(&mut name, spelling),
                    // L1, PM25: as it stands. Else the first word has its capital.
                    None if name.is_empty() || !word.chars().any(char::is_lowercase) => {
                        push(&mut name, word);
                    }
                    None => push(&mut name, &word.to_lowercase()),
                }
            }
        }
    }
    cut(&capital(&name))
}

/// The beginning of a text of a device's own making, where it is long: Home Assistant shows one line,
/// and a longer text would take the room of the entities.
pub fn cut(text: &str) -> String {
    text.chars().take(CUT_CHARS_MAX).collect()
}

/// With a capital at the start.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn push(name: &mut String, word: &str) {
    if !name.is_empty() {
        name.push(' ');
    }
    name.push_str(word);
}

/// The words of a part of a path: `AcIn1ToAcOut` is Ac, In, 1, To, Ac, Out.
fn split(part: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut before) = (0, None);
    for (at, c) in part.char_indices() {
        let cut = before.is_some_and(|before: char| {
            let hump = c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
            let number = c.is_ascii_digit() && before.is_lowercase();
            hump || number || !c.is_alphanumeric() || !before.is_alphanumeric()
        });
        if cut {
            words.push(part.get(start..at).unwrap_or_default());
            start = at;
        }
        before = Some(c);
    }
    words.push(part.get(start..).unwrap_or_default());
    words.retain(|word| word.starts_with(char::is_alphanumeric));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_words() {
        let words = Words::built_in().unwrap();
        let check = |path, unit, expected: &str| {
            assert_eq!(of_path(path, unit, &words), expected, "{path}");
        };
        check("/Dc/0/Voltage", "V", "DC 0 voltage");
        check("/Ac/ActiveIn/L1/P", "W", "AC active in L1 power");
        check("/Ac/Out/L2/S", "VA", "AC out L2 apparent power");
        check("/Energy/AcIn1ToAcOut", "kWh", "Energy AC in 1 to AC out");
        check("/Voltages/Cell16", "V", "Voltages cell 16");
        check("/TimeToGo", "s", "Time to go");
        check("/PM25", "µg/m³", "PM25");
        check(
            "/SwitchableOutput/pwm_1/State",
            "",
            "Switchable output pwm 1 state",
        );
        let long = format!("/{}", "Aé".repeat(200));
        assert_eq!(of_path(&long, "", &words).chars().count(), 100);
        check("/P", "W", "P");
        check("", "", "");
    }
}
